"""One codebook: which codeword is nearest, and how far a latent is from changing it. In float32, or in float64 if that comes in."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .linear import linear

EQUAL = 1e-13
"""Share of a squared length by which distances in float64 may differ and be equal all the same."""


def full(latent: Tensor) -> Tensor:
    """Return a latent in float32, or as it is in float64."""
    return latent if latent.dtype == torch.float64 else latent.float()


@dataclass(frozen=True)
class KnownBook:
    """A codebook that stays as it is, and what is asked of it again and again.

    Attributes:
        codebook: `(size, dim)`.
        squares: of the codewords' lengths, `(size,)`.
        reach: of each codeword its length and the longest's, added, `(size,)`.
    """

    codebook: Tensor
    squares: Tensor
    reach: Tensor

    @classmethod
    def of(cls, codebook: Tensor) -> "KnownBook":
        """Return what is known of a codebook."""
        lengths = codebook.norm(dim=1)
        return cls(codebook, (codebook**2).sum(1), lengths + lengths.max())


def _scores(latent: Tensor, codebook: Tensor, squares: Tensor) -> Tensor:
    """Return the squared distances of latents `(..., dim)` to all codewords, less the latents' own squares, `(n, size)`."""
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 is the same for every c.
    with torch.autocast(latent.device.type if latent.device.type != "meta" else "cpu", enabled=False):
        return linear(full(latent).reshape(-1, latent.shape[-1]) * -2, codebook, squares)


def nearest(latent: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest codeword, int64 `(...)`; of equally near ones the first, in float32 as far as it can tell.

    Args:
        latent: float32 `(..., dim)`.
        codebook: float32 `(size, dim)`.
    """
    scores = _scores(latent, codebook, (codebook**2).sum(1))
    if scores.dtype != torch.float64:
        return scores.argmin(1).view(latent.shape[:-1])
    # Columns of a product may round differently, and a codeword may stand twice: what is as near as can be told is equally near.
    best, numbers = scores.amin(1, keepdim=True), torch.arange(len(codebook), device=scores.device)
    equal = scores <= best + EQUAL * (latent.reshape(len(scores), -1).square().sum(1, keepdim=True) + best.abs())
    return torch.where(equal, numbers, len(codebook)).amin(1).view(latent.shape[:-1])


def nearest_with_floor(latent: Tensor, book: KnownBook) -> tuple[Tensor, Tensor]:
    """Return `nearest`, and a length that `cell_margin` is not below, `(...)` each: with the two nearest codewords' distances only.

    Of equally near codewords it may be any, and the length is 0. No codeword is farther from the nearest one than the sum of its length and
    the longest codeword's.
    """
    index, gap = _least_two(_scores(latent, book.codebook, book.squares))
    floor = gap / (2 * book.reach[index])
    return index.view(latent.shape[:-1]), floor.view(latent.shape[:-1])


def _least_two(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first index of the least of each row `(n, size)`, and by how much the second least is more, `(n,)` each."""
    # `amin` takes a tenth of the time of `min`, which looks for the index as well.
    groups = math.gcd(scores.shape[1], 64)
    parts = scores.unflatten(1, (groups, -1))
    leasts = parts.amin(2)
    best, part = leasts.min(1, keepdim=True)
    own = parts.gather(1, part.unsqueeze(2).expand(-1, -1, parts.shape[2]))[:, 0]
    at = own.argmin(1, keepdim=True)
    second = torch.minimum(leasts.scatter(1, part, math.inf).amin(1), own.scatter(1, at, math.inf).amin(1))
    return (part * parts.shape[2] + at)[:, 0], second - best[:, 0]


def cell_margin(latent: Tensor, codebook: Tensor, index: Tensor) -> Tensor:
    """Return how far latents `(..., dim)` are from leaving the cell of codeword `index` `(...)`; 0 where that codeword stands twice.

    The border to codeword `k` is a plane, `(d_k^2 - d_index^2) / (2 |c_k - c_index|)` away.
    """
    chosen = index.reshape(-1, 1)
    scores, apart = _scores(latent, codebook, (codebook**2).sum(1)), torch.cdist(codebook[chosen[:, 0]], codebook)
    ways = torch.where(apart > 0, (scores - scores.gather(1, chosen)) / (2 * apart), 0.0)
    return ways.scatter(1, chosen, math.inf).amin(1).view(index.shape)


def length(codebook: Tensor) -> float:
    """Return the root mean square of codewords' lengths."""
    return codebook.square().sum(-1).mean().sqrt().item()
