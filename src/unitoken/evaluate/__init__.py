"""Measure speech codecs on the clips of a manifest (extra `[evaluate]`).

`evaluate` sends each clip through each codec and returns a `Report`: bitrate, STOI, PESQ, mel distance, pitch, words kept, use of the
codebooks and speed, as Markdown and JSON. What cannot be measured on a clip is left out and counted.
"""

from .codecs import Codec, Codec2, Original, Roundtrip, TokenizerCodec
from .speakers import SpeakerEmbedder
from .summary import Report, Row
from .table import evaluate
from .words import Transcriber, WhisperTranscriber, load_whisper, normalise

__all__ = [
    "Codec",
    "Codec2",
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
