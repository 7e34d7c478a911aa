import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlike import glide
from unitoken.errors import AudioError, MissingDependencyError
from unitoken.evaluate import pitch
from unitoken.evaluate.pitch import compare_f0, track_f0


def test_a_glide_is_tracked_within_two_per_cent():
    f0 = track_f0(glide(1.0, 120, 240))
    expected = 120 * 2 ** (torch.arange(len(f0)) * 256 / 16000)
    middle = slice(6, -6)
    assert len(f0) == 62
    assert ((f0[middle] / expected[middle] - 1).abs() < 0.02).all()


def test_a_steady_tone_complex():
    f0 = track_f0(glide(0.6, 200, 200))
    assert ((f0[6:-6] - 200).abs() < 3).all()
    scores = compare_f0(f0, f0)
    assert (scores.vuv_error, scores.gross_pitch_error) == (0, 0)
    flat = torch.full((40,), 200.0)
    assert compare_f0(flat, flat).f0_correlation is None  # nothing varies


def test_silence_noise_and_nothing_are_unvoiced():
    assert not track_f0(torch.zeros(8000)).any()
    assert not track_f0(0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))).any()
    assert track_f0(torch.zeros(0)).shape == (0,)
    assert track_f0(torch.zeros(1)).shape == (1,)


def test_follows_a_transposition_but_counts_it_as_gross():
    low, high = track_f0(glide(1.0, 100, 200)), track_f0(glide(1.0, 150, 300))
    scores = compare_f0(low, high)
    assert scores.f0_correlation > 0.99
    assert scores.gross_pitch_error == 1
    assert compare_f0(low, track_f0(glide(1.0, 200, 100))).f0_correlation < -0.99


def test_known_answers():
    reference = torch.tensor([0.0] * 4 + [100.0, 110, 120, 130] * 4)
    decoded = reference.clone()
    decoded[:3] = 150.0  # three of twenty frames voiced in one only
    decoded[4:8] = reference[4:8] * torch.tensor([1.19, 1.21, 0.81, 0.79])  # two of sixteen are off by more than a fifth
    scores = compare_f0(reference, decoded)
    assert scores.vuv_error == pytest.approx(3 / 20)
    assert scores.gross_pitch_error == pytest.approx(2 / 16)
    pairs = torch.stack([reference[4:].log(), decoded[4:].log()])
    assert scores.f0_correlation == pytest.approx(float(torch.corrcoef(pairs)[0, 1]), abs=1e-5)


@given(st.lists(st.floats(60, 500), min_size=10, max_size=40, unique=True), st.floats(0.5, 2), st.floats(0.5, 1.5))
def test_correlation_ignores_register_and_range(values, scale, power):
    track = torch.tensor(values, dtype=torch.float64)
    if float(track.log().std()) > 1e-3:
        assert compare_f0(track, scale * track**power).f0_correlation == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("voiced", [9, 10])
def test_needs_ten_frames_voiced_in_both(voiced):
    track = torch.zeros(30)
    track[:voiced] = torch.linspace(100, 200, voiced)
    scores = compare_f0(track, track)
    assert scores.vuv_error == 0
    assert (scores.f0_correlation is None) == (voiced == 9)
    assert (scores.gross_pitch_error is None) == (voiced == 9)


def test_no_frames_and_unequal_frames():
    scores = compare_f0(torch.zeros(0), torch.zeros(0))
    assert (scores.f0_correlation, scores.vuv_error, scores.gross_pitch_error) == (None, None, None)
    with pytest.raises(AudioError, match="F0 tracks of 3 and 4 frames cannot be compared"):
        compare_f0(torch.zeros(3), torch.zeros(4))


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    pitch.load_tracker.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"F0 tracking .*'unitoken-speech\[evaluate\]"):
        track_f0(torch.zeros(math.ceil(16000)))
