"""Slaney mel filters, for the mel distance and for the speaker embedder's front end."""

import torch
from torch import Tensor

KNEE_HZ = 1000.0
"""The scale is linear below and logarithmic above: 15 mels at the knee, then a factor of 6.4 every 27 mels."""


def _to_mel(hz: Tensor) -> Tensor:
    linear = hz * 15 / KNEE_HZ
    log = 15 + 27 * torch.log(hz.clamp_min(KNEE_HZ) / KNEE_HZ) / torch.tensor(6.4, dtype=hz.dtype).log()
    return torch.where(hz < KNEE_HZ, linear, log)


def _to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * KNEE_HZ / 15, KNEE_HZ * 6.4 ** ((mel - 15) / 27))


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> Tensor:
    """Return triangular filters of unit area in Hz, evenly spaced on Slaney's mel scale from 0 to half the sample rate.

    Args:
        bands: number of filters.
        n_fft: FFT size of the spectrum that they are for.
        sample_rate: Hz.

    Returns:
        float32 `(bands, n_fft // 2 + 1)`.
    """
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    top = _to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    edges = _to_hz(torch.linspace(0, float(top), bands + 2, dtype=torch.float64))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return (torch.minimum(rise, fall).clamp_min(0) * 2 / (high - low)).float()
