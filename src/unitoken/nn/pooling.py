"""Attentive statistics over any number of frames, merged block by block in float64 so that files, batches and streams take one path."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .linear import Linear


@dataclass(frozen=True)
class Statistics:
    """Weighted moments of the frames seen so far, float64 `(batch, channels)` each.

    Attributes:
        weight: sum of the weights.
        mean: weighted mean.
        moment: weighted sum of squared distances to the mean.
    """

    weight: Tensor
    mean: Tensor
    moment: Tensor

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the moments of both sets of frames; to be called in the order of the frames (Chan et al., 1979)."""
        weight = self.weight + other.weight
        safe = torch.where(weight > 0, weight, 1.0)
        delta = other.mean - self.mean
        share = other.weight / safe
        return Statistics(weight, self.mean + delta * share, self.moment + other.moment + delta**2 * self.weight * share)


def merged(parts: Iterable[Statistics | None]) -> Statistics | None:
    """Return the moments of all parts, in their order; None if there is none."""
    whole = None
    for part in parts:
        whole = part if whole is None else whole if part is None else whole.merge(part)
    return whole


class AttentivePooling(nn.Module):
    """Mean and standard deviation over frames under learnt weights (Okabe et al., arXiv 1803.10963).

    The logits are bounded by a tanh, so their exponential needs no maximum over the clip.

    Args:
        channels: channels of a frame.
        hidden: channels of the attention layer.
    """

    BOUND = 4.0

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = Linear(channels, hidden)
        self.logits = Linear(hidden, channels)

    def statistics(self, x: Tensor, mask: Tensor) -> Statistics:
        """Return the moments of one block of frames.

        Args:
            x: float32 `(batch, frames, channels)`.
            mask: float32 `(batch, frames, 1)` of ones and zeros.
        """
        return self.moments(x, self.weights(x) * mask.double())

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights of frames `(batch, frames, channels)`, float64."""
        return torch.exp(self.bounded(x).double())

    @staticmethod
    def moments(x: Tensor, weights: Tensor) -> Statistics:
        """Return the moments of one block of frames under their weights, `(batch, frames, channels)` each."""
        weight = weights.sum(1)
        values = x.double()
        mean = (weights * values).sum(1) / torch.where(weight > 0, weight, 1.0)
        moment = (weights * (values - mean.unsqueeze(1)) ** 2).sum(1)
        return Statistics(weight, mean, moment)

    def bounded(self, x: Tensor) -> Tensor:
        """Return the logarithms of the weights, within `BOUND`, of frames `(batch, frames, channels)`."""
        return self.BOUND * torch.tanh(self.logits(torch.tanh(self.hidden(x))))

    def pooled(self, statistics: Statistics) -> Tensor:
        """Return mean and standard deviation, of the weights' type, `(batch, 2 * channels)`."""
        safe = torch.where(statistics.weight > 0, statistics.weight, 1.0)
        deviation = torch.sqrt(statistics.moment / safe + 1e-6)
        return torch.cat([statistics.mean, deviation], -1).to(self.logits.weight.dtype)
