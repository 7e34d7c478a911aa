"""Discriminators of the adversarial stage: they tell recorded speech from decoded speech on spectra and, on request, on folded waveforms.

Both kinds are sums of small networks that each look at the signal at another resolution; each network returns a map of logits and the
activations of its layers, which feature matching compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1
"""Of the leaky rectifiers."""


@dataclass(frozen=True)
class DiscriminatorSettings:
    """Sizes of the discriminators.

    Attributes:
        windows: STFT windows in samples, one network each; hops are a quarter of the window.
        channels: of the first layer of an STFT network; the others have twice as many.
        exponent: of the compressed magnitudes; phases are kept.
        periods: a waveform network for each period in samples; none by default, they pay on a GPU only.
        period_channels: of the first layer of a waveform network; each of the next two has four times as many as the one before, 512 at most.
        weight_norm: whether each convolution's weight is split into length and direction.
    """

    windows: tuple[int, ...] = (2048, 1024, 512)
    channels: int = 16
    exponent: float = 0.3
    periods: tuple[int, ...] = ()
    period_channels: int = 16
    weight_norm: bool = True


@dataclass(frozen=True)
class Verdict:
    """What the networks say of a batch.

    Attributes:
        logits: one float32 map a network, `(batch, ...)`; high for recorded speech.
        features: the activations of each network's layers, `(batch, channels, ...)` each.
    """

    logits: list[Tensor]
    features: list[list[Tensor]]


def _conv(channels: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], normed: bool) -> nn.Module:
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(channels[0], channels[1], kernel, stride, padding)
    return weight_norm(conv) if normed else conv


def _judge(layers: nn.ModuleList, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = list[Tensor]()
    for layer in list(layers)[:-1]:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return layers[-1](x).float(), features


class SpectralDiscriminator(nn.Module):
    """2-D convolutions on one compressed complex STFT.

    After the multi-resolution discriminator of UnivNet (Jang et al., arXiv 2106.07889) and the complex one of EnCodec (Defossez et al.,
    arXiv 2210.13438); smaller than both, and magnitudes are compressed so that quiet parts count.

    Args:
        window: STFT window in samples.
        settings: sizes.
    """

    def __init__(self, window: int, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.size, self.exponent = window, settings.exponent
        self.register_buffer("window", torch.hann_window(window) * 2 / window, persistent=False)
        self.window: Tensor
        first, wide, normed = settings.channels, 2 * settings.channels, settings.weight_norm
        self.layers = nn.ModuleList(
            [
                _conv((2, first), (3, 9), (1, 2), normed),
                _conv((first, wide), (3, 9), (1, 2), normed),
                _conv((wide, wide), (3, 9), (1, 2), normed),
                _conv((wide, wide), (3, 9), (1, 2), normed),
                _conv((wide, wide), (3, 3), (1, 1), normed),
                _conv((wide, 1), (3, 3), (1, 1), normed),
            ]
        )

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Return float32 `(batch, 2, STFT frames, window / 2 + 1)`: real and imaginary part of the compressed STFT."""
        spectrum = torch.stft(waveform.float(), self.size, self.size // 4, window=self.window, pad_mode="constant", return_complex=True)
        parts = torch.view_as_real(spectrum).permute(0, 3, 2, 1)
        return parts * (parts.square().sum(1, keepdim=True) + 1e-8) ** ((self.exponent - 1) / 2)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits and features of `(batch, samples)`."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = self.spectrum(waveform)
        return _judge(self.layers, spectrum)


class PeriodDiscriminator(nn.Module):
    """2-D convolutions along the columns of a waveform folded at one period (Kong et al., arXiv 2010.05646, smaller).

    Args:
        period: samples of a row.
        settings: sizes.
    """

    def __init__(self, period: int, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.period = period
        first, normed = settings.period_channels, settings.weight_norm
        dims = [1, first, min(512, 4 * first), min(512, 16 * first)]
        steps = [_conv((before, after), (5, 1), (3, 1), normed) for before, after in pairwise(dims)]
        self.layers = nn.ModuleList([*steps, _conv((dims[-1], dims[-1]), (5, 1), (1, 1), normed), _conv((dims[-1], 1), (3, 1), (1, 1), normed)])

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits and features of `(batch, samples)`."""
        padded = F.pad(waveform, (0, -waveform.shape[1] % self.period))
        return _judge(self.layers, padded.view(len(waveform), 1, -1, self.period))


class Discriminators(nn.Module):
    """All networks.

    Args:
        settings: which, and their sizes.
    """

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            [
                *(SpectralDiscriminator(window, settings) for window in settings.windows),
                *(PeriodDiscriminator(period, settings) for period in settings.periods),
            ]
        )

    def forward(self, waveform: Tensor) -> Verdict:
        """Judge float32 `(batch, samples)`."""
        logits, features = list[Tensor](), list[list[Tensor]]()
        for network in self.networks:
            said, seen = network(waveform)
            logits.append(said)
            features.append(seen)
        return Verdict(logits, features)


def limit_band(waveform: Tensor, limits: Tensor, sample_rate: int) -> Tensor:
    """Take out what lies above each row's limit, so that a discriminator cannot tell a narrow-band recording by its empty top.

    Args:
        waveform: float32 `(batch, samples)`.
        limits: float32 `(batch,)`, Hz; rows at half the sample rate or more are left as they are.
        sample_rate: Hz.

    Returns:
        float32 of the same shape; the gain falls to zero over the last 5 % below the limit.
    """
    frequencies = torch.fft.rfftfreq(waveform.shape[1], 1 / sample_rate, device=waveform.device)
    gain = ((limits[:, None] - frequencies) / (0.05 * limits[:, None])).clamp(0, 1)
    gain = torch.where(limits[:, None] >= sample_rate / 2, torch.ones_like(gain), gain)
    return torch.fft.irfft(torch.fft.rfft(waveform.float()) * gain, waveform.shape[1])


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], kind: str) -> Tensor:
    """Return what the discriminators minimise, mean over networks: `hinge` (Lim and Ye, arXiv 1705.02894) or `least_squares` (arXiv 1611.04076)."""
    if kind == "hinge":
        terms = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    else:
        terms = [(1 - r).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def generator_loss(fake: Sequence[Tensor], kind: str) -> Tensor:
    """Return what the generator minimises, mean over networks; with `hinge` it ends where decoded speech passes for recorded."""
    terms = [F.relu(1 - f).mean() if kind == "hinge" else (1 - f).square().mean() for f in fake]
    return torch.stack(terms).mean()


def matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean distance of features, each layer's as a share of the recorded features' mean magnitude (EnCodec, equation 2)."""
    pairs = [(r.detach().float(), f.float()) for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs, fs, strict=True)]
    return torch.stack([(f - r).abs().mean() / r.abs().mean().clamp_min(1e-6) for r, f in pairs]).mean()
