"""Background noise and rooms for the encoders' input, from a tar of clips with a manifest."""

import copy
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import load_audio
from ..errors import TrainError

ROOM = 8000
"""Longest room response in samples: half a second."""


class NoiseBank:
    """Noise clips and room responses in memory.

    Args:
        archive: tar of audio clips; those in folders whose name starts with `rir` are room responses, the others noise.

    Attributes:
        noises: float32 `(samples of all clips,)`, one clip after the other.
        starts: int64 `(clips,)`, first sample of each.
        lengths: int64 `(clips,)`, samples of each.
        rooms: float32 `(rooms, 8000)`: responses that start at their direct sound, of unit energy.

    Raises:
        TrainError: if the archive has no clips.
    """

    def __init__(self, archive: str | os.PathLike[str]) -> None:
        noises, rooms = list[Tensor](), list[Tensor]()
        with tarfile.open(Path(archive)) as tar:
            for member in tar:
                if not member.isfile() or member.name.endswith(".tsv") or (file := tar.extractfile(member)) is None:
                    continue
                wave = load_audio(io.BytesIO(file.read()), sample_rate=16000)[0]
                if "/rir" in f"/{member.name}":
                    rooms.append(_room(wave))
                elif len(wave):
                    noises.append(wave)
        if not noises and not rooms:
            raise TrainError(f"{archive} holds neither noise nor room responses")
        self.noises = torch.cat(noises) if noises else torch.zeros(0)
        self.lengths = torch.tensor([len(noise) for noise in noises], dtype=torch.int64)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.rooms = torch.stack(rooms) if rooms else torch.zeros(0, ROOM)

    def to(self, device: torch.device | str) -> "NoiseBank":
        """Return the bank with its sounds on a device; what is chosen by chance stays on the CPU."""
        moved = copy.copy(self)
        moved.noises, moved.rooms = self.noises.to(device), self.rooms.to(device)
        return moved

    def degrade(self, waves: Tensor, lengths: Tensor, generator: torch.Generator, *, room: float = 0.15, noise: float = 0.35) -> Tensor:
        """Put utterances into random rooms and add random noise of 5 to 30 dB signal-to-noise ratio, each utterance its own way.

        Args:
            waves: float32 `(batch, samples)`, on the bank's device, zero behind the end of each utterance.
            lengths: int64 `(batch,)`, samples of each utterance, on the same device.
            generator: source of the choices (CPU); a GPU makes the same ones.
            room: probability of a room.
            noise: probability of noise.

        Returns:
            float32 `(batch, samples)`, zero behind the end of each utterance.
        """
        in_room, which_room, noisy, which, where, level = torch.rand(6, len(waves), generator=generator, dtype=torch.float64)
        inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
        rows = (in_room < room).nonzero()[:, 0]
        if len(self.rooms) and len(rows):
            chosen = _place((which_room[rows] * len(self.rooms)).long(), waves)
            at = _place(rows, waves)
            waves = waves.index_copy(0, at, _convolve(waves[at], self.rooms[chosen]) * inside[at])
        rows = (noisy < noise).nonzero()[:, 0]
        if len(self.lengths) and len(rows):
            clip = (which[rows] * len(self.lengths)).long()
            turn = (where[rows] * self.lengths[clip]).long()
            ratio = 10 ** (-(5 + 25 * level[rows]) / 20)
            at = _place(rows, waves)
            added = self._tiled(clip, turn, waves.shape[1]) * inside[at]
            power = (value.square().sum(1, keepdim=True) for value in (waves[at], added))
            gain = _place(ratio[:, None].float(), waves) * torch.sqrt(next(power) / (next(power) + 1e-12))
            waves = waves.index_add(0, at, added * gain)
        return waves

    def _tiled(self, clip: Tensor, turn: Tensor, width: int) -> Tensor:
        """Return float32 `(rows, width)`: clips repeated without end, from sample `turn` of each on."""
        start, turn, length = (_place(value[:, None], self.noises) for value in (self.starts[clip], turn, self.lengths[clip]))
        return self.noises[start + (turn + torch.arange(width, device=self.noises.device)) % length]


def _place(value: Tensor, beside: Tensor) -> Tensor:
    return value.to(beside.device, non_blocking=True)


def _room(response: Tensor) -> Tensor:
    """Return a response that starts at its direct sound, of unit energy, half a second long."""
    response = response[int(np.abs(response.numpy()).argmax()) :][:ROOM]
    return F.pad(response / (response.square().sum().sqrt() + 1e-9), (0, ROOM - len(response)))


def _convolve(waves: Tensor, responses: Tensor) -> Tensor:
    size = 1 << (waves.shape[1] + responses.shape[1] - 1).bit_length()
    return torch.fft.irfft(torch.fft.rfft(waves, size) * torch.fft.rfft(responses, size), size)[:, : waves.shape[1]]
