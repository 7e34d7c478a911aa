"""Crops to padded tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..units import frames_for
from .noise import NoiseBank
from .pool import Pool
from .sampling import Crop


@dataclass(frozen=True)
class Batch:
    """One step's audio.

    Attributes:
        clean: float32 `(batch, samples)`, zero behind the end of a crop; samples a multiple of the hop.
        degraded: the same with noise and rooms, for the encoders' input; `clean` itself without a noise bank.
        mask: float32 `(batch, frames, 1)`, one where a frame holds samples of the crop.
    """

    clean: Tensor
    degraded: Tensor
    mask: Tensor


def collate(pool: Pool, crops: Sequence[Crop], hop: int, noise: NoiseBank | None, seed: tuple[int, int]) -> Batch:
    """Return the crops as one batch, padded to the longest; the same seed gives the same noise."""
    random = np.random.default_rng(seed)
    frames = [frames_for(crop.samples, hop) for crop in crops]
    clean = np.zeros((len(crops), max(frames) * hop), dtype=np.float32)
    degraded = clean.copy() if noise else clean
    mask = np.zeros((len(crops), max(frames), 1), dtype=np.float32)
    for row, crop in enumerate(crops):
        wave = pool.wave(crop.utterance, crop.start, crop.samples)
        clean[row, : len(wave)] = wave
        mask[row, : frames[row]] = 1
        if noise:
            degraded[row, : len(wave)] = noise.degrade(wave, random)
    return Batch(torch.from_numpy(clean), torch.from_numpy(degraded), torch.from_numpy(mask))
