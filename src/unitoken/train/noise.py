"""Background noise and rooms for the encoders' input, from a tar of clips with a manifest."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np

from ..audio import load_audio
from ..errors import TrainError


class NoiseBank:
    """Noise clips and room responses in memory.

    Args:
        archive: tar of audio clips; those in folders whose name starts with `rir` are room responses, the others noise.

    Raises:
        TrainError: if the archive has no clips.
    """

    def __init__(self, archive: str | os.PathLike[str]) -> None:
        self.noises, self.rooms = list[np.ndarray](), list[np.ndarray]()
        with tarfile.open(Path(archive)) as tar:
            for member in tar:
                if not member.isfile() or member.name.endswith(".tsv") or (file := tar.extractfile(member)) is None:
                    continue
                wave = load_audio(io.BytesIO(file.read()), sample_rate=16000)[0].numpy()
                if "/rir" in f"/{member.name}":
                    self.rooms.append(_room(wave))
                elif len(wave):
                    self.noises.append(wave)
        if not self.noises and not self.rooms:
            raise TrainError(f"{archive} holds neither noise nor room responses")

    def degrade(self, wave: np.ndarray, random: np.random.Generator, *, room: float = 0.15, noise: float = 0.35) -> np.ndarray:
        """Return the utterance in a random room and with random noise of 5 to 30 dB signal-to-noise ratio.

        Args:
            wave: float32 `(samples,)`.
            random: source of the choices.
            room: probability of a room.
            noise: probability of noise.
        """
        if self.rooms and random.random() < room:
            wave = _convolve(wave, self.rooms[random.integers(len(self.rooms))])
        if self.noises and random.random() < noise:
            clip = self.noises[random.integers(len(self.noises))]
            clip = np.resize(np.roll(clip, int(random.integers(len(clip)))), len(wave))
            ratio = 10 ** (-random.uniform(5, 30) / 20)
            power = float(np.mean(wave**2)), float(np.mean(clip**2))
            wave = wave + clip * ratio * np.sqrt(power[0] / (power[1] + 1e-12))
        return wave.astype(np.float32)


def _room(response: np.ndarray) -> np.ndarray:
    """Return a response that starts at its direct sound, of unit energy, half a second long at most."""
    response = response[int(np.abs(response).argmax()) :][:8000]
    return response / (np.sqrt(np.sum(response**2)) + 1e-9)


def _convolve(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    size = 1 << (len(wave) + len(response) - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
