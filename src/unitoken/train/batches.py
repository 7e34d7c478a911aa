"""Crops to padded tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..units import frames_for
from .noise import NoiseBank
from .sampling import Crop
from .store import AudioStore


@dataclass(frozen=True)
class Batch:
    """One step's audio, on the device of the store that it is from.

    Attributes:
        clean: float32 `(batch, samples)`, zero behind the end of a crop; samples a multiple of the hop.
        degraded: the same with noise and rooms, for the encoders' input; `clean` itself without a noise bank.
        mask: float32 `(batch, frames, 1)`, one where a frame holds samples of the crop.
    """

    clean: Tensor
    degraded: Tensor
    mask: Tensor


def samples_of(crops: Sequence[Crop], device: torch.device) -> Tensor:
    """Return int64 `(batch,)`: how many samples each crop has."""
    return torch.tensor([crop.samples for crop in crops]).to(device, non_blocking=True)


def frame_mask(samples: Tensor, frames: int, hop: int) -> Tensor:
    """Return float32 `(batch, frames, 1)`: one where a frame of `hop` samples holds one of the first `samples` of its row."""
    return (torch.arange(frames, device=samples.device) * hop < samples[:, None]).float().unsqueeze(-1)


def collate(audio: AudioStore, crops: Sequence[Crop], hop: int, noise: NoiseBank | None, generator: torch.Generator) -> Batch:
    """Return the crops as one batch, padded to the longest; a generator (CPU) in the same state gives the same noise."""
    frames = frames_for(max(crop.samples for crop in crops), hop)
    clean, samples = audio.crop(crops, frames * hop), samples_of(crops, audio.data.device)
    degraded = noise.degrade(clean, samples, generator) if noise else clean
    return Batch(clean, degraded, frame_mask(samples, frames, hop))
