"""Perturbations of the encoders' input: what the semantic tokens must not depend on is made random while they are learnt.

Gain, equalisation, pitch and formants are changed on STFT magnitudes, where they cost little; noise and rooms on waveforms. Pitch and formants
move apart (the idea of NANSY, Choi et al., arXiv 2110.14513): the envelope of a frame is its cepstrum's first coefficients, the rest is
its excitation; each is stretched along frequency by its own factor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Perturbation:
    """How far spectra are perturbed; every factor is drawn per utterance, log-uniform in `[1 / limit, limit]`.

    Attributes:
        pitch: limit of the excitation's stretch.
        formants: limit of the envelope's stretch.
        gain_db: limit of the gain, up and down.
        equaliser_db: standard deviation of a smooth random filter's bands.
        low_pass: probability of a random low-pass between 3 and 7 kHz.
        probability: share of utterances perturbed at all.
    """

    pitch: float = 1.4
    formants: float = 1.2
    gain_db: float = 12.0
    equaliser_db: float = 4.0
    low_pass: float = 0.1
    probability: float = 0.9


def stretch(log_magnitudes: Tensor, factors: Tensor) -> Tensor:
    """Stretch spectra along frequency: bin `k` of the result is bin `k / factor` of the input, the last bin beyond the top.

    Args:
        log_magnitudes: float32 `(batch, frames, bins)`.
        factors: float32 `(batch,)`, positive; above 1 moves everything up.
    """
    bins = log_magnitudes.shape[-1]
    at = (torch.arange(bins, device=factors.device) / factors[:, None]).clamp(max=bins - 1)
    low = at.long().clamp(max=bins - 2)
    share = (at - low)[:, None]
    rows = low[:, None].expand(-1, log_magnitudes.shape[1], -1)
    return torch.lerp(log_magnitudes.gather(2, rows), log_magnitudes.gather(2, rows + 1), share)


def envelope(log_magnitudes: Tensor, coefficients: int = 48) -> Tensor:
    """Return the smooth part of log spectra: the cepstrum's first `coefficients` (3 ms at an FFT of 640 samples and 16 kHz), softly cut."""
    cepstrum = torch.fft.irfft(log_magnitudes.to(torch.complex64), dim=-1)
    quefrency = torch.arange(cepstrum.shape[-1], device=cepstrum.device)
    quefrency = torch.minimum(quefrency, cepstrum.shape[-1] - quefrency)
    lifter = (1 - (quefrency / coefficients - 1).clamp(0, 1)).float()
    return torch.fft.rfft(cepstrum * lifter, dim=-1).real


def _factors(count: int, limit: float, generator: torch.Generator) -> Tensor:
    return limit ** (torch.rand(count, generator=generator) * 2 - 1)


def perturb(magnitudes: Tensor, settings: Perturbation, generator: torch.Generator) -> Tensor:
    """Perturb pitch, formants, gain and tone of STFT magnitudes, each utterance its own way.

    Args:
        magnitudes: float32 `(batch, frames, bins)`, not negative, bins from 0 Hz to half the sample rate of 16 kHz.
        settings: how far.
        generator: source of the random numbers (CPU).

    Returns:
        float32 of the same shape.
    """
    batch, _, bins = magnitudes.shape
    device = magnitudes.device
    active = (torch.rand(batch, generator=generator) < settings.probability).float()
    logs = torch.log(magnitudes + 1e-6)
    smooth = envelope(logs)
    pitch = _factors(batch, settings.pitch, generator) ** active
    formants = _factors(batch, settings.formants, generator) ** active
    moved = stretch(logs - smooth, pitch.to(device)) + stretch(smooth, formants.to(device))
    decibel = 0.11512925  # ln(10) / 20
    tone = torch.randn(batch, 1, 9, generator=generator) * settings.equaliser_db * decibel
    tone = torch.nn.functional.interpolate(tone, bins, mode="linear", align_corners=True)
    gain = (torch.rand(batch, 1, 1, generator=generator) * 2 - 1) * settings.gain_db * decibel
    cutoff = torch.where(torch.rand(batch, generator=generator) < settings.low_pass, 0.375 + 0.5 * torch.rand(batch, generator=generator), 2.0)
    slope = (torch.arange(bins) / bins - cutoff[:, None, None]).clamp_min(0) * -80
    return torch.exp(moved + ((tone + gain + slope) * active[:, None, None]).to(device))
