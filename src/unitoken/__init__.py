"""unitoken: speech to global, semantic and residual tokens at a low bitrate, and back.

>>> import unitoken
>>> tok = unitoken.Tokenizer.from_pretrained()          # weights inside the package
>>> bundle = tok.encode("talk.wav")                     # doctest: +SKIP
>>> waveform = tok.decode(bundle)                       # doctest: +SKIP
"""

from ._version import __version__
from .audio import load_audio, save_audio
from .config import CodecConfig
from .errors import UnitokenError
from .hub import available_models
from .tokenizer import Tokenizer
from .tokens import TokenBundle

__all__ = [
    "CodecConfig",
    "TokenBundle",
    "Tokenizer",
    "UnitokenError",
    "__version__",
    "available_models",
    "load_audio",
    "save_audio",
]
