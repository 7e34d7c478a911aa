"""Voice conversion measured: which pairs are drawn, and what counts as nearer to the target."""

import numpy as np
import pytest
import torch

from models import tokenizer
from unitoken import save_audio
from unitoken.errors import ConfigError
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.swap import Swap, measure_pitch_swaps, measure_swaps, pitch_slope, voice_pairs

HEADER = "path\tsource\tspeaker\tlanguage\tseconds\ttranscript\textra\n"
SPEAKERS = {"a": ("f", 220.0), "b": ("f", 250.0), "c": ("m", 110.0), "d": ("m", 95.0)}


def write_manifest(folder, stated=True, speakers=SPEAKERS):
    """Two clips of buzz for each speaker, at their pitch."""
    rows = []
    for name, (sex, pitch) in speakers.items():
        for number in range(2):
            time = torch.arange(int(2.5 * 16000)) / 16000
            buzz = sum(torch.sin(2 * torch.pi * pitch * k * time) / k for k in range(1, 12)) * 0.1
            save_audio(folder / f"{name}{number}.wav", buzz, 16000)
            rows.append(f"{name}{number}.wav\tx\t{name}\ten\t2.5\t\t{f'sex={sex};age=30' if stated else ''}\n")
    (folder / "m.tsv").write_text(HEADER + "".join(rows))
    return read_manifest(folder / "m.tsv")


@pytest.mark.parametrize("stated", [True, False])
def test_every_second_pair_is_across_sex_stated_or_heard(tmp_path, stated):
    pairs = voice_pairs(write_manifest(tmp_path, stated), 20, seed=3)
    sexes = [(SPEAKERS[pair.source.speaker][0], SPEAKERS[pair.target.speaker][0]) for pair in pairs]
    assert [one != other for one, other in sexes] == [True, False] * 10 == [pair.across_sex for pair in pairs]
    assert all(pair.source.speaker != pair.target.speaker for pair in pairs)
    assert len({pair.source.speaker for pair in pairs}) == 4


def test_the_seed_decides_the_pairs(tmp_path):
    clips = write_manifest(tmp_path)
    assert voice_pairs(clips, 12, seed=1) == voice_pairs(clips, 12, seed=1) != voice_pairs(clips, 12, seed=2)


def test_too_few_speakers_or_too_short_clips_are_refused(tmp_path):
    clips = write_manifest(tmp_path, speakers={name: SPEAKERS[name] for name in "abc"})
    with pytest.raises(ConfigError, match="two speakers of each sex, the manifest has 2 female and 1 male"):
        voice_pairs(clips, 4)
    with pytest.raises(ConfigError, match="0 female and 0 male"):
        voice_pairs(clips, 4, min_seconds=3)


class PitchEmbedder:
    """Stands in for the speaker embedder: the loudest frequency as an angle."""

    def embed(self, waveform):
        peak = float(np.abs(np.fft.rfft(waveform.numpy())).argmax()) / len(waveform) * 16000
        return torch.tensor([np.cos(peak / 200), np.sin(peak / 200)], dtype=torch.float32)


class Swapper:
    """Stands in for a tokenizer whose `decode` gives the clip that g came from, or the one s came from."""

    def __init__(self, follow_g):
        self.follow_g, self.tok, self.clips = follow_g, tokenizer(), {}

    def encode(self, audio, *, sample_rate):
        bundle = self.tok.encode(audio, sample_rate=sample_rate)
        name = torch.full_like(bundle.g, len(self.clips))
        self.clips[len(self.clips)] = audio
        return bundle.replace(g=name, s=torch.full_like(bundle.s, len(self.clips) - 1))

    def decode(self, bundle):
        return self.clips[int((bundle.g if self.follow_g else bundle.s)[0])]


@pytest.mark.parametrize("follow_g", [True, False])
def test_a_voice_that_follows_g_is_nearer_to_the_target(tmp_path, follow_g):
    pairs = voice_pairs(write_manifest(tmp_path), 4)
    swaps = measure_swaps(Swapper(follow_g), pairs, PitchEmbedder())
    assert [swap.pair for swap in swaps] == pairs
    assert all(swap.nearer_to_target is follow_g for swap in swaps)
    assert all((swap.to_target if follow_g else swap.to_source) == pytest.approx(1, abs=1e-5) for swap in swaps)


def test_as_near_to_both_is_not_nearer():
    assert not Swap(None, 0.5, 0.5).nearer_to_target


@pytest.mark.parametrize(("follow_g", "slope"), [(True, 1.0), (False, 0.0)])
def test_the_height_of_a_voice_that_follows_g_goes_all_the_way(tmp_path, follow_g, slope):
    medians = measure_pitch_swaps(Swapper(follow_g), voice_pairs(write_manifest(tmp_path), 6))
    known = np.log([pitch for _, pitch in SPEAKERS.values()])
    assert np.abs(medians[..., None] - known).min(-1).max() < 0.03
    assert pitch_slope(medians) == pytest.approx((slope, slope), abs=0.05)


def test_pairs_without_a_voice_count_for_nothing():
    source, apart = np.array([4.5, 5, 5.2, 4.8]), np.array([0.5, -0.3, 0.2, 0.4])
    medians = np.stack([source, source + apart, source + 0.6 * apart + 0.1], 1)
    assert pitch_slope(np.concatenate([medians, [[5, np.nan, 5]]])) == pytest.approx((0.6, 1))
    with pytest.raises(ConfigError, match="three pairs with a voice, got 2"):
        pitch_slope(np.concatenate([medians[:2], [[5, np.nan, 5]]]))
