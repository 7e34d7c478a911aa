"""Reconstruction losses in float32: log-mel at several resolutions, compressed magnitudes and the course of loudness in bands.

What lies above a source's band is left out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..nn.spectral import mel_filters


class SpectralLoss(nn.Module):
    """Distance of two waveforms: L1 of log-mel magnitudes at several window sizes, L1 of compressed magnitudes at some.

    Args:
        sample_rate: Hz.
        resolutions: window sizes in samples and their mel bands; hops are a quarter of the window.
        compressed: windows of the compressed magnitudes, exponent 0.3 (as TF-Codec's spectral loss). In a long one single harmonics are told apart
            where the pitch rests, in one of 40 to 50 ms where it moves.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        resolutions: Sequence[tuple[int, int]] = ((2048, 160), (1024, 100), (512, 64)),
        compressed: Sequence[int] = (2048,),
    ) -> None:
        super().__init__()
        self.sample_rate, self.resolutions, self.compressed = sample_rate, tuple(resolutions), tuple(compressed)
        for window in {window for window, _ in self.resolutions}.union(compressed):
            self.register_buffer(f"window_{window}", torch.hann_window(window) * 2 / window, persistent=False)
        for window, mels in self.resolutions:
            self.register_buffer(f"filters_{window}", mel_filters(mels, window // 2 + 1, sample_rate), persistent=False)

    def magnitudes(self, waveform: Tensor, window: int) -> Tensor:
        """Return float32 `(batch, STFT frames, window / 2 + 1)`; a sine of full scale reaches 1/2 in its bin's neighbourhood."""
        spectrum = torch.stft(
            waveform, window, window // 4, window=self.get_buffer(f"window_{window}"), center=True, pad_mode="constant", return_complex=True
        )
        return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-12).transpose(1, 2)

    def forward(self, decoded: Tensor, clean: Tensor, mask: Tensor, limits: Tensor) -> dict[str, Tensor]:
        """Compare waveforms.

        Args:
            decoded: float32 `(batch, samples)`.
            clean: float32 `(batch, samples)`.
            mask: float32 `(batch, samples)`: one where the utterance is.
            limits: float32 `(batch,)`, Hz: what lies above does not count; see `sources.band_limits`.

        Returns:
            scalars `mel` (mean over resolutions) and `magnitude` (mean over windows).
        """
        decoded, clean = decoded.float() * mask, clean.float()
        bands = dict(self.resolutions)
        mel, magnitude = decoded.new_zeros(()), decoded.new_zeros(())
        for window in dict.fromkeys((*bands, *self.compressed)):
            ours, theirs = self.magnitudes(decoded, window), self.magnitudes(clean, window)
            inside = self._inside(mask, window, ours.shape[1])
            if window in bands:
                filters = self.get_buffer(f"filters_{window}")
                centres = filters.argmax(0) * self.sample_rate / window
                weight = inside * (centres[None, None] <= limits[:, None, None])
                difference = torch.log10(ours @ filters + 1e-5) - torch.log10(theirs @ filters + 1e-5)
                mel = mel + (difference.abs() * weight).sum() / weight.sum().clamp_min(1) / len(bands)
            if window in self.compressed:
                bins = torch.arange(window // 2 + 1, device=limits.device) * self.sample_rate / window
                weight = inside * (bins[None, None] <= limits[:, None, None])
                difference = (ours**0.3 - theirs**0.3).abs()
                magnitude = magnitude + (difference * weight).sum() / weight.sum().clamp_min(1) / len(self.compressed)
        return {"mel": mel, "magnitude": magnitude}

    @staticmethod
    def _inside(mask: Tensor, window: int, frames: int) -> Tensor:
        at = (torch.arange(frames, device=mask.device) * (window // 4)).clamp_max(mask.shape[1] - 1)
        return mask[:, at].unsqueeze(-1)


class EnvelopeLoss(nn.Module):
    """How far the course of loudness in each band is from that of the recording: 1 minus the correlation over 0.4 s, mean of bands and moments.

    The idea is that of STOI (Taal et al. 2011, doi:10.1109/TASL.2011.2114881): a word is understood by how its bands rise and fall, whatever their
    level. A distance of log-mel values has no ear for that; it asks for the level of every band, quiet ones most.

    Args:
        sample_rate: Hz.
        window: samples; hops are half of it.
        frames: of a stretch over which two courses are compared.
        floor_db: stretches whose energy is so far below the row's loudest one do not count.
    """

    def __init__(self, sample_rate: int = 16000, window: int = 400, frames: int = 31, floor_db: float = 30.0) -> None:
        super().__init__()
        self.size, self.hop, self.frames, self.floor = window, window // 2, frames, 10 ** (-floor_db / 10)
        self.register_buffer("window", torch.hann_window(window) * 2 / window, persistent=False)
        centres = 150 * 2 ** (torch.arange(64) / 3)
        centres = centres[centres * 2 ** (1 / 6) <= min(sample_rate / 2, 5000)]
        self.n_fft = 1 << (window - 1).bit_length()
        bins = torch.arange(self.n_fft // 2 + 1)[:, None] * sample_rate / self.n_fft
        bands = (bins >= centres * 2 ** (-1 / 6)) & (bins < centres * 2 ** (1 / 6))
        self.register_buffer("bands", bands.float(), persistent=False)
        self.register_buffer("tops", centres * 2 ** (1 / 6), persistent=False)
        self.window: Tensor
        self.bands: Tensor
        self.tops: Tensor

    def envelopes(self, waveform: Tensor) -> Tensor:
        """Return float32 `(batch, frames, bands)`: the magnitude in bands of a third of an octave from 150 Hz to 5 kHz."""
        spectrum = torch.stft(waveform, self.n_fft, self.hop, self.size, self.window, center=False, return_complex=True)
        return torch.sqrt((spectrum.real**2 + spectrum.imag**2).transpose(1, 2) @ self.bands + 1e-10)

    def forward(self, decoded: Tensor, clean: Tensor, mask: Tensor, limits: Tensor) -> Tensor:
        """Compare waveforms, arguments as those of `SpectralLoss`; rows shorter than one stretch count for nothing.

        Returns:
            a scalar from 0 to 2; 0 if there is nothing to compare.
        """
        if clean.shape[1] < self.n_fft + (self.frames - 1) * self.hop:
            return decoded.new_zeros((), dtype=torch.float32)
        ours, theirs = (self.envelopes(wave.float() * mask).unfold(1, self.frames, self.frames // 4) for wave in (decoded, clean))
        ours, theirs = (value - value.mean(-1, keepdim=True) for value in (ours, theirs))
        correlation = nn.functional.cosine_similarity(ours, theirs, dim=-1)
        energy = theirs.square().sum((2, 3))
        last = (torch.arange(energy.shape[1], device=mask.device) * (self.frames // 4) + self.frames - 1) * self.hop + self.n_fft - 1
        counts = (energy > self.floor * energy.amax(1, keepdim=True).clamp_min(1e-8)) * mask[:, last]
        weight = counts.unsqueeze(-1) * (self.tops <= limits[:, None])[:, None]
        return ((1 - correlation) * weight).sum() / weight.sum().clamp_min(1)


def voiced_loss(voice: Tensor, log_f0: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of a prediction of F0: cross entropy of voicing, and a smooth L1 of log-F0 where there is voice, square below 2 %.

    Args:
        voice: float32 `(batch, frames)`, logit.
        log_f0: float32 `(batch, frames)`, natural logarithm of Hz.
        target: float32 `(batch, frames)`: the same, NaN where there is no voice.
        mask: float32 `(batch, frames)`: one where the utterance is.
    """
    voiced = torch.isfinite(target)
    wrong = nn.functional.binary_cross_entropy_with_logits(voice.float(), voiced.float(), reduction="none")
    error = nn.functional.smooth_l1_loss(log_f0.float(), target.nan_to_num(), beta=0.02, reduction="none") * voiced
    return 0.1 * (wrong * mask).sum() / mask.sum().clamp_min(1) + error.sum() / voiced.sum().clamp_min(1)
