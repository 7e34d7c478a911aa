"""Four quantizers behind one protocol: latents to tokens and codewords, tokens to codewords; in float32, or in float64 if that comes in.

These are the inference halves; what each needs to learn (averages, restarts, noise, straight-through gradients) is in `train.quantizers`.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import QuantizerConfig
from .codebook import KnownBook, cell_margin, full, length, nearest, nearest_with_floor


class Quantizer(Protocol):
    """Latents to tokens and back."""

    config: QuantizerConfig

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens, int64 `(..., codebooks)`, and their codewords, float32 `(..., dim)`, of a latent `(..., dim)`."""
        ...

    def dequantize(self, tokens: Tensor) -> Tensor:
        """Return the codewords, float32 `(..., dim)`, of tokens `(..., codebooks)`."""
        ...

    def unquantized(self, latent: Tensor) -> Tensor:
        """Return what the codewords of a latent `(..., dim)` stand for, float32 `(..., dim)`: as if there were infinitely many of them."""
        ...

    def codewords(self) -> Tensor:
        """Return every codebook, float32 `(codebooks, codebook_size, dim of one codeword)`."""
        ...

    def margins(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """Return the length (L2) of the shortest move of a latent `(..., dim)` that changes one of its tokens `(..., codebooks)`.

        Returns:
            `(..., codebooks)`, of the latent's type; of several codebooks in a row, each given the tokens before it.
        """
        ...

    def known_books(self) -> list[KnownBook]:
        """Return what `assess` takes, of codebooks as they are now; nothing of those that are no tables."""
        ...

    def assess(self, latent: Tensor, books: Sequence[KnownBook]) -> tuple[Tensor, Tensor]:
        """Return the tokens that `quantize` returns, and what their `margins` are not below, `(..., codebooks)` each; at little more cost."""
        ...

    @property
    def scale(self) -> float:
        """About how long a latent is: what its rounding errors are in proportion to."""
        ...


class VectorQuantizer(nn.Module):
    """One codebook, nearest codeword (van den Oord et al., arXiv 1711.00937).

    Args:
        config: `dim` and `codebook_size`.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.randn(config.codebook_size, config.dim))
        self.codebook: Tensor

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See `Quantizer.quantize`."""
        index = nearest(latent, self.codebook)
        return index.unsqueeze(-1), self.codebook[index]

    def dequantize(self, tokens: Tensor) -> Tensor:
        """See `Quantizer.dequantize`."""
        return self.codebook[tokens[..., 0]]

    def unquantized(self, latent: Tensor) -> Tensor:
        """See `Quantizer.unquantized`: the latent itself."""
        return full(latent)

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook[None]

    def margins(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """See `Quantizer.margins`."""
        return cell_margin(full(latent), self.codebook, tokens[..., 0]).unsqueeze(-1)

    def known_books(self) -> list[KnownBook]:
        """See `Quantizer.known_books`."""
        return [KnownBook.of(self.codebook)]

    def assess(self, latent: Tensor, books: Sequence[KnownBook]) -> tuple[Tensor, Tensor]:
        """See `Quantizer.assess`."""
        index, floor = nearest_with_floor(full(latent), books[0])
        return index.unsqueeze(-1), floor.unsqueeze(-1)

    @property
    def scale(self) -> float:
        """See `Quantizer.scale`: the codewords' length."""
        return length(self.codebook)


class ResidualQuantizer(nn.Module):
    """Codebooks in a row, each coding what the ones before left (Zeghidour et al., arXiv 2107.03312).

    Args:
        config: `dim`, `num_codebooks` and `codebook_size`.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.num_codebooks, config.codebook_size, config.dim)
        self.register_buffer("codebook", torch.randn(sizes) / torch.arange(1, sizes[0] + 1)[:, None, None])
        self.codebook: Tensor

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See `Quantizer.quantize`."""
        rest, tokens = full(latent), list[Tensor]()
        for codebook in self.codebook:
            tokens.append(nearest(rest, codebook))
            rest = rest - codebook[tokens[-1]]
        stacked = torch.stack(tokens, -1)
        return stacked, self.dequantize(stacked)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """See `Quantizer.dequantize`."""
        total = self.codebook[0][tokens[..., 0]]
        for level in range(1, self.config.num_codebooks):
            total = total + self.codebook[level][tokens[..., level]]
        return total

    def unquantized(self, latent: Tensor) -> Tensor:
        """See `Quantizer.unquantized`: the latent itself."""
        return full(latent)

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook

    def margins(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """See `Quantizer.margins`."""
        rest, margins = full(latent), list[Tensor]()
        for level, codebook in enumerate(self.codebook):
            margins.append(cell_margin(rest, codebook, tokens[..., level]))
            rest = rest - codebook[tokens[..., level]]
        return torch.stack(margins, -1)

    def known_books(self) -> list[KnownBook]:
        """See `Quantizer.known_books`."""
        return [KnownBook.of(codebook) for codebook in self.codebook]

    def assess(self, latent: Tensor, books: Sequence[KnownBook]) -> tuple[Tensor, Tensor]:
        """See `Quantizer.assess`."""
        rest, levels = full(latent), list[tuple[Tensor, Tensor]]()
        for book in books:
            levels.append(nearest_with_floor(rest, book))
            rest = rest - book.codebook[levels[-1][0]]
        tokens, floors = zip(*levels, strict=True)
        return torch.stack(tokens, -1), torch.stack(floors, -1)

    @property
    def scale(self) -> float:
        """See `Quantizer.scale`: the length of the first codebook's codewords."""
        return length(self.codebook[0])


class GumbelQuantizer(nn.Module):
    """Independent codebooks on equal groups of the latent's dimensions: the inference half of distance-Gumbel-softmax group VQ.

    The paper's quantizer is described by its review only; this follows the one its authors published with TF-Codec
    (Jiang et al., arXiv 2207.08363): nearest codeword at inference, trained by gradient with noise and rate control.

    Args:
        config: `dim`, `num_codebooks` and `codebook_size`.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.num_codebooks, config.codebook_size, config.dim // config.num_codebooks)
        self.codebook = nn.Parameter(torch.rand(sizes) * 2 - 1)

    def split(self, latent: Tensor) -> Tensor:
        """Return the groups of a latent, float32 `(..., codebooks, dim / codebooks)`."""
        return full(latent).unflatten(-1, (self.config.num_codebooks, -1))

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See `Quantizer.quantize`."""
        groups = self.split(latent)
        tokens = torch.stack([nearest(groups[..., i, :], self.codebook[i]) for i in range(self.config.num_codebooks)], -1)
        return tokens, self.dequantize(tokens)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """See `Quantizer.dequantize`."""
        return torch.cat([self.codebook[i][tokens[..., i]] for i in range(self.config.num_codebooks)], -1)

    def unquantized(self, latent: Tensor) -> Tensor:
        """See `Quantizer.unquantized`: the latent itself."""
        return full(latent)

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook

    def margins(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """See `Quantizer.margins`."""
        groups = self.split(latent)
        return torch.stack([cell_margin(groups[..., i, :], self.codebook[i], tokens[..., i]) for i in range(self.config.num_codebooks)], -1)

    def known_books(self) -> list[KnownBook]:
        """See `Quantizer.known_books`."""
        return [KnownBook.of(codebook) for codebook in self.codebook]

    def assess(self, latent: Tensor, books: Sequence[KnownBook]) -> tuple[Tensor, Tensor]:
        """See `Quantizer.assess`."""
        groups = self.split(latent)
        tokens, floors = zip(*(nearest_with_floor(groups[..., i, :], book) for i, book in enumerate(books)), strict=True)
        return torch.stack(tokens, -1), torch.stack(floors, -1)

    @property
    def scale(self) -> float:
        """See `Quantizer.scale`: the codewords' length, all groups together."""
        return length(self.codebook) * self.config.num_codebooks**0.5


class FiniteScalarQuantizer(nn.Module):
    """Each dimension bounded and rounded to a few levels; a token numbers a codebook's levels (Mentzer et al., arXiv 2309.15505).

    With `L` levels a dimension takes the values `-1, ..., 1` in `L - 1` equal steps. Up to 8 levels, quantizing a codeword gives its token again.

    Args:
        config: `levels` of one codebook and `num_codebooks`.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("place", torch.cat([levels.new_ones(1), levels.cumprod(0)[:-1]]), persistent=False)
        self.levels: Tensor
        self.place: Tensor

    def bound(self, latent: Tensor) -> Tensor:
        """Return the latent in units of levels, float32 `(..., codebooks, len(levels))`, in the open interval `(-0.5, levels - 0.5)`."""
        groups = torch.tanh(full(latent)).unflatten(-1, (self.config.num_codebooks, -1))
        return (groups * (self.levels - 1e-3) + self.levels - 1) / 2

    def unit(self, rounded: Tensor) -> Tensor:
        """Return the values in [-1, 1] of level numbers, `(..., codebooks * len(levels))`."""
        return (rounded * 2 / (self.levels - 1) - 1).flatten(-2)

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See `Quantizer.quantize`."""
        rounded = self.bound(latent).round()
        return (rounded.long() * self.place).sum(-1), self.unit(rounded)

    def dequantize(self, tokens: Tensor) -> Tensor:
        """See `Quantizer.dequantize`."""
        return self.unit((tokens.unsqueeze(-1) // self.place % self.levels).float())

    def unquantized(self, latent: Tensor) -> Tensor:
        """See `Quantizer.unquantized`: bounded but not rounded, within the outermost levels."""
        return self.unit(self.bound(latent)).clamp(-1, 1)

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        every = torch.arange(self.config.codebook_size, device=self.levels.device).unsqueeze(-1)
        one = (every // self.place % self.levels).float() * 2 / (self.levels - 1) - 1
        return one.expand(self.config.num_codebooks, -1, -1)

    def margins(self, latent: Tensor, tokens: Tensor) -> Tensor:
        """See `Quantizer.margins`: the way of one dimension to where it rounds to another level."""
        x = full(latent).unflatten(-1, (self.config.num_codebooks, -1))
        number = tokens.unsqueeze(-1) // self.place % self.levels
        ways = []
        for step, last in ((-0.5, torch.zeros_like(self.levels)), (0.5, self.levels - 1)):
            border = torch.atanh((2 * (number + step) - self.levels + 1).to(x.dtype) / (self.levels - 1e-3))
            ways.append(torch.where(number == last, math.inf, (x - border).abs()))
        return torch.minimum(*ways).amin(-1)

    def known_books(self) -> list[KnownBook]:
        """See `Quantizer.known_books`."""
        return []

    def assess(self, latent: Tensor, books: Sequence[KnownBook]) -> tuple[Tensor, Tensor]:
        """See `Quantizer.assess`: the margins themselves."""
        del books
        tokens = self.quantize(latent)[0]
        return tokens, self.margins(latent, tokens)

    @property
    def scale(self) -> float:
        """See `Quantizer.scale`: what takes a dimension from its middle level to its last."""
        return 1.0


QUANTIZERS = {"vq": VectorQuantizer, "rvq": ResidualQuantizer, "gumbel": GumbelQuantizer, "fsq": FiniteScalarQuantizer}


def build_quantizer(config: QuantizerConfig) -> VectorQuantizer | ResidualQuantizer | GumbelQuantizer | FiniteScalarQuantizer:
    """Return the quantizer that a configuration names."""
    return QUANTIZERS[config.kind](config)
