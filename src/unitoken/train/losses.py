"""Reconstruction losses in float32: log-mel at several resolutions and compressed magnitudes, with the top masked where the source has none."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..nn.spectral import mel_filters


class SpectralLoss(nn.Module):
    """Distance of two waveforms: L1 of log-mel magnitudes at several window sizes, L1 of compressed magnitudes at one.

    Args:
        sample_rate: Hz.
        resolutions: window sizes in samples and their mel bands; hops are a quarter of the window.
        compressed: window of the compressed magnitudes, exponent 0.3 (as TF-Codec's spectral loss).
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        resolutions: Sequence[tuple[int, int]] = ((2048, 160), (1024, 100), (512, 64)),
        compressed: int = 2048,
    ) -> None:
        super().__init__()
        self.sample_rate, self.resolutions, self.compressed = sample_rate, tuple(resolutions), compressed
        for window, mels in self.resolutions:
            self.register_buffer(f"window_{window}", torch.hann_window(window) * 2 / window, persistent=False)
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
            scalars `mel` (mean over resolutions) and `magnitude`.
        """
        decoded, clean = decoded.float() * mask, clean.float()
        mel = decoded.new_zeros(())
        losses = dict[str, Tensor]()
        for window, _ in self.resolutions:
            ours, theirs = self.magnitudes(decoded, window), self.magnitudes(clean, window)
            filters = self.get_buffer(f"filters_{window}")
            inside = self._inside(mask, window, ours.shape[1])
            centres = filters.argmax(0) * self.sample_rate / window
            weight = inside * (centres[None, None] <= limits[:, None, None])
            difference = torch.log10(ours @ filters + 1e-5) - torch.log10(theirs @ filters + 1e-5)
            mel = mel + (difference.abs() * weight).sum() / weight.sum().clamp_min(1) / len(self.resolutions)
            if window == self.compressed:
                bins = torch.arange(window // 2 + 1, device=limits.device) * self.sample_rate / window
                weight = inside * (bins[None, None] <= limits[:, None, None])
                losses["magnitude"] = ((ours**0.3 - theirs**0.3).abs() * weight).sum() / weight.sum().clamp_min(1)
        return {"mel": mel, **losses}

    @staticmethod
    def _inside(mask: Tensor, window: int, frames: int) -> Tensor:
        at = (torch.arange(frames, device=mask.device) * (window // 4)).clamp_max(mask.shape[1] - 1)
        return mask[:, at].unsqueeze(-1)


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
