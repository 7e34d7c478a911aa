"""Fundamental frequency of a whole pool, tracked once and kept every 20 ms, as the target of the residual stream's pitch head."""

import os
from pathlib import Path

import numpy as np

from ..errors import TrainError, missing_extra
from ..files import replacing
from ..units import frames_for
from .offsets import frame_offsets
from .pool import Pool, Utterance

HOP = 320
DATA = "f0.f16"


class PitchCache:
    """Log-F0 of every utterance of a pool.

    Args:
        folder: what `compute_pitch` wrote.
        pool: the pool it was computed on.

    Raises:
        TrainError: if the folder is no pitch cache, or of another pool.
    """

    def __init__(self, folder: str | os.PathLike[str], pool: Pool) -> None:
        path = Path(folder) / DATA
        if not path.is_file():
            raise TrainError(f"{folder} holds no pitch ({DATA} is missing); make it with: unitoken train pitch")
        self.starts, total = frame_offsets(pool, HOP)
        self.data: np.ndarray[tuple[int], np.dtype[np.float16]] = np.memmap(path, dtype=np.float16, mode="r")
        if len(self.data) != total:
            raise TrainError(f"{folder} has the pitch of {len(self.data)} frames, the pool has {total}; compute it for this pool")

    def get(self, utterance: Utterance, start: int, frames: int) -> np.ndarray:
        """Return float32 `(frames,)`: the natural logarithm of F0 over the utterance's mean of it; NaN where there is no voice or no more audio."""
        first, count = self.starts[utterance.path], frames_for(utterance.samples, HOP)
        whole = self.data[first : first + count].astype(np.float32)
        voiced = whole > 0
        relative = np.where(voiced, whole - (whole[voiced].mean() if voiced.any() else 0), np.nan)
        piece = relative[start : start + frames]
        return np.pad(piece, (0, frames - len(piece)), constant_values=np.nan)


def compute_pitch(pool: Pool, folder: str | os.PathLike[str]) -> None:
    """Track F0 over a pool with swift-f0 (60 to 500 Hz, confidence above one half) and write it as one array.

    Raises:
        MissingDependencyError: without the extra `[train]`.
    """
    try:
        from swift_f0 import SwiftF0
    except ImportError as error:
        raise missing_extra("the pitch of a pool", "train") from error
    tracker = SwiftF0(threads=1)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / DATA) as temporary, temporary.open("wb") as file:
        for utterance in pool.utterances:
            frames = frames_for(utterance.samples, HOP)
            wave = np.pad(pool.wave(utterance), (0, max(0, 4096 - utterance.samples)))
            result = tracker.detect(wave, 16000, fmin=60, fmax=500)
            f0 = np.where(np.asarray(result.confidence) > 0.5, np.nan_to_num(np.asarray(result.pitch_hz)), 0)
            # The tracker's frames are 16 ms apart; each of ours takes the nearest to its middle.
            at = np.clip(np.rint((np.arange(frames) * 0.02 + 0.01) / 0.016), 0, max(len(f0) - 1, 0)).astype(int)
            held = f0[at] if len(f0) else np.zeros(frames)
            file.write(np.where(held > 0, np.log(np.maximum(held, 1)), 0).astype("<f2").tobytes())
