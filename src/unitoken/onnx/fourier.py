"""Fourier transforms as products of real matrices: half as large as they would be, since a symmetric window keeps cosines and sines apart."""

import math

import torch
from torch import Tensor, nn


def frames_of(waveform: Tensor, window: int, hop: int) -> Tensor:
    """Return the windows of a waveform `(batch, samples)`, a hop apart, `(batch, frames, window)`."""
    unit = math.gcd(window, hop)
    rows, step = waveform.unflatten(1, (-1, unit)), hop // unit
    last = rows.shape[1] - window // unit
    return torch.cat([rows[:, part : part + last + 1 : step] for part in range(window // unit)], -1)


def _angles(n_fft: int, samples: Tensor, first: int = 0) -> Tensor:
    """Return the angle of each bin at each sample, float64 `(samples, bins)`."""
    bins = torch.arange(first, n_fft // 2 + 1, dtype=torch.float64)
    return 2 * math.pi / n_fft * torch.remainder(samples[:, None] * bins, n_fft)


class Forward(nn.Module):
    """Spectra of windows.

    Args:
        window: `(samples,)`, with `window[n] == window[-n]`, as Hann windows have it.
        n_fft: FFT size; zeros follow a shorter window.
        first: first bin.
    """

    def __init__(self, window: Tensor, n_fft: int, first: int = 0) -> None:
        super().__init__()
        self.middle, self.folds = n_fft // 2, len(window) == n_fft
        numbers, wide = torch.arange(len(window), dtype=torch.float64), window.double()[:, None]
        real, imaginary = wide * torch.cos(_angles(n_fft, numbers, first)), -wide * torch.sin(_angles(n_fft, numbers, first))
        if self.folds:
            real, imaginary = real[: self.middle + 1], imaginary[1 : self.middle]
        self.register_buffer("real", real.float())
        self.register_buffer("imaginary", imaginary.float())
        self.real: Tensor
        self.imaginary: Tensor

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the real and imaginary parts, `(..., bins)` each, of `(..., samples)`."""
        if not self.folds:
            return frames @ self.real, frames @ self.imaginary
        left, right = frames[..., 1 : self.middle], frames[..., self.middle + 1 :].flip(-1)
        even = torch.cat([frames[..., :1], left + right, frames[..., self.middle : self.middle + 1]], -1)
        return even @ self.real, (left - right) @ self.imaginary


class Inverse(nn.Module):
    """Samples of spectra, times a window.

    Args:
        window: `(n_fft,)`, with `window[n] == window[-n]`.
    """

    def __init__(self, window: Tensor) -> None:
        super().__init__()
        n_fft = len(window)
        self.middle = n_fft // 2
        angles, wide = _angles(n_fft, torch.arange(self.middle + 1, dtype=torch.float64)).T, window.double()[: self.middle + 1]
        twice = torch.full((self.middle + 1, 1), 2 / n_fft, dtype=torch.float64)
        twice[0] = twice[-1] = 1 / n_fft
        self.register_buffer("real", (twice * torch.cos(angles) * wide).float())
        self.register_buffer("imaginary", (-twice * torch.sin(angles) * wide)[:, 1:-1].float())
        self.real: Tensor
        self.imaginary: Tensor

    def forward(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Return `(..., n_fft)` of the real and imaginary parts `(..., bins)`."""
        even, odd = real @ self.real, imaginary @ self.imaginary
        middle = even[..., 1:-1]
        return torch.cat([even[..., :1], middle + odd, even[..., -1:], (middle - odd).flip(-1)], -1)
