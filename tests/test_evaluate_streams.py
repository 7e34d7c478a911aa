"""What moves tokens, what G is heard from, and what swapped streams do to words and melody."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import tokenizer
from speechlike import glide, speech
from unitoken import save_audio
from unitoken.errors import ConfigError
from unitoken.evaluate import changes
from unitoken.evaluate.changes import CHANGES, Change
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.references import Speaker, by_reference
from unitoken.evaluate.robustness import token_distances, unit_edit_distance
from unitoken.evaluate.swap import Pair, measure_melody, measure_melody_swaps, measure_swaps
from unitoken.tokens import StreamInfo, TokenBundle, TokenizerInfo


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0),
        ([1, 1, 2, 2, 2, 3], [1, 2, 3, 3], 0),
        ([1, 2, 3, 4], [1, 9, 3, 4], 0.25),
        ([1, 2, 3, 4], [1, 3, 4], 0.25),
        ([1, 2], [5, 1, 6, 2, 7], 1.5),
        ([7], [], 1),
    ],
)
def test_unit_edit_distance(before, after, distance):
    assert unit_edit_distance(before, after) == distance


def test_nothing_to_compare_with():
    with pytest.raises(ConfigError, match="no tokens to compare with"):
        unit_edit_distance([], [1])
    with pytest.raises(ConfigError, match="no clips to measure"):
        token_distances(tokenizer(), [])


@given(st.lists(st.integers(0, 4), min_size=1), st.lists(st.integers(0, 4), min_size=1))
def test_a_distance_is_zero_for_equal_runs_only(one, two):
    runs = [[token for index, token in enumerate(tokens) if not index or token != tokens[index - 1]] for tokens in (one, two)]
    assert (unit_edit_distance(one, two) == 0) == (runs[0] == runs[1])


def change(name, clip):
    return CHANGES[name].apply(clip, torch.Generator().manual_seed(0))


def test_what_the_changes_do(monkeypatch):
    clip = speech(1.0) * 0.3
    power = clip.square().mean()
    assert change("gain-12", clip).square().mean() == pytest.approx(float(power) * 10**-1.2, rel=1e-4)
    for decibel in (20, 10, 5):
        rush = change(f"noise-{decibel}", clip) - clip
        assert float(10 * (power / rush.square().mean()).log10()) == pytest.approx(decibel, abs=0.2)
    assert len(change("speed-0.9", clip)) == 17778
    assert len(change("speed-1.1", clip)) == 14546
    late = change("10-ms", clip)
    assert torch.equal(late[160:], clip)
    assert not late[:160].any()
    click = torch.zeros(16000)
    click[100] = 0.9
    room = change("room", click)
    assert room[100] == pytest.approx(0.9, abs=1e-4)
    assert room[101:].square().sum() == pytest.approx(0.9**2 / 4, rel=0.02)
    early, later = room[101:900].square().sum(), room[5000:].square().sum()
    assert later < early * 1e-2
    for decibel, loudest in ((0, 1), (40, 0.01)):
        assert float(change(f"peak-{decibel}", clip).abs().max()) == pytest.approx(loudest, rel=1e-5)
    assert torch.equal(change("peak-0", torch.zeros(10)), torch.zeros(10))
    spectrum = torch.fft.rfft(change("8-khz", torch.randn(16000, generator=torch.Generator().manual_seed(0)))).abs()
    assert spectrum[4200:].mean() < 0.01 * spectrum[:3800].mean()
    seen = []
    monkeypatch.setattr(changes.Opus, "roundtrip", lambda self, waveform: seen.append(self.kilobits) or SimpleNamespace(waveform=waveform))
    assert torch.equal(change("opus-12", clip), clip)
    assert seen == [12]


UNCHANGED = Change("none", lambda clip, _: clip)


@pytest.mark.parametrize(("name", "error"), [("gain-12", 0), ("peak-40", 0), ("peak-0", 0), ("speed-0.9", 0.02), ("speed-1.1", 0.02), ("10-ms", 0)])
def test_changes_of_level_and_time_are_undone(name, error):
    clip = speech(1.0) * 0.3
    back = CHANGES[name].undo(change(name, clip), clip)
    assert back.shape == clip.shape
    assert float((back - clip).square().mean() / clip.square().mean()) <= error + 1e-9


class Levels:
    """A tokenizer whose S is the level of each frame in steps of 6 dB, and whose P never moves."""

    def encode(self, audio, *, sample_rate):
        frames = torch.nn.functional.pad(audio, (0, -len(audio) % 640)).view(-1, 640)
        s = (frames.square().mean(1) + 1e-9).log2().div(2).round().long() + 40
        info = TokenizerInfo("fake", "0f", 16000, StreamInfo(640, 1, 64), StreamInfo(640, 1, 16), 2, 8, "Apache-2.0", "Apache-2.0")
        return TokenBundle(s, torch.zeros_like(s), torch.tensor([1, 2]), len(audio), info)


def test_tokens_of_levels_move_with_the_level():
    ramp = torch.randn(32000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, -1, 32000)
    found = token_distances(Levels(), [ramp], (UNCHANGED, changes.gain(6.02), changes.noise(0)))
    assert found["none"] == {"s": 0, "p": 0}
    assert 0 < found["gain +6.02 dB"]["s"] < 0.3  # the same steps, one up: the first is lost and a new one comes
    assert found["noise 0 dB"]["s"] > 0.5
    assert found["noise 0 dB"]["p"] == 0


class Hearer:
    """Encodes a voice as the peak of its references' spectrum; decoding hums it. Short references are misheard."""

    def __init__(self):
        self.given = []

    def encode(self, audio, *, sample_rate, latents=False):
        self.heard = audio
        return tokenizer().encode(audio, sample_rate=sample_rate, latents=latents)

    def encode_global(self, audio, *, sample_rate):
        self.given.append([len(clip) for clip in audio])
        joined = torch.cat(audio)
        self.hum = joined if len(joined) > 40000 else torch.randn(40000)
        return self.encode(joined, sample_rate=sample_rate).g

    def decode(self, bundle, *, quantized_g=True):
        if bundle.latents is None:
            return self.hum
        return self.heard if not quantized_g else self.heard * torch.cos(0.04 * torch.arange(len(self.heard)))  # 100 Hz lower


