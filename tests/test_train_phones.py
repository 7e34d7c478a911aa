"""Phones that are told from S while it is trained."""

import dataclasses
import math

import pytest
import torch

from trainset import RUN, TINY, count_steps, log_of, make_codec, make_pool, make_teacher
from unitoken.errors import TrainError
from unitoken.train.features import FeatureCache, compute_features
from unitoken.train.handover import load_student
from unitoken.train.phones import PhoneHead, PhoneTable, phone_loss
from unitoken.train.refine import RefineSettings, train_refine
from unitoken.train.sampling import Crop
from unitoken.train.semantic import LessonMaker, SemanticSettings, train_semantic
from unitoken.train.teachers import load_teacher


def write_table(path, rows):
    path.write_text("path\tphones\n" + "".join(f"{name}\t{phones}\n" for name, phones in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phones")
    pool = make_pool(folder, 3, 2)
    compute_features(pool, load_teacher(make_teacher("hubert", folder / "teacher")), folder / "features")
    rows = [(u.path, "B AH Z" if u.speaker == "s0" else "Z") for u in pool.utterances if u.speaker != "s1"]
    return pool, FeatureCache(folder / "features", pool), PhoneTable(write_table(folder / "phones.tsv", rows))


def test_only_whole_utterances_have_phones(data):
    pool, _, table = data
    assert table.symbols == ("AH", "B", "Z")
    known, unknown = pool.utterances[0], next(u for u in pool.utterances if u.speaker == "s1")
    fast = dataclasses.replace(known, path=known.path + "@0.9", speed=0.9)
    crops = [Crop(known, 0, known.samples), Crop(known, 0, known.samples - 640), Crop(unknown, 0, unknown.samples), Crop(fast, 0, fast.samples)]
    assert [told.tolist() for told in table.of(crops)] == [[2, 1, 3], [], [], [2, 1, 3]]


@pytest.mark.parametrize("text", ["path\n", "path\ttext\na\tb\n", "path\tphones\na\n", "path\tphones\na\t\n"])
def test_a_table_without_phones_is_refused(tmp_path, text):
    (tmp_path / "p.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(TrainError, match=r"p\.tsv (is no table of phones|holds no phones)"):
        PhoneTable(tmp_path / "p.tsv")
    with pytest.raises(TrainError, match="is no table of phones"):
        PhoneTable(tmp_path / "none.tsv")


def test_the_loss_is_that_of_all_alignments():
    """Two frames and one phone: told in both, or beside a blank; what stands behind the mask does not count."""
    chances = torch.tensor([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    logits, mask = chances.log()[None], torch.tensor([1.0, 1.0, 0.0])[None, :, None]
    expected = -math.log(0.8 * 0.5 + 0.8 * 0.5 + 0.2 * 0.5)
    assert float(phone_loss(logits, mask, [torch.tensor([1])])) == pytest.approx(expected)
    both = phone_loss(logits.expand(2, -1, -1), mask.expand(2, -1, -1), [torch.tensor([1]), torch.empty(0, dtype=torch.int64)])
    assert float(both) == pytest.approx(expected)


def test_what_cannot_be_told_costs_nothing_and_still_has_a_gradient():
    head, mask = PhoneHead(4, 3), torch.ones(1, 2, 1)
    for phones in ([torch.empty(0, dtype=torch.int64)], [torch.tensor([1, 1, 2])]):
        head.zero_grad()
        loss = phone_loss(head(torch.randn(1, 2, 4)), mask, phones)
        loss.backward()
        assert float(loss.detach()) == 0
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())
    assert list(PhoneHead(4, None).parameters()) == []
    assert float(phone_loss(PhoneHead(4, None)(torch.randn(1, 2, 4)), mask, [torch.tensor([1])])) == 0


def phones_of(folder):
    return [float(row["phones"]) for row in log_of(folder)]


@pytest.mark.parametrize("refining", [False, True])
def test_a_stage_learns_to_tell_phones(data, tmp_path, monkeypatch, refining):
    pool, cache, table = data
    base = RefineSettings(RUN, batch=4, seconds=2, still=0) if refining else SemanticSettings(RUN, batch=4, seconds=2)
    states = []
    for name, settings in (("told", dataclasses.replace(base, phones=1.0)), ("silent", dataclasses.replace(base, phones=0.0))):
        count_steps(monkeypatch, 40)
        lessons = LessonMaker(pool, pool.utterances, cache, tmp_path / name, TINY, settings, phones=table)
        made = train_refine(make_codec(), lessons).student if refining else train_semantic(lessons)
        states.append(made.semantic.state_dict())
    told, silent = (phones_of(tmp_path / name) for name in ("told", "silent"))
    assert told[-1] < 0.7 * told[0]
    assert told[-1] < 0.8 * silent[-1]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_that_told_phones_is_a_student_again(data, tmp_path, monkeypatch):
    pool, cache, table = data
    count_steps(monkeypatch, 2)
    lessons = LessonMaker(pool, pool.utterances, cache, tmp_path, TINY, SemanticSettings(RUN, batch=4, seconds=2), phones=table)
    made, read = train_semantic(lessons), load_student(tmp_path, TINY)
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in made.state_dict().items())
