"""Pitch measures: F0 by swift-f0 (60 to 500 Hz, one value every 16 ms), compared frame by frame."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import AudioError
from .extras import require

F0_MIN_HZ, F0_MAX_HZ, VOICED_CONFIDENCE = 60, 500, 0.5
MIN_VOICED_FRAMES = 10
"""Fewest frames voiced in both (160 ms) for a correlation or a gross pitch error."""
GROSS_ERROR = 0.2


@dataclass(frozen=True)
class PitchScores:
    """How one F0 track follows another.

    Attributes:
        f0_correlation: Pearson correlation of log F0 over the frames voiced in both; None with fewer than `MIN_VOICED_FRAMES`,
            or where one of the tracks does not vary.
        vuv_error: share of all frames that are voiced in one track only; None without frames.
        gross_pitch_error: share of the frames voiced in both whose F0 is off by more than 20 %; None with fewer than `MIN_VOICED_FRAMES`.
    """

    f0_correlation: float | None
    vuv_error: float | None
    gross_pitch_error: float | None


@functools.lru_cache
def load_tracker(threads: int) -> Any:
    """Return the F0 tracker, made once for a number of CPU threads.

    Raises:
        MissingDependencyError: without the extra `[evaluate]`.
    """
    return require("swift_f0", "F0 tracking").SwiftF0(threads=threads, spin=False)


def track_f0(waveform: Tensor, *, threads: int = 1) -> Tensor:
    """Return F0 in Hz, one value every 16 ms, 0 where unvoiced.

    Args:
        waveform: float32 `(samples,)` at 16 kHz.
        threads: CPU threads of the tracker.

    Returns:
        float64 `(frames,)`, `frames = max(1, samples // 256)`, and none for no samples.

    Raises:
        MissingDependencyError: without the extra `[evaluate]`.
    """
    detector = load_tracker(threads)
    if not len(waveform):
        return torch.zeros(0, dtype=torch.float64)
    result = detector.detect(waveform.numpy(), 16000, fmin=F0_MIN_HZ, fmax=F0_MAX_HZ)
    f0 = torch.from_numpy(result.pitch_hz).nan_to_num(0)
    return torch.where(torch.from_numpy(result.confidence) >= VOICED_CONFIDENCE, f0, 0)


def compare_f0(reference: Tensor, decoded: Tensor) -> PitchScores:
    """Compare two tracks of `track_f0`.

    Args:
        reference: float `(frames,)`, Hz, 0 where unvoiced.
        decoded: the same.

    Raises:
        AudioError: if the tracks differ in length.
    """
    if reference.shape != decoded.shape:
        raise AudioError(f"F0 tracks of {len(reference)} and {len(decoded)} frames cannot be compared; track waveforms of equal length")
    if not len(reference):
        return PitchScores(None, None, None)
    both = (reference > 0) & (decoded > 0)
    vuv_error = float(((reference > 0) != (decoded > 0)).double().mean())
    a, b = reference[both].double(), decoded[both].double()
    if len(a) < MIN_VOICED_FRAMES:
        return PitchScores(None, vuv_error, None)
    gross = float(((b / a - 1).abs() > GROSS_ERROR).double().mean())
    return PitchScores(_correlation(a.log(), b.log()), vuv_error, gross)


def _correlation(a: Tensor, b: Tensor) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = float((a.square().sum() * b.square().sum()).sqrt())
    return float(a @ b) / scale if scale > 1e-9 else None
