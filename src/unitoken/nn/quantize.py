"""Four quantizers behind one protocol: latents to tokens and codewords, tokens to codewords; always in float32.

These are the inference halves; what each needs to learn (averages, restarts, noise, straight-through gradients) is in `train.quantizers`.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import QuantizerConfig


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


def nearest(latent: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest codeword, int64 `(...)`; of equally near ones the first.

    Args:
        latent: float32 `(..., dim)`.
        codebook: float32 `(size, dim)`.
    """
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 is the same for every c.
    with torch.autocast(latent.device.type if latent.device.type != "meta" else "cpu", enabled=False):
        scores = torch.addmm((codebook**2).sum(1), latent.float().reshape(-1, latent.shape[-1]), codebook.T, alpha=-2)
    return scores.argmin(1).view(latent.shape[:-1])


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
        index = nearest(latent.float(), self.codebook)
        return index.unsqueeze(-1), self.codebook[index]

    def dequantize(self, tokens: Tensor) -> Tensor:
        """See `Quantizer.dequantize`."""
        return self.codebook[tokens[..., 0]]

    def unquantized(self, latent: Tensor) -> Tensor:
        """See `Quantizer.unquantized`: the latent itself."""
        return latent.float()

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook[None]


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
        rest, tokens = latent.float(), list[Tensor]()
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
        return latent.float()

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook


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
        return latent.float().unflatten(-1, (self.config.num_codebooks, -1))

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
        return latent.float()

    def codewords(self) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.codebook


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
        groups = torch.tanh(latent.float()).unflatten(-1, (self.config.num_codebooks, -1))
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


QUANTIZERS = {"vq": VectorQuantizer, "rvq": ResidualQuantizer, "gumbel": GumbelQuantizer, "fsq": FiniteScalarQuantizer}


def build_quantizer(config: QuantizerConfig) -> VectorQuantizer | ResidualQuantizer | GumbelQuantizer | FiniteScalarQuantizer:
    """Return the quantizer that a configuration names."""
    return QUANTIZERS[config.kind](config)
