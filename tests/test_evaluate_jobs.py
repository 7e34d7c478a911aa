import os
import signal
from dataclasses import replace

import pytest
import torch

from speechlike import FakeAsr, FakeEmbedder, FakeTokenizer, write_manifest
from unitoken.errors import AudioError, ConfigError, UnitokenError
from unitoken.evaluate import Original, Roundtrip, TokenizerCodec, evaluate
from unitoken.evaluate.jobs import threads_each


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips"))


class Failing:
    """Refuses one clip; the bits of the others are the number of the process."""

    name = "failing"

    def __init__(self, clip, kill=False):
        self.clip, self.kill = clip, kill

    def roundtrip(self, waveform, clip=""):
        if clip == self.clip:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise AudioError(f"{clip} is not to my liking")
        return Roundtrip(waveform, os.getpid(), None, 1.0, 1.0)


def timeless(report):
    """Return the rows without times, and their figures; the last digits of sums depend on where in memory an array lies."""
    return [replace(row, encode_seconds=0, decode_seconds=0, values={}) for row in report.rows], [pytest.approx(row.values) for row in report.rows]


def test_several_jobs_give_the_same_figures_in_the_same_order(manifest):
    codecs = [Original(), TokenizerCodec(FakeTokenizer(), drop_p=True)]
    given = {"asr": FakeAsr(), "speakers": FakeEmbedder()}
    seen = []
    alone = evaluate(manifest, codecs, **given)
    together = evaluate(manifest, codecs, jobs=2, progress=lambda done, total: seen.append((done, total)), **given)
    rows, figures = timeless(alone)
    assert timeless(together)[0] == rows
    assert [row.values for row in together.rows] == figures
    assert together.usage == alone.usage
    assert together.context == alone.context | {"jobs": 2, "torch_threads": threads_each(2)}
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "2 clips at a time." in together.markdown()
    assert "at a time." not in alone.markdown()


def test_what_other_processes_have_done_is_kept_when_one_fails(manifest, tmp_path):
    journal = tmp_path / "clips.jsonl"
    with pytest.raises(AudioError, match=r"^c\.wav is not to my liking$"):
        evaluate(manifest, [Failing("c.wav")], metrics=["codebooks"], jobs=2, journal=journal)
    assert '"clip": "c.wav"' not in journal.read_text(encoding="utf-8")
    report = evaluate(manifest, [Failing("")], metrics=["codebooks"], jobs=2, journal=journal)
    assert [row.clip for row in report.rows] == ["a.wav", "b.wav", "c.wav"]
    assert os.getpid() != report.rows[0].bits


def test_a_job_that_is_killed_is_no_mystery(manifest):
    with pytest.raises(UnitokenError, match="ended early; if it was killed for want of memory take fewer jobs, if a script"):
        evaluate(manifest, [Failing("b.wav", kill=True)], metrics=["codebooks"], jobs=2)


def test_what_cannot_be_handed_over_is_refused(manifest):
    asr = FakeAsr()
    asr.listen = lambda waveform: ""
    with pytest.raises(ConfigError, match=r"cannot be handed to other processes \(.*give the recogniser as a folder or name, or take jobs=1"):
        evaluate(manifest, [Original()], asr=asr, jobs=2)
    with pytest.raises(ConfigError, match="jobs must be 1 or more, got 0"):
        evaluate(manifest, [Original()], jobs=0)


@pytest.mark.parametrize(("jobs", "threads"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_jobs_share_the_threads(monkeypatch, jobs, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads_each(jobs) == threads
