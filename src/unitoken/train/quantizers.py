"""What each quantizer needs to learn: averages and restarts, noise and rate control, gradients that pass straight through."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.codebook import nearest
from ..nn.quantize import FiniteScalarQuantizer, GumbelQuantizer, ResidualQuantizer, VectorQuantizer
from .parallel import from_first, sum_over_ranks


@dataclass(frozen=True)
class Quantized:
    """What quantizing in training gives.

    Attributes:
        codewords: float32 `(batch, frames, dim)`, with gradients to the latent.
        tokens: int64 `(batch, frames, codebooks)`.
        commitment: scalar: how far latents are from their codewords; 0 where the codewords follow gradients.
        entropy: scalar: how many bits the entropy of the codebooks is off its target, summed over them; 0 without rate control.
    """

    codewords: Tensor
    tokens: Tensor
    commitment: Tensor
    entropy: Tensor


def masked_mean(value: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `(batch, frames, dim)` over the frames where `(batch, frames, 1)` is one."""
    return (value * mask).sum() / (mask.sum().clamp_min(1) * value.shape[-1])


class Averages(nn.Module):
    """Moving averages of the latents that chose each codeword of one codebook; codewords hardly chosen start anew at a latent of the batch.

    The update is van den Oord et al.'s (arXiv 1711.00937, appendix A.1), the restart Dhariwal et al.'s (arXiv 2005.00341).

    Args:
        size: codewords.
        dim: of each.
        decay: of the averages, per step.
        restart: a codeword chosen less often than this share of the mean starts anew.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.99, restart: float = 0.1) -> None:
        super().__init__()
        self.decay, self.restart = decay, restart
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.counts: Tensor
        self.sums: Tensor

    @torch.no_grad()
    def update(self, codebook: Tensor, latents: Tensor, index: Tensor) -> None:
        """Move the codewords, in place.

        Args:
            codebook: float32 `(size, dim)`.
            latents: float32 `(n, dim)` of valid frames.
            index: int64 `(n,)`, what each chose.
        """
        size = len(codebook)
        chosen = sum_over_ranks(torch.bincount(index, minlength=size).float())
        totals = sum_over_ranks(torch.zeros_like(self.sums).index_add_(0, index, latents))
        self.counts.lerp_(chosen, 1 - self.decay)
        self.sums.lerp_(totals, 1 - self.decay)
        used = self.counts > 1e-6
        codebook[used] = self.sums[used] / self.counts[used, None]
        mean = self.counts.mean()
        stale = (self.counts < self.restart * mean).nonzero()[:, 0]
        if len(stale) and len(latents):
            most = max(1, int(from_first(torch.tensor(len(latents), device=stale.device))) // 8)
            stale = stale[torch.randperm(len(stale), device=stale.device)[:most]]
            stale = from_first(stale)
            fresh = from_first(latents[torch.randint(len(latents), (len(stale),), device=latents.device)])
            codebook[stale] = fresh
            self.counts[stale] = mean
            self.sums[stale] = fresh * mean


class AveragingTrainer(nn.Module):
    """Trains `VectorQuantizer` and `ResidualQuantizer`: the codebooks follow averages, the latent is pulled to its codeword.

    Args:
        quantizer: what to train.
        commitment: weight of the pull.
    """

    def __init__(self, quantizer: VectorQuantizer | ResidualQuantizer, commitment: float = 0.25) -> None:
        super().__init__()
        self.quantizer, self.commitment = quantizer, commitment
        config = quantizer.config
        self.levels = nn.ModuleList(Averages(config.codebook_size, config.dim) for _ in range(config.num_codebooks))

    def warm_start(self) -> None:
        """Let the averages start from the codebooks as they are, those of a trained codec; from zero, the first steps would draw them anew."""
        for level, codebook in zip(self.levels, self.quantizer.codewords(), strict=True):
            level.get_buffer("counts").fill_(1.0)
            level.get_buffer("sums").copy_(codebook)

    @property
    def perplexity(self) -> Tensor:
        """Perplexity of the averaged use of the first codebook, as a share of its size; a scalar that stays on its device."""
        counts = self.levels[0].get_buffer("counts")
        shares = counts / counts.sum().clamp_min(1e-9)
        return torch.exp(-(shares * torch.log(shares + 1e-12)).sum()) / len(counts)

    def forward(self, latent: Tensor, mask: Tensor) -> Quantized:
        """Quantize with a straight-through gradient; in training mode the codebooks move."""
        latent = latent.float()
        tokens, codewords = self.quantizer.quantize(latent)
        if self.training:
            valid = mask[..., 0] > 0
            rest = latent.detach()[valid]
            books = self.quantizer.codebook if isinstance(self.quantizer, ResidualQuantizer) else self.quantizer.codebook[None]
            for level, averages in enumerate(self.levels):
                index = tokens[valid][:, level]
                before = books[level][index]
                averages.update(books[level], rest, index)  # type: ignore[operator]
                rest = rest - before
        pull = self.commitment * masked_mean((latent - codewords.detach()) ** 2, mask)
        return Quantized(latent + (codewords - latent).detach(), tokens, pull, pull.new_zeros(()))


class RoundingTrainer(nn.Module):
    """Trains encoders before `FiniteScalarQuantizer`: rounding passes gradients straight through; nothing else is learnt."""

    def __init__(self, quantizer: FiniteScalarQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def warm_start(self) -> None:
        """Do nothing: rounding has no state."""

    def forward(self, latent: Tensor, mask: Tensor) -> Quantized:
        """Quantize with a straight-through gradient."""
        bounded = self.quantizer.bound(latent)
        rounded = bounded + (bounded.round() - bounded).detach()
        tokens = (bounded.detach().round().long() * self.quantizer.place).sum(-1)
        return Quantized(self.quantizer.unit(rounded), tokens, *latent.new_zeros(2))


class GumbelTrainer(nn.Module):
    """Trains `GumbelQuantizer`: distance-Gumbel-softmax with rate control, as TF-Codec's authors published it.

    Logits are `-5 |x - c|^2`; the hard sample passes gradients straight through, its temperature falls from 2 to 0.5. Rate control holds the
    entropy `H` of each codebook's mean softmax near a target: its loss is `|H - target|` bits, summed over codebooks.

    Args:
        quantizer: what to train.
        share: target entropy of each codebook, as a share of the most, `log2(codebook_size)`.
        temperature_decay: per step.
    """

    SHARPNESS = 5.0

    def __init__(self, quantizer: GumbelQuantizer, share: float = 0.95, temperature_decay: float = 0.9999) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.bits = share * math.log2(quantizer.config.codebook_size)
        self.temperature_decay = temperature_decay
        self.register_buffer("temperature", torch.tensor(2.0))
        self.temperature: Tensor

    def warm_start(self) -> None:
        """Start at the temperature that a trained codec ended with."""
        self.temperature.fill_(0.5)

    def forward(self, latent: Tensor, mask: Tensor) -> Quantized:
        """Quantize with sampled codewords in training mode, nearest ones else."""
        groups, codebook = self.quantizer.split(latent), self.quantizer.codebook
        if not self.training:
            tokens, codewords = self.quantizer.quantize(latent)
            return Quantized(codewords, tokens, *latent.new_zeros(2))
        crossed = torch.einsum("btgd,gkd->btgk", groups, codebook)
        distance = (groups**2).sum(-1, keepdim=True) - 2 * crossed + (codebook**2).sum(-1)
        logits = -self.SHARPNESS * distance
        sample = F.gumbel_softmax(logits, float(self.temperature), hard=True)
        self.temperature.mul_(self.temperature_decay).clamp_(min=0.5)
        codewords = torch.einsum("btgk,gkd->btgd", sample, codebook).flatten(-2)
        shares = (logits.softmax(-1) * mask.unsqueeze(-1)).sum((0, 1)) / mask.sum().clamp_min(1)
        entropy = -(shares * torch.log2(shares + 1e-9)).sum(-1)
        return Quantized(codewords, sample.argmax(-1), latent.new_zeros(()), (entropy - self.bits).abs().sum())


def build_trainer(quantizer: nn.Module, entropy: float = 0.95) -> AveragingTrainer | RoundingTrainer | GumbelTrainer:
    """Return what trains a quantizer; `entropy` is the target of rate control, see `GumbelTrainer`."""
    if isinstance(quantizer, FiniteScalarQuantizer):
        return RoundingTrainer(quantizer)
    if isinstance(quantizer, GumbelQuantizer):
        return GumbelTrainer(quantizer, entropy)
    if isinstance(quantizer, (VectorQuantizer, ResidualQuantizer)):
        return AveragingTrainer(quantizer)
    raise TypeError(f"no way is known to train a {type(quantizer).__name__}")


@torch.no_grad()
def kmeans(points: Tensor, size: int, *, rounds: int = 20, seed: int = 0) -> Tensor:
    """Return `size` centres of points by Lloyd's algorithm; a centre that loses all its points starts anew at a random one.

    Args:
        points: float32 `(n, dim)`, `n >= size`.
        size: number of centres.
        rounds: passes over the points.
        seed: of the start and the restarts.

    Returns:
        float32 `(size, dim)`.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=generator)[:size].to(points.device)].clone()
    for _ in range(rounds):
        index = torch.cat([nearest(part, centres) for part in points.split(16384)])
        counts = torch.bincount(index, minlength=size).float()
        sums = torch.zeros_like(centres).index_add_(0, index, points)
        centres = sums / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        centres[empty] = points[torch.randint(len(points), (len(empty),), generator=generator).to(points.device)]
    return centres
