"""What encoding a clip gives."""

from dataclasses import dataclass

from torch import Tensor

from ..nn.pooling import Statistics


@dataclass(frozen=True)
class Encoded:
    """One clip's tokens, on the CPU.

    Attributes:
        s: int64 `(frames of S, codebooks)`.
        p: int64 `(frames of P, codebooks)`.
        samples: of the clip.
        statistics: what the global tokens are made of, of the whole clip; None without a sample.
        s_latent: float32 `(frames of S, dim)`, if asked for.
        p_latent: float32 `(frames of P, dim)`, if asked for.
    """

    s: Tensor
    p: Tensor
    samples: int
    statistics: Statistics | None
    s_latent: Tensor | None = None
    p_latent: Tensor | None = None
