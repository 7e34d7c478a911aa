"""Change of sample rate: one linear-phase filter for each pair of rates, the same bits for any chunking.

Output sample `m` is a sum over a fixed number of input samples in a fixed order, in float64, whatever came in which push. That holds
because every call hands `scipy.signal.upfirdn` the whole context of its outputs and starts on the polyphase grid: at an input sample
whose number is a multiple of `source_rate / gcd(source_rate, target_rate)`.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import AudioError
from .units import resampled_length

MIN_RATE, MAX_RATE = 4000, 384000

_HALF_WIDTH = 36  # of the filter, in samples at the lower of the two rates
_CUTOFF = 0.92  # where the filter is at -6 dB; flat up to 0.84, closed from 1.0 on, all in units of the lower half rate
_BETA = 8.96  # of the Kaiser window: 90 dB
_BLOCK = 1 << 16  # input samples filtered at once


def check_rate(rate: object, name: str = "sample_rate") -> int:
    """Return `rate` as an int if it is a sample rate that can be resampled.

    Args:
        rate: Hz, an integer from 4000 to 384000.
        name: what the error calls it.

    Raises:
        AudioError: if it is not.
    """
    if isinstance(rate, bool) or not isinstance(rate, Integral):
        raise AudioError(f"{name} must be an integer in Hz, got {rate!r} ({type(rate).__name__}); round it or convert it with int()")
    if not MIN_RATE <= int(rate) <= MAX_RATE:
        raise AudioError(f"{name} must be from {MIN_RATE} to {MAX_RATE} Hz, got {int(rate)}; is it in Hz, not kHz?")
    return int(rate)


def resample(waveform: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Change the sample rate of a waveform; no delay, no change of level.

    Frequencies up to 0.84 of the lower half rate pass, those above the lower half rate are at least 80 dB down. Before the first and
    after the last sample the signal counts as 0. Rates without a common divisor cost memory: the filter takes 600 bytes times the larger one.

    Args:
        waveform: floating `(samples,)`; used as float32.
        source_rate: its rate in Hz, 4000 to 384000.
        target_rate: the wanted rate in Hz, 4000 to 384000. At equal rates the waveform is returned as it is.

    Returns:
        float32 `(ceil(samples * target_rate / source_rate),)` on the CPU.

    Raises:
        AudioError: if the waveform is not floating 1-D or a rate is not allowed.
    """
    resampler = Resampler(source_rate, target_rate)
    return torch.cat([resampler.push(waveform), resampler.finish()])


def resample_parts(parts: Iterable[Tensor], source_rate: int, target_rate: int) -> Iterator[Tensor]:
    """Yield the parts of a waveform at another sample rate, each as soon as it is known.

    Args:
        parts: floating `(samples,)` each.
        source_rate: their rate in Hz; at equal rates the parts are passed on, whatever the rate.
        target_rate: the wanted rate in Hz.

    Yields:
        float32 `(samples,)`.

    Raises:
        AudioError: if a part is not floating 1-D or a rate is not allowed.
    """
    if source_rate == target_rate:
        yield from parts
        return
    resampler = Resampler(source_rate, target_rate)
    for part in parts:
        yield resampler.push(part)
    yield resampler.finish()


class Resampler:
    """Change the sample rate of a waveform that arrives in pieces.

    The outputs of all pushes and of `finish`, one after another, are `resample` of the whole waveform, bit for bit. The output lags
    the input by 36 samples at the lower rate (2.25 ms at 16 kHz).

    Args:
        source_rate: Hz of what is pushed, 4000 to 384000.
        target_rate: Hz of what comes back, 4000 to 384000.

    Raises:
        AudioError: if a rate is not allowed.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        """Take the filter for the two rates and start with silence behind the first sample."""
        self.source_rate, self.target_rate = check_rate(source_rate, "source_rate"), check_rate(target_rate, "target_rate")
        common = math.gcd(self.source_rate, self.target_rate)
        self._up, self._down = self.target_rate // common, self.source_rate // common
        self._received = self._given = 0
        self._finished = False
        if not self._is_identity:
            self._filter, self._delay = _design(self._up, self._down)
            self._start = self._context_start()  # number of the input sample that the buffer begins with, on the polyphase grid
            self._buffer = np.zeros(-self._start)

    @property
    def _is_identity(self) -> bool:
        return self._up == self._down

    def push(self, waveform: Tensor) -> Tensor:
        """Take the next samples and return the output samples that they complete.

        Args:
            waveform: floating `(samples,)`, any number of samples, also none; used as float32.

        Returns:
            float32 `(samples,)` on the CPU, possibly empty.

        Raises:
            AudioError: if the waveform is not floating 1-D, or after `finish`.
        """
        if self._finished:
            raise AudioError("this Resampler is finished; make a new one for the next waveform")
        if waveform.ndim != 1 or not waveform.is_floating_point():
            raise AudioError(f"expected a floating waveform (samples,), got {waveform.dtype} {tuple(waveform.shape)}; convert it with as_waveform()")
        samples = waveform.detach().to("cpu", torch.float32)
        self._received += len(samples)
        if self._is_identity:
            return samples
        starts = range(0, max(1, len(samples)), _BLOCK)
        return torch.cat([self._filtered(samples[start : start + _BLOCK].double().numpy()) for start in starts])

    def finish(self) -> Tensor:
        """Return the last output samples; the total is then `ceil(samples * target_rate / source_rate)`.

        Returns:
            float32 `(samples,)`, possibly empty.

        Raises:
            AudioError: if it was called before.
        """
        if self._is_identity:
            tail = self.push(torch.zeros(0))
        else:
            missing = resampled_length(self._received, self.source_rate, self.target_rate) - self._given
            tail = self.push(torch.zeros(resampled_length(self._delay, self._up, self._down)))[:missing]
        self._finished = True
        return tail

    def _filtered(self, samples: NDArray[np.float64]) -> Tensor:
        """Append samples to the buffer and return the outputs whose context is complete."""
        self._buffer = np.concatenate([self._buffer, samples])
        shift = self._delay - self._start // self._down * self._up  # from a number of an output to its place in the filtered buffer
        first, end = self._given, -(-(self._start + len(self._buffer)) * self._up // self._down) - self._delay
        if end <= first:
            return torch.zeros(0)
        from scipy import signal  # slow to import, and only needed where rates differ

        output = signal.upfirdn(self._filter, self._buffer, self._up, self._down)[first + shift : end + shift]
        self._given = end
        start = self._context_start()
        self._buffer, self._start = self._buffer[start - self._start :], start
        return torch.from_numpy(output.astype(np.float32))

    def _context_start(self) -> int:
        """Return the last grid point at or before the first input sample that the next output needs."""
        newest = (self._given + self._delay) * self._down // self._up
        return (newest - len(self._filter) // self._up + 1) // self._down * self._down


@functools.lru_cache(maxsize=8)
def _design(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """Return the filter at `up` times the source rate, its length a multiple of `up`, and its delay in output samples."""
    scale = max(up, down)
    half = _HALF_WIDTH * scale
    time = np.arange(-half, half + 1) / scale
    taps = np.sinc(_CUTOFF * time) * np.kaiser(2 * half + 1, _BETA)
    delay = -(-half // down)
    lead = delay * down - half  # zeros in front, so that the centre lies on the output grid
    taps = np.pad(taps, (lead, -(lead + len(taps)) % up)).reshape(-1, up)
    taps = (taps / taps.sum(0)).ravel()  # every phase passes a constant unchanged
    taps.flags.writeable = False
    return taps, delay
