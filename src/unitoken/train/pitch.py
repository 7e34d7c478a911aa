"""Fundamental frequency of a whole pool, tracked once and kept every 20 ms: the target of the decoder's F0."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import TrainError, missing_extra
from ..files import replacing
from ..units import frames_for
from .offsets import frame_offsets
from .pool import Pool
from .store import FrameStore, check_mark, mark

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

HOP = 320
DATA = "f0.f16"


class PitchCache(FrameStore):
    """Natural logarithm of F0 in Hz of every utterance of a pool: float32 `(frames,)`, NaN where there is no voice or no audio.

    Args:
        folder: what `compute_pitch` wrote.
        pool: the pool it was computed on.

    Raises:
        TrainError: if the folder is no pitch cache, or of another pool.
    """

    def __init__(self, folder: str | os.PathLike[str], pool: Pool) -> None:
        path = Path(folder) / DATA
        check_mark(path, pool, "unitoken train pitch")
        offsets, total = frame_offsets(pool, HOP)
        logs = np.fromfile(path, dtype="<f2").astype(np.float32)
        if len(logs) != total:
            raise TrainError(f"{path} is damaged: {len(logs)} frames, the pool has {total}; make it again with: unitoken train pitch")
        super().__init__(torch.from_numpy(np.where(logs > 0, logs, np.nan).astype(np.float32)), offsets, HOP, fill=math.nan)


def track_log_f0(wave: np.ndarray, tracker: "SwiftF0") -> np.ndarray:
    """Return the natural logarithm of F0 in Hz every 20 ms, float64 `(frames,)`, NaN where there is no voice (60 to 500 Hz, confidence above 0.5).

    Args:
        wave: float32 `(samples,)` at 16 kHz.
        tracker: one for many calls.
    """
    result = tracker.detect(np.pad(wave, (0, max(0, 4096 - len(wave)))), 16000, fmin=60, fmax=500)
    f0 = np.where(np.asarray(result.confidence) > 0.5, np.nan_to_num(np.asarray(result.pitch_hz)), 0)
    frames = frames_for(len(wave), HOP)
    # The tracker's frames are 16 ms apart; each of ours takes the nearest to its middle.
    at = np.clip(np.rint((np.arange(frames) * 0.02 + 0.01) / 0.016), 0, max(len(f0) - 1, 0)).astype(int)
    held = f0[at] if len(f0) else np.zeros(frames)
    return np.log(np.where(held > 0, np.maximum(held, 1), np.nan))


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
            log_f0 = track_log_f0(pool.wave(utterance), tracker)
            file.write(np.nan_to_num(log_f0).astype("<f2").tobytes())
    mark(folder / DATA, pool)
