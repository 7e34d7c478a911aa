"""What a bundle says of the tokenizer that made it: enough to check its tokens, pack them, and refuse those of another; and checks of its fields."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .errors import TokenError
from .units import frames_for

_MAX_INT = 2**63 - 1
_MAX_TEXT = 4096


@dataclass(frozen=True)
class StreamInfo:
    """What a bundle says of one local stream.

    Attributes:
        hop: samples of one frame at the tokenizer's sample rate.
        num_codebooks: tokens of one frame.
        codebook_size: codewords in each codebook; tokens are 0 to `codebook_size - 1`.
    """

    hop: int
    num_codebooks: int
    codebook_size: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("hop", 1), ("num_codebooks", 1), ("codebook_size", 2)):
            check_count(getattr(self, name), name, least)

    def shape(self, num_samples: int) -> tuple[int, ...]:
        """Return the shape of the tokens of `num_samples` samples: `(frames,)` with one codebook, else `(frames, codebooks)`."""
        frames = frames_for(num_samples, self.hop)
        return (frames,) if self.num_codebooks == 1 else (frames, self.num_codebooks)


@dataclass(frozen=True)
class TokenizerInfo:
    """What a bundle says of the tokenizer that made it.

    Attributes:
        name: the model's name, such as `small-4`.
        fingerprint: hash of weights, configuration and format version, in lower-case hex; it decides what may be decoded.
        sample_rate: Hz; `num_samples` and the hops count samples at this rate.
        s: the semantic stream.
        p: the residual stream; one hop divides the other.
        num_g: global codebooks, so tokens in `g`.
        g_size: codewords in each global codebook.
        code_licence: SPDX expression of the code.
        weights_licence: SPDX expression of the weights.
    """

    name: str
    fingerprint: str
    sample_rate: int
    s: StreamInfo
    p: StreamInfo
    num_g: int
    g_size: int
    code_licence: str
    weights_licence: str

    def __post_init__(self) -> None:
        """Check that the values can be stored and fit together."""
        for name, least in (("sample_rate", 1), ("num_g", 1), ("g_size", 2)):
            check_count(getattr(self, name), name, least)
        for name in ("name", "fingerprint", "code_licence", "weights_licence"):
            check_text(getattr(self, name), name)
        if not self.fingerprint or set(self.fingerprint) - set("0123456789abcdef"):
            raise TokenError(f"fingerprint must be lower-case hex digits, got {self.fingerprint!r}; take the tokenizer's own")
        if self.hop % self.s.hop or self.hop % self.p.hop:
            raise TokenError(f"the hops of S and P must divide each other, got {self.s.hop} and {self.p.hop}; change one of them")

    @property
    def hop(self) -> int:
        """Samples of one coarse frame, the longer of the two hops."""
        return max(self.s.hop, self.p.hop)

    @property
    def sizes(self) -> dict[str, int]:
        """Codewords in each codebook of `g`, `s` and `p`, in the file's order."""
        return {"g": self.g_size, "s": self.s.codebook_size, "p": self.p.codebook_size}

    def shapes(self, num_samples: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tokens of `num_samples` samples, in the file's order."""
        return {"g": (self.num_g,), "s": self.s.shape(num_samples), "p": self.p.shape(num_samples)}


def check_count(value: object, name: str, least: int = 1) -> None:
    """Raise TokenError unless `value` is an integer from `least` to 2**63 - 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_INT:
        raise TokenError(f"{name} must be an integer from {least} to {_MAX_INT}, got {value!r}")


def check_text(value: object, name: str) -> None:
    """Raise TokenError unless `value` is printable text of at most 4096 characters."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
        raise TokenError(f"{name} must be printable text of at most {_MAX_TEXT} characters, got {value!r:.200}")


def as_integers(name: str, value: object) -> Tensor:
    """Copy a tensor, array or list of integers to an int64 CPU tensor."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise TokenError(f"{name} must hold integers, got {value.dtype}; convert it with .long()")
        return value.detach().to("cpu", torch.int64, copy=True).contiguous()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TokenError(f"{name} must be a tensor, array or list of integers with equally long rows: {error}") from error
    if array.dtype.kind not in "iu" and not (isinstance(value, list | tuple) and array.size == 0):
        raise TokenError(f"{name} must hold integers, got {array.dtype}; convert it with .astype('int64')")
    return torch.from_numpy(array.astype(np.int64, order="C"))
