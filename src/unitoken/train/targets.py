"""What the semantic encoder regresses: the teacher's features, z-scored and turned onto their principal axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import replacing
from ..units import frames_for
from .features import FeatureCache
from .pool import Utterance


@dataclass(frozen=True)
class Projection:
    """Teacher features to targets: `(x - mean) / scale @ axes`, of unit mean variance.

    Attributes:
        mean: float32 `(teacher dim,)`.
        scale: float32 `(teacher dim,)`.
        axes: float32 `(teacher dim, dim)`, principal axes of the z-scored features, times one common factor.
        kept: share of the z-scored features' variance that the axes keep.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor
    kept: float

    def __call__(self, features: Tensor) -> Tensor:
        """Return float32 targets `(..., dim)` of features `(..., teacher dim)`."""
        return (features.float() - self.mean) / self.scale @ self.axes

    @classmethod
    def fit(cls, cache: FeatureCache, utterances: Sequence[Utterance], dim: int, *, frames: int = 200_000, seed: int = 0) -> "Projection":
        """Fit to a random sample of the frames of utterances: those for training, so that held-out speakers stay unheard."""
        spans = [(cache.offsets[utterance.path], frames_for(utterance.samples, cache.hop)) for utterance in utterances]
        known = np.concatenate([np.arange(start, start + count) for start, count in spans])
        rows = np.sort(np.random.default_rng(seed).choice(known, min(frames, len(known)), replace=False))
        x = cache.data[torch.from_numpy(rows).to(cache.data.device)].float()
        mean, scale = x.mean(0), x.std(0) + 1e-5
        z = (x - mean) / scale
        variances, vectors = torch.linalg.eigh(z.T @ z / len(z))
        axes, kept = vectors.flip(1)[:, :dim], variances.flip(0)[:dim]
        return cls(mean, scale, axes / (kept.mean() ** 0.5), float(kept.sum() / variances.sum()))

    def to(self, device: torch.device | str) -> "Projection":
        """Return the projection on a device."""
        return Projection(self.mean.to(device), self.scale.to(device), self.axes.to(device), self.kept)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        with replacing(path) as temporary:
            save_file({"mean": self.mean, "scale": self.scale, "axes": self.axes.contiguous(), "kept": torch.tensor(self.kept)}, temporary)

    @classmethod
    def load(cls, path: Path) -> "Projection":
        """Read what `save` wrote."""
        held = load_file(path)
        return cls(held["mean"], held["scale"], held["axes"], float(held["kept"]))
