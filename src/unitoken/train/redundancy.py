"""Keeping words out of P: a small network foretells P from S, and P's encoder learns to be what cannot be foretold.

Predictability minimization (Schmidhuber, Neural Computation 4, 1992). The decoder knows S, so what of P follows from S is said twice, and its bits
are lost to everything else.
"""

import torch
from torch import Tensor, nn

from .quantizers import masked_mean

LEAST = 1e-6  # variance of P below which shares of it mean nothing: all its frames chose one codeword


class Redundancy(nn.Module):
    """Foretells each codeword of P from five neighbouring codewords of S.

    Args:
        dim_s: dimensions of S.
        dim_p: dimensions of P.
        hidden: channels of the network.
    """

    def __init__(self, dim_s: int, dim_p: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(dim_s, hidden, 5, padding=2), nn.GELU(), nn.Conv1d(hidden, hidden, 1), nn.GELU(), nn.Conv1d(hidden, dim_p, 1)
        )

    def forward(self, s: Tensor, p: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return two scalars: the network's error, whose gradient is its own alone, and the redundancy, whose gradient is P's alone.

        Both are shares of P's variance in the batch: the error is 1 for a network that knows nothing but the mean, or less than that, and the
        redundancy is what is missing to 1, at least 0. Without that bound a P that has hardly any variance yet would drown all other gradients.

        Args:
            s: codewords, float32 `(batch, frames, dim_s)`.
            p: codewords of the same frames, float32 `(batch, frames, dim_p)`.
            mask: float32 `(batch, frames, 1)`: one on valid frames.
        """
        offset = p - (p * mask).sum((0, 1)) / mask.sum().clamp_min(1)
        guess = self.net((s * mask).transpose(1, 2)).transpose(1, 2).float()
        fixed = offset.detach()
        error = masked_mean((guess - fixed) ** 2, mask)
        error = error / torch.maximum(error.detach(), masked_mean(fixed**2, mask)).clamp_min(LEAST)
        told = masked_mean((guess.detach() - offset) ** 2, mask) / masked_mean(offset**2, mask).clamp_min(LEAST)
        return error, (1 - told).clamp_min(0)
