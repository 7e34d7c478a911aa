import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlike import glide, speech
from unitoken.errors import AudioError, MissingDependencyError
from unitoken.evaluate.mel import mel_filters
from unitoken.evaluate.signal import mel_distance, pesq_wb, stoi

MEASURES = [stoi, pesq_wb, mel_distance]


@pytest.fixture(scope="module")
def clip():
    return speech(2.0)


def test_equal_signals_score_the_ceiling(clip):
    assert stoi(clip, clip) == pytest.approx(1, abs=1e-6)
    assert pesq_wb(clip, clip) == pytest.approx(4.64, abs=0.005)
    assert mel_distance(clip, clip) == 0


def test_more_noise_scores_worse(clip):
    noise = torch.randn(len(clip), generator=torch.Generator().manual_seed(1))
    scores = [[measure(clip, clip + level * noise) for level in (0.003, 0.03, 0.3)] for measure in MEASURES]
    assert scores[0] == sorted(scores[0], reverse=True)
    assert scores[1] == sorted(scores[1], reverse=True)
    assert scores[2] == sorted(scores[2])
    assert scores[0][0] - scores[0][2] > 0.1
    assert scores[1][0] - scores[1][2] > 0.5


def test_extended_stoi_hears_the_shape_of_spectra(clip):
    assert stoi(clip, clip, extended=True) == pytest.approx(1, abs=1e-6)
    loudness = torch.nn.functional.avg_pool1d(clip.abs()[None], 401, 1, 200)[0]
    buzzing_noise = loudness * torch.randn(len(clip), generator=torch.Generator().manual_seed(1))
    assert stoi(clip, buzzing_noise, extended=True) < stoi(clip, buzzing_noise) - 0.1


@given(gain_db=st.floats(-6, 6))
def test_mel_distance_of_a_gain_is_the_gain(gain_db):
    loud = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(2))  # every band far above the floor
    assert mel_distance(loud, loud * 10 ** (gain_db / 20)) == pytest.approx(abs(gain_db), abs=1e-3)


def test_mel_distance_below_the_floor_is_nothing():
    assert mel_distance(torch.zeros(8000), torch.full((8000,), 1e-6)) == 0


@pytest.mark.parametrize("samples", [0, 1, 3000, 6399])
def test_too_short_is_left_out(samples):
    short = glide(1.0)[:samples]
    assert stoi(short, short) is None
    assert (pesq_wb(short, short) is None) == (samples < 4000)
    assert (mel_distance(short, short) is None) == (samples == 0)


def test_a_long_clip_with_little_speech_has_no_stoi():
    clip = torch.zeros(32000)
    clip[8000:12000] = speech(0.4)[:4000]
    assert stoi(clip, clip) is None


def test_silence_is_left_out(clip):
    silence = torch.zeros_like(clip)
    assert stoi(silence, clip) is None
    assert pesq_wb(silence, clip) is None
    assert pesq_wb(clip, silence) is None
    assert stoi(clip, silence) < 0.1


def test_pesq_refuses_no_clip_that_it_can_hold():
    clip = speech(20.0)
    assert pesq_wb(clip, clip) == pytest.approx(4.64, abs=0.005)
    longer = torch.cat([clip, torch.zeros(1)])
    assert pesq_wb(longer, longer) is None


@pytest.mark.parametrize("measure", MEASURES)
def test_lengths_must_agree(measure):
    with pytest.raises(AudioError, match=r"two mono waveforms .* got \(10,\) and \(11,\); align"):
        measure(torch.zeros(10), torch.zeros(11))


@pytest.mark.parametrize(("module", "measure"), [("pystoi", stoi), ("pesq", pesq_wb)])
def test_without_the_extra(module, measure, monkeypatch, clip):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'unitoken-speech\[evaluate\]'"):
        measure(clip, clip)


def _naive_filters(bands, n_fft, sample_rate):
    def to_mel(hz):
        return hz * 3 / 200 if hz < 1000 else 15 + np.log(hz / 1000) * 27 / np.log(6.4)

    def to_hz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27)

    edges = [to_hz(mel) for mel in np.linspace(0, to_mel(sample_rate / 2), bands + 2)]
    out = np.zeros((bands, n_fft // 2 + 1))
    for band in range(bands):
        low, centre, high = edges[band : band + 3]
        for k in range(n_fft // 2 + 1):
            hz = k * sample_rate / n_fft
            out[band, k] = max(0, min((hz - low) / (centre - low), (high - hz) / (high - centre))) * 2 / (high - low)
    return out


@pytest.mark.parametrize(("bands", "n_fft"), [(40, 400), (80, 1024)])
def test_mel_filters_against_the_definition(bands, n_fft):
    np.testing.assert_allclose(mel_filters(bands, n_fft, 16000).numpy(), _naive_filters(bands, n_fft, 16000), atol=1e-7)
