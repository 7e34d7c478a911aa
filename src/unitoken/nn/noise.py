"""White noise that is a function of the sample's number: the same in every call, on every device, and in every piece of a clip."""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def white_noise(numbers: Tensor) -> Tensor:
    """Return noise of mean 0 and variance 1, evenly distributed, float32 of the same shape.

    A generator of 32 bits (PCG, O'Neill, HMC-CS-2014-0905, its output function RXS-M-XS) is used as a hash, as Jarzynski and Olano propose
    ("Hash Functions for GPU Rendering", JCGT 9(3), 2020).

    Args:
        numbers: int64, of any sign; their last 32 bits count.
    """
    x = ((numbers & _MASK) * 747796405 + 2891336453) & _MASK
    x = (((x >> ((x >> 28) + 4)) ^ x) * 277803737) & _MASK
    x = (x >> 22) ^ x
    return ((x.double() / 2**31 - 1) * 3**0.5).float()


def noise_spectrum(start: Tensor, frames: int, n_fft: int) -> Tensor:
    """Return the spectrum of that noise under Hann windows, on the grid of `nn.spectral.InverseSTFT`.

    Args:
        start: int64 `(batch,)`: number of each row's first frame in its clip, may be negative.
        frames: how many.
        n_fft: FFT and window size, four times the samples between frames.

    Returns:
        complex64 `(batch, frames, n_fft / 2 + 1)`, of mean square 1.
    """
    hop = n_fft // 4
    first = (start * hop - 3 * hop // 2).unsqueeze(1)
    wave = white_noise(first + torch.arange((frames + 3) * hop, device=start.device))
    window = torch.hann_window(n_fft, device=start.device)
    return torch.fft.rfft(wave.unfold(1, n_fft, hop) * (window / window.square().sum().sqrt()))
