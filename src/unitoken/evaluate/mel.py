"""Mel filters as the speaker embedder's front end and the mel distance want them."""

from torch import Tensor

from ..nn.spectral import mel_triangles


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> Tensor:
    """Return triangular filters of unit area in Hz on Slaney's mel scale, float32 `(bands, n_fft // 2 + 1)`; see `nn.spectral.mel_triangles`."""
    triangles, widths = mel_triangles(bands, n_fft // 2 + 1, sample_rate)
    return (triangles * 2 / widths).T.float()
