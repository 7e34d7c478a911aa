"""Noise that is a function of the sample's number."""

import numpy as np
import pytest
import torch

from unitoken.nn.noise import noise_spectrum, white_noise
from unitoken.nn.spectral import InverseSTFT


def test_it_is_white():
    noise = white_noise(torch.arange(2**18)).numpy().astype(np.float64)
    assert abs(noise.mean()) < 0.01
    assert noise.var() == pytest.approx(1, abs=0.01)
    power = np.abs(np.fft.rfft(noise.reshape(-1, 512))[:, 1:-1]) ** 2 / 512
    assert power.mean(0) == pytest.approx(np.ones(255), abs=0.25)  # 512 rows: a bin's mean has a deviation of 0.044
    assert np.abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01
    assert len(np.unique(noise)) > 0.99 * len(noise)  # float32 holds no more


def test_a_sample_has_its_noise_wherever_the_piece_begins():
    whole = white_noise(torch.arange(-1000, 1000))
    assert torch.equal(white_noise(torch.arange(-10, 400)), whole[990:1400])
    assert torch.equal(white_noise(torch.tensor([[7, -8]])), whole[[1007, 992]][None])


def test_these_are_the_samples():
    """Other implementations have to make the same ones."""
    assert white_noise(torch.tensor([0, 1, -1, 2**31])).tolist() == pytest.approx([-1.6274349, 0.5513573, 1.3824631, -1.2749798], abs=1e-6)


@pytest.mark.parametrize("n_fft", [640, 1280])
def test_the_spectrum_is_that_of_one_noise(n_fft):
    """Its frames fit together: what the inverse makes of them is the noise itself, at the scale that makes their mean square 1."""
    hop, frames = n_fft // 4, 40
    spectrum = noise_spectrum(torch.tensor([-3, 5]), frames, n_fft)
    assert float(spectrum.abs().square().mean()) == pytest.approx(1, abs=0.05)
    wave = InverseSTFT(n_fft, hop)(spectrum)
    for row, start in enumerate((-3, 5)):
        numbers = torch.arange((start + 2) * hop, (start + frames - 2) * hop)
        torch.testing.assert_close(wave[row] * (3 / 8 * n_fft) ** 0.5, white_noise(numbers), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(spectrum[0, 8:], noise_spectrum(torch.tensor([5]), frames - 8, n_fft)[0])