class Peak:
    """A speaker embedder: the loudest frequency as an angle."""

    def embed(self, waveform):
        peak = float(np.abs(np.fft.rfft(waveform.numpy())).argmax()) / len(waveform) * 16000
        return torch.tensor([np.cos(peak / 200), np.sin(peak / 200)], dtype=torch.float32)


def test_longer_references_and_more_of_them():
    def tone(hz):
        return 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(35200) / 16000)  # 2.2 s

    speakers = [Speaker("a", [tone(100), tone(100), tone(100), tone(100)]), Speaker("b", [tone(220), tone(220)])]
    hearer = Hearer()
    found = by_reference(hearer, speakers, speech(0.5), Peak())
    counts = {"1 s": 2, "2 s": 2, "3 s": 2, "5 s": 1, "1 clips": 2, "2 clips": 2, "4 clips": 1, "all": 2, "all, not quantized": 2}
    assert {name: count for name, (_, count) in found.items()} == counts
    assert found["all, not quantized"][0] == pytest.approx(1, abs=1e-3)
    assert found["all"][0] < 0.95
    assert found["3 s"][0] == found["4 clips"][0] == pytest.approx(1, abs=1e-3)
    assert found["1 s"][0] < 0.9
    assert hearer.given[:4] == [[16000], [32000], [48000], [80000]]
    assert [35200] * 4 in hearer.given
    with pytest.raises(ConfigError, match="no speakers"):
        by_reference(hearer, [], speech(0.5), Peak())


class Mixer:
    """A tokenizer whose decoder sings the melody that P came from (or hums) in the clip that S came from, its level that of G's clip."""

    def __init__(self):
        self.tok, self.clips = tokenizer(), []

    def encode(self, audio, *, sample_rate):
        bundle = self.tok.encode(audio, sample_rate=sample_rate)
        self.clips.append(audio)
        number = len(self.clips) - 1
        return bundle.replace(s=torch.full_like(bundle.s, number), p=torch.full_like(bundle.p, number), g=torch.full_like(bundle.g, number))

    def decode(self, bundle):
        melody = glide(bundle.num_samples / 16000, 150, 150) if bundle.p is None else self.clips[int(bundle.p[0])]
        melody = torch.nn.functional.pad(melody, (0, max(0, bundle.num_samples - len(melody))))[: bundle.num_samples]
        return melody if int(bundle.g[0]) == int(bundle.s[0]) else melody * 0.5


class FakeAsr:
    """Hears every second word of quiet clips wrong."""

    name = "fake"

    def knows(self, language):
        return language == "en"

    def transcribe(self, waveform, language):
        return "one two three four" if waveform.abs().max() > 0.4 else "one too three for"


@pytest.fixture
def pair(tmp_path):
    rows = []
    for name, language, transcript in (("up", "en", ""), ("down", "ar", "")):
        wave = glide(2.0, 110, 220) if name == "up" else glide(2.4, 260, 130)
        save_audio(tmp_path / f"{name}.wav", wave, 16000)
        rows.append(f"{name}.wav\tx\t{name}\t{language}\t2\t{transcript}\n")
    (tmp_path / "m.tsv").write_text("path\tsource\tspeaker\tlanguage\tseconds\ttranscript\n" + "".join(rows))
    return Pair(*read_manifest(tmp_path / "m.tsv"), across_sex=False)


def test_a_melody_follows_p(pair):
    (swap,) = measure_melody_swaps(Mixer(), [pair])
    assert swap.to_target > 0.99
    assert swap.to_source < -0.9
    (own,) = measure_melody(Mixer(), [pair.source])
    (without,) = measure_melody(Mixer(), [pair.source], drop_p=True)
    assert own > 0.99
    assert without is None or abs(without) < 0.5


def test_melody_and_words_of_conversions(pair):
    (swap,) = measure_swaps(Mixer(), [pair], Peak(), FakeAsr())
    assert swap.melody == pytest.approx(1, abs=1e-3)
    assert swap.own_melody == pytest.approx(1, abs=1e-3)
    assert (swap.words.errors, swap.words.length, swap.own_words.errors) == (2, 4, 0)
    (back,) = measure_swaps(Mixer(), [Pair(pair.target, pair.source, across_sex=False)], Peak(), FakeAsr())
    assert (back.words, back.own_words) == (None, None)  # a language that is not transcribed
    (silent,) = measure_swaps(Mixer(), [pair], Peak())
    assert silent.words is None
