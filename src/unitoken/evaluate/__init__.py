"""Measure speech codecs on the clips of a manifest (extra `[evaluate]`).

`evaluate` sends each clip through each codec and returns a `Report`: bitrate, STOI, PESQ, mel distance, opinion score, voice, pitch,
words kept, use of the codebooks and speed, as Markdown, JSON and CSV. What cannot be measured on a clip is left out and counted.
"""

from .baselines import Codec2, Opus
from .codecs import Codec, Decoded, Original, Roundtrip, TokenizerCodec
from .degraded import Degraded
from .lyra import Lyra
from .mos import Dnsmos
from .speakers import SpeakerEmbedder
from .summary import Report, Row
from .table import evaluate
from .words import Transcriber, WhisperTranscriber, load_whisper, normalise

__all__ = [
    "Codec",
    "Codec2",
    "Decoded",
    "Degraded",
    "Dnsmos",
    "Lyra",
    "Opus",
    "Original",
    "Report",
    "Roundtrip",
    "Row",
    "SpeakerEmbedder",
    "TokenizerCodec",
    "Transcriber",
    "WhisperTranscriber",
    "evaluate",
    "load_whisper",
    "normalise",
]
