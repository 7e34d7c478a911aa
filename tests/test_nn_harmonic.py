import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.nn.harmonic import hann_lobe, harmonics, run_through, running_phase
from unitoken.nn.spectral import InverseSTFT

RATE, N_FFT, HOP = 16000, 1280, 320
START = torch.tensor([0])


def phase_of(f0, voiced=None, first=START, memory=200):
    voiced = torch.ones_like(f0, dtype=torch.bool) if voiced is None else voiced
    return running_phase(f0, voiced, first, HOP, RATE, memory)


def apart(a, b):
    """Return how far two angles are apart, in radians."""
    return ((a - b + math.pi) % (2 * math.pi) - math.pi).abs()


def test_the_phase_advances_by_the_mean_f0_of_two_frames():
    f0 = torch.tensor([[100.0, 110.0, 130.0]])
    turns = [0, 105 * HOP / RATE, (105 + 120) * HOP / RATE]
    expected = torch.tensor([2 * math.pi * (turn % 1) for turn in turns], dtype=torch.float64)
    assert phase_of(f0).dtype == torch.float64
    assert float(apart(phase_of(f0)[0], expected).max()) < 1e-9


def test_a_voice_starts_from_the_last_frame_without():
    f0 = torch.full((1, 6), 130.0)
    voiced = torch.tensor([[True, True, False, True, True, False]])
    phase = phase_of(f0, voiced)[0]
    assert phase[2] == phase[5] == 0
    step = 2 * math.pi * (130 * HOP / RATE % 1)
    assert float(apart(phase[3:5], torch.tensor([step, 2 * step], dtype=torch.float64)).max()) < 1e-9


@given(st.integers(0, 60), st.integers(0, 2**31), st.integers(3, 12), st.floats(0, 0.5))
def test_a_frame_has_the_same_phase_in_every_row_that_holds_its_memory(cut, seed, memory, unvoiced):
    random = torch.Generator().manual_seed(seed)
    f0, voiced = 60 + 400 * torch.rand(1, 80, generator=random), torch.rand(1, 80, generator=random) >= unvoiced
    whole = phase_of(f0, voiced, memory=memory)
    part = phase_of(f0[:, cut:], voiced[:, cut:], torch.tensor([cut]), memory)
    assert float(apart(part[:, memory:], whole[:, cut + memory :]).max()) < 1e-8


def test_rows_count_their_frames_each_for_itself():
    f0 = torch.full((2, 9), 101.0)
    phase = phase_of(f0, first=torch.tensor([0, 2]), memory=4)
    assert torch.equal(phase[0], phase_of(f0[:1], memory=4)[0])
    assert torch.equal(phase[1], phase_of(f0[:1], first=torch.tensor([2]), memory=4)[0])
    assert not torch.equal(phase[0], phase[1])


def test_the_lobe_is_the_transform_of_a_hann_window():
    window, bins = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT), np.linspace(-1.999, 1.999, 333)
    centred = np.arange(N_FFT) - N_FFT / 2
    expected = np.array([np.sum(window * np.cos(2 * np.pi * centred * bin / N_FFT)) for bin in bins]) / window.sum()
    np.testing.assert_allclose(hann_lobe(torch.from_numpy(bins)).numpy(), expected, rtol=0, atol=1e-3)
    assert hann_lobe(torch.tensor([0.0, 1.0, -1.0, 2.0, 2.5])).tolist() == [1, 0.5, 0.5, 0, 0]


def spectrum_of(f0, phase, n_fft, rate):
    return torch.polar(*harmonics(f0, phase, n_fft, rate))


def synthesised(f0, frames):
    row = torch.full((1, frames), f0)
    return InverseSTFT(N_FFT, HOP)(spectrum_of(row, phase_of(row), N_FFT, RATE))[0].double().numpy()


