"""Codecs that hear changed clips, and how far their tokens move."""

import pytest
import torch

from models import tokenizer
from speechlike import speech, write_manifest
from unitoken.errors import ConfigError
from unitoken.evaluate import Decoded, Degraded, Original, TokenizerCodec, evaluate
from unitoken.evaluate.changes import CHANGES
from unitoken.evaluate.degraded import moved
from unitoken.evaluate.usage import StreamTokens

HEARD = [name for name in CHANGES if not name.startswith("opus")]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips"))


def figures(report):
    return {summary["codec"]: summary for summary in report.summaries()}


def test_what_was_done_to_level_and_time_is_not_held_against_the_codec(manifest):
    found = figures(evaluate(manifest, [Original(), *(Degraded(Original(), name) for name in HEARD)], metrics=["signal"]))
    assert [*found] == ["original", *(f"original, {CHANGES[name].title}" for name in HEARD)]
    distances = {name: found[f"original, {CHANGES[name].title}"]["mel_distance_db"] for name in HEARD}
    for name in ("gain-12", "peak-40", "peak-30", "peak-20", "peak-0", "10-ms"):
        assert distances[name] < 0.01
    assert 0.2 < distances["noise-20"] < distances["noise-10"] < distances["noise-5"]
    assert distances["room"] > 0.2
    assert distances["8-khz"] > 1000 * distances["peak-0"]  # these voices have little above 4 kHz


def test_tokens_that_move_are_counted(manifest):
    codec = TokenizerCodec(tokenizer())
    report = evaluate(manifest, [codec, Degraded(codec, "noise-5"), Degraded(codec, "noise-20")], metrics=["codebooks"])
    whole, loud, low = figures(report).values()
    assert whole["s_moved"] is whole["p_moved"] is None
    assert 0 < low["s_moved"] < loud["s_moved"]
    assert 0 < low["p_moved"] < loud["p_moved"]
    assert "| S moved | P moved |" in report.markdown()
    assert "s_moved,p_moved" in report.to_csv().splitlines()[0]


def test_without_the_codec_itself_nothing_moves(manifest):
    report = evaluate(manifest, [Degraded(TokenizerCodec(tokenizer()), "noise-5")], metrics=["codebooks"])
    assert "moved |" not in report.markdown()


def test_each_clip_has_noise_of_its_own_and_always_the_same():
    clip = speech(1.0) * 0.3
    one, again, other = (Degraded(Original(), "noise-5").roundtrip(clip, name).waveform for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, Degraded(Original(), "noise-5", seed=1).roundtrip(clip, "a").waveform)


@pytest.mark.parametrize("name", HEARD)
def test_clips_of_no_or_few_samples(name):
    for samples in (0, 1, 300):
        assert Degraded(Original(), name).roundtrip(torch.zeros(samples)).waveform.shape == (samples,)


def test_frames_of_several_codebooks_move_as_a_whole():
    before, after = StreamTokens(2, 8, [[1, 2], [3, 4]]), StreamTokens(2, 8, [[1, 2], [3, 5]])
    assert moved({"s": before, "p": before}, {"s": after}) == {"s_moved": 0.5}
    nothing = StreamTokens(1, 8, [])
    assert moved({"s": nothing}, {"s": nothing}) == {"s_moved": None}


def test_changes_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="unknown change 'rain'; there are: gain-12, "):
        Degraded(Original(), "rain")
    with pytest.raises(ConfigError, match="hears nothing"):
        Degraded(Decoded(tmp_path), "room")


def test_processes_of_their_own_hear_the_same(manifest):
    codecs = [Original(), Degraded(Original(), "room")]
    alone, together = (evaluate(manifest, codecs, metrics=["signal"], jobs=jobs) for jobs in (1, 2))
    one, two = ([row.values["mel_distance_db"] for row in report.rows] for report in (alone, together))
    assert one == pytest.approx(two)
