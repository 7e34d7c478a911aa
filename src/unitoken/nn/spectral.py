"""Waveform to log-mel and spectrum to waveform, both on a grid anchored at sample 0 with zeros beyond the edges."""

import math

import torch
from torch import Tensor, nn

from ..config import FrontEndConfig
from .flow import Rows
from .linear import linear

LEAST = 1e-30
"""Square of a magnitude that is nothing."""


def mel_triangles(mels: int, bins: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return triangles of height 1, evenly spaced on the Slaney mel scale (linear below 1 kHz, logarithmic above), and their widths.

    A flank narrower than the spacing of the bins is made as wide as that, so no triangle is empty.

    Args:
        mels: number of triangles, from 0 Hz to half the sample rate.
        bins: number of FFT bins, `n_fft / 2 + 1`.
        sample_rate: Hz.

    Returns:
        float64 `(bins, mels)`, and float64 `(mels,)` in Hz.
    """
    step = math.log(6.4) / 27
    top = 15 + math.log(sample_rate / 2 / 1000) / step
    points = torch.linspace(0, top, mels + 2, dtype=torch.float64)
    edges = torch.where(points < 15, points * 200 / 3, 1000 * torch.exp(step * (points - 15)))
    spacing = sample_rate / 2 / (bins - 1)
    freqs = torch.arange(bins, dtype=torch.float64)[:, None] * spacing
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    rise = 1 + (freqs - mid) / (mid - low).clamp_min(spacing)
    fall = 1 - (freqs - mid) / (high - mid).clamp_min(spacing)
    return torch.minimum(rise, fall).clamp_min(0), high - low


def mel_filters(mels: int, bins: int, sample_rate: int) -> Tensor:
    """Return `mel_triangles` scaled so that each sums to 1, float32 `(bins, mels)`."""
    triangles, _ = mel_triangles(mels, bins, sample_rate)
    return (triangles / triangles.sum(0, keepdim=True)).float()


class LogMel(nn.Module):
    """Log-mel magnitudes every 10 ms; frame `t` is centred on the middle of samples `hop * t` to `hop * (t + 1)`.

    Args:
        config: sizes.
        sample_rate: Hz.
    """

    def __init__(self, config: FrontEndConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.reach = (config.window - config.hop) // 2
        window = torch.hann_window(config.window, dtype=torch.float64)
        self.register_buffer("window", (window / window.sum()).float(), persistent=False)
        self.register_buffer("filters", mel_filters(config.mels, config.n_fft // 2 + 1, sample_rate), persistent=False)
        self.window: Tensor
        self.filters: Tensor

    def magnitudes(self, waveform: Tensor, rows: Rows | None = None) -> Tensor:
        """Return the STFT's magnitudes, float32 `(batch, frames, n_fft / 2 + 1)`; see `forward`."""
        config, rows = self.config, Rows() if rows is None else rows
        wide = rows.extend(waveform, self.reach, config.window - config.hop - self.reach, group=config.hop)
        rows.join(config.hop)
        if not wide.shape[1]:
            return wide.new_zeros(len(wide), 0, config.n_fft // 2 + 1)
        spectrum = torch.fft.rfft(wide.unfold(1, config.window, config.hop) * self.window, config.n_fft)
        # On a CPU in a third of the time of `abs`; without the least there would be no gradient at zero.
        return spectrum.real.square().add_(LEAST).addcmul_(spectrum.imag, spectrum.imag).sqrt()

    def forward(self, waveform: Tensor, rows: Rows | None = None) -> Tensor:
        """Return log10 of the mel magnitudes, shifted to about zero mean.

        Args:
            waveform: float32 `(batch, samples)`, samples a multiple of the hop.
            rows: where they stand; None for whole rows, with zeros beyond both ends.

        Returns:
            float32 `(batch, samples / hop, mels)`, at least `log10(floor) + 3`; of a run that is no whole row, as many frames as it has.
        """
        return self.compress(self.magnitudes(waveform, rows))

    def compress(self, magnitudes: Tensor) -> Tensor:
        """Return the log-mel `(batch, frames, mels)` of STFT magnitudes."""
        return torch.log10(linear(magnitudes, self.filters.T) + self.config.floor) + 3


class InverseSTFT(nn.Module):
    """Spectrum to waveform by overlap-add; the envelope of the squared windows is constant, so no edge needs dividing.

    Args:
        n_fft: FFT and Hann window size.
        hop: samples between frames, `n_fft / 4`.
    """

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft) / 1.5, persistent=False)
        self.window: Tensor

    def forward(self, spectrum: Tensor) -> Tensor:
        """Return the samples that all frames around them are there for.

        Frame `j` is centred on the middle of samples `hop * j` to `hop * (j + 1)`; the first and last two frames are context only.

        Args:
            spectrum: complex64 `(batch, frames, n_fft / 2 + 1)`.

        Returns:
            float32 `(batch, (frames - 4) * hop)`.
        """
        return overlap_add(self.pieces(spectrum), self.hop)

    def pieces(self, spectrum: Tensor) -> Tensor:
        """Return what each frame adds to the waveform, float32 `(batch, frames, n_fft)`."""
        return torch.fft.irfft(spectrum, self.n_fft) * self.window


def overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Add frames of four hops, each half a hop early; sums run in the order of the frames, whatever the number of frames.

    Args:
        pieces: float32 `(batch, frames, 4 * hop)`; frame `j` starts at sample `hop * j - 1.5 * hop`.
        hop: samples between frames, even.

    Returns:
        float32 `(batch, (frames - 4) * hop)`: the samples of frames 2 to `frames - 3`.
    """
    batch, frames, _ = pieces.shape
    quarters = pieces.view(batch, frames, 4, hop)
    hops = frames - 3
    total = quarters[:, :hops, 3]
    for quarter in (2, 1, 0):
        start = 3 - quarter
        total = total + quarters[:, start : start + hops, quarter]
    # total[h] holds samples of hop h + 1.5 of the frames' grid: shift by half a hop to the grid of whole hops.
    return total.reshape(batch, hops * hop)[:, hop // 2 : hop // 2 + (frames - 4) * hop]