@pytest.mark.parametrize("f0", [97.3, 180.0, 333.3, 601.0])
def test_a_constant_f0_becomes_steady_sines_at_its_multiples(f0):
    """The whole chain: phases, lobes and overlap-add together must make the signal that a sum of cosines is."""
    signal = synthesised(f0, 60)
    # frame 2's middle is sample 160 of the output, and its phase that of two frames' advance
    time = (np.arange(len(signal)) - HOP / 2) / RATE + 2 * HOP / RATE
    numbers = np.arange(1, int(RATE / 2 / f0) + 1)
    expected = np.cos(2 * np.pi * f0 * numbers[:, None] * time).sum(0)
    scale = np.dot(signal, expected) / np.dot(expected, expected)
    inner = slice(4 * HOP, -4 * HOP)
    error = signal[inner] - scale * expected[inner]
    assert np.mean(error**2) < 0.02 * np.mean((scale * expected[inner]) ** 2)


def glide(parts, frames=200):
    """Return the signal of a voice that rises and falls, made of frames cut into parts, and the sum of cosines that it is to be, both up to 2 kHz."""
    f0 = (100 * (1 + 0.2 * torch.sin(torch.arange(frames) / 9)))[None]
    voiced = torch.ones_like(f0, dtype=torch.bool)
    row, phase = run_through(f0, phase_of(f0), voiced, HOP, RATE, parts)
    signal = InverseSTFT(N_FFT // parts, HOP // parts)(spectrum_of(row, phase, N_FFT // parts, RATE))[0].double().numpy()
    time = (np.arange(frames * HOP) + 0.5) / HOP - 0.5
    turns = np.cumsum(np.interp(time, np.arange(frames), f0[0].double().numpy())) / RATE
    turns -= turns[HOP // 2]
    expected = sum(np.cos(2 * np.pi * k * turns) for k in range(1, 40))[2 * HOP // parts :][: len(signal)]
    low = np.fft.rfftfreq(len(signal), 1 / RATE) < 2000
    return tuple(np.fft.irfft(np.fft.rfft(wave) * low, len(signal)) for wave in (signal, expected))


def error_db(signal, expected):
    scale = np.dot(signal, expected) / np.dot(signal, signal)
    return 10 * np.log10(np.mean((expected - scale * signal) ** 2) / np.mean(expected**2))


def test_a_glide_is_truer_with_two_frames_for_one():
    """F0 is constant in a frame of the spectrum: the shorter that frame, the less a harmonic smears."""
    assert -11.5 < error_db(*glide(1)) < -9
    assert error_db(*glide(2)) < -17


def test_one_part_is_the_frame_itself_and_many_parts_meet_the_next_frame():
    f0 = torch.tensor([[100.0, 110.0, 130.0, 90.0]])
    voiced = torch.tensor([[True, True, True, False]])
    phase = phase_of(f0, voiced)
    same, at = run_through(f0, phase, voiced, HOP, RATE, 1)
    assert torch.equal(same, f0)
    assert float(apart(at, phase).max()) < 1e-9
    fine, ran = (value.view(4, 64) for value in run_through(f0, phase, voiced, HOP, RATE, 64))
    assert fine[0, -1] == pytest.approx(105, abs=0.2)
    assert fine[1, 0] == pytest.approx(105, abs=0.2)
    assert fine[2, 32:].tolist() == [130] * 32  # what a frame without voice says of F0 is nothing to run to
    step = 2 * math.pi * 105 * HOP / 64 / RATE
    assert float(apart(ran[1, 0] - ran[0, -1], torch.tensor(step))) < 0.01
    assert float(apart(ran[2, 0] - ran[1, -1], torch.tensor(step * 120 / 105))) < 0.01


def test_no_harmonic_reaches_half_the_sample_rate():
    spectrum = spectrum_of(torch.tensor([[3000.0]]), torch.zeros(1, 1, dtype=torch.float64), N_FFT, RATE)[0, 0].abs()
    at = spectrum > 0.9
    assert (torch.arange(641)[at] * RATE / N_FFT).tolist() == [3000, 6000]
    assert spectrum[600:].max() == 0


def test_the_callers_default_type_changes_nothing():
    f0 = torch.tensor([[123.4, 125.0]])
    expected = spectrum_of(f0, phase_of(f0), N_FFT, RATE)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(spectrum_of(f0, phase_of(f0), N_FFT, RATE), expected)
    finally:
        torch.set_default_dtype(torch.float32)
