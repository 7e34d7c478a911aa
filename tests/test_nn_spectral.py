import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.config import FrontEndConfig
from unitoken.nn.spectral import InverseSTFT, LogMel, mel_filters, overlap_add
from unitoken.presets import preset

RATE = 16000
HOP, N_FFT = 16, 64


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slaney_hz(mel):
    """Slaney's scale from its definition: 200/3 Hz a mel up to 1 kHz, then 27 equal ratios from 1 to 6.4 kHz."""
    return mel * 200 / 3 if mel <= 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def naive_filters(mels, bins, rate):
    """Triangles one value at a time; a side narrower than the spacing of the bins gets that width."""
    top = 15 + 27 * math.log(rate / 2000) / math.log(6.4)
    points = [slaney_hz(top * i / (mels + 1)) for i in range(mels + 2)]
    spacing = rate / 2 / (bins - 1)
    table = np.zeros((bins, mels))
    for band in range(mels):
        low, mid, high = points[band : band + 3]
        for k in range(bins):
            distance = k * spacing - mid
            table[k, band] = max(0.0, 1 - abs(distance) / max(spacing, mid - low if distance < 0 else high - mid))
    return table / table.sum(0)


@pytest.mark.parametrize(("mels", "n_fft", "rate"), [(128, 640, 16000), (32, 640, 16000), (80, 1024, 24000), (128, 256, 16000)])
def test_mel_filters_are_the_triangles_of_the_definition(mels, n_fft, rate):
    filters = mel_filters(mels, n_fft // 2 + 1, rate)
    assert filters.dtype == torch.float32
    np.testing.assert_allclose(filters.double().numpy(), naive_filters(mels, n_fft // 2 + 1, rate), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mels", [32, 128])
def test_every_mel_filter_weighs_one_and_the_centres_rise(mels):
    filters = mel_filters(mels, 321, RATE).double()
    torch.testing.assert_close(filters.sum(0), torch.ones(mels, dtype=torch.float64), rtol=0, atol=1e-6)
    centres = (filters * torch.arange(321)[:, None]).sum(0) * RATE / 640
    assert (centres.diff() > 0).all()
    assert centres[0] > 0
    assert centres[-1] < RATE / 2


def log_mel(**changes):
    return LogMel(FrontEndConfig(**changes), RATE)


def test_log_mel_is_silent_at_the_level_of_its_floor():
    assert torch.equal(log_mel()(torch.zeros(1, 800)), torch.full((1, 5, 128), math.log10(1e-4)).float() + 3)


def test_magnitudes_are_those_of_frames_cut_by_hand():
    front, x = log_mel(), noise(1, 1600)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(640) / 640)
    padded = np.concatenate([np.zeros(240), x[0].double().numpy(), np.zeros(240)])
    expected = np.stack([np.abs(np.fft.rfft(padded[t * 160 : t * 160 + 640] * window / window.sum())) for t in range(10)])
    np.testing.assert_allclose(front.magnitudes(x)[0].numpy(), expected, rtol=0, atol=1e-6)
    features = np.log10(expected @ naive_filters(128, 321, RATE) + 1e-4) + 3
    np.testing.assert_allclose(front(x)[0].numpy(), features, rtol=0, atol=1e-4)


def test_a_full_scale_tone_has_magnitude_one_half_in_its_band():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(3200) / RATE)
    magnitudes = log_mel().magnitudes(tone[None])[0, 10]
    assert magnitudes.argmax() == 40
    assert magnitudes.max() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("sample", [0, 79, 800, 1000, 1599])
def test_an_impulse_shows_in_exactly_the_frames_whose_window_holds_it(sample):
    x = torch.zeros(1, 1600)
    x[0, sample] = 1000.0
    loud = log_mel().magnitudes(x)[0].amax(1) > 1e-9
    # the window's first value is zero, so it sees one sample less on that side
    expected = [160 * t - 240 < sample < 160 * t + 400 for t in range(10)]
    assert loud.tolist() == expected


def test_a_frame_is_centred_on_the_middle_of_its_hop():
    front = log_mel()
    x = torch.zeros(1, 1600)
    x[0, 5 * 160 + 80] = 1.0
    levels = front.magnitudes(x)[0, :, 0]
    assert levels.argmax() == 5
    torch.testing.assert_close(levels[4], levels[6], rtol=1e-4, atol=0)
    assert levels[5] == front.window.max()


def test_a_longer_fft_only_refines_the_spectrum():
    x = noise(1, 1600)
    torch.testing.assert_close(log_mel(n_fft=1280).magnitudes(x)[..., ::2], log_mel().magnitudes(x), rtol=0, atol=1e-6)


def forward_transform(x, n_fft, hop):
    """Return the spectrum on the decoder's grid: frame `j` starts at sample `hop * j - 1.5 * hop`; zeros beyond both ends."""
    frames = len(x) // hop
    padded = np.concatenate([np.zeros(3 * hop // 2), x, np.zeros(3 * hop)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    spectra = np.stack([np.fft.rfft(padded[j * hop : j * hop + n_fft] * window) for j in range(frames)])
    return torch.from_numpy(spectra.astype(np.complex64))[None]


def naive_overlap_add(pieces, hop):
    """Add pieces `(frames, n_fft)` at `hop * j - 1.5 * hop`; keep the hops of all but two frames on each side."""
    frames, n_fft = pieces.shape
    out = np.zeros((frames + 4) * hop)
    for j, piece in enumerate(pieces):
        out[j * hop : j * hop + n_fft] += piece
    return out[3 * hop // 2 + 2 * hop : 3 * hop // 2 + (frames - 2) * hop]


@given(st.integers(5, 20), st.integers(0, 99))
def test_inverse_of_the_forward_transform_gives_the_signal_back(frames, seed):
    x = noise(frames * HOP, seed=seed).double().numpy()
    out = InverseSTFT(N_FFT, HOP)(forward_transform(x, N_FFT, HOP))
    assert out.shape == (1, (frames - 4) * HOP)
    np.testing.assert_allclose(out[0].numpy(), x[2 * HOP : -2 * HOP], rtol=0, atol=1e-5)


def test_inverse_is_a_naive_overlap_add_of_windowed_frames():
    spectra = torch.complex(noise(1, 9, 33), noise(1, 9, 33, seed=1))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    expected = naive_overlap_add(np.fft.irfft(spectra[0].numpy(), N_FFT) * window / 1.5, HOP)
    np.testing.assert_allclose(InverseSTFT(N_FFT, HOP)(spectra)[0].numpy(), expected, rtol=0, atol=1e-5)


def test_overlap_add_places_every_frame_as_the_naive_sum_does():
    pieces = noise(2, 12, N_FFT)
    for row in (0, 1):
        np.testing.assert_allclose(overlap_add(pieces, HOP)[row].numpy(), naive_overlap_add(pieces[row].double().numpy(), HOP), rtol=0, atol=1e-5)


@given(st.integers(5, 30), st.integers(0, 10))
def test_overlap_add_of_fewer_frames_is_the_same_bits(frames, first):
    pieces = noise(1, 40, N_FFT)
    whole, part = overlap_add(pieces, HOP), overlap_add(pieces[:, first : first + frames], HOP)
    assert torch.equal(part, whole[:, first * HOP : (first + frames - 4) * HOP])


def test_neither_window_nor_filters_are_weights():
    assert not LogMel(preset("tiny").front_end, RATE).state_dict()
    assert not InverseSTFT(N_FFT, HOP).state_dict()
