"""One row of ids for each codebook: read again, masked, and refused where it cannot be."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layouts import bundle_of, info_of
from unitoken import lm
from unitoken.errors import ConfigError, LayoutError

SHAPES = [(640, 640, 1, 1), (640, 640, 2, 1), (640, 1280, 3, 1)]


@st.composite
def parallels(draw):
    shape = draw(st.sampled_from(SHAPES))
    streams = draw(st.sampled_from(["s", "sp"] if shape[0] == shape[1] else ["s"]))
    rows = shape[2] + (shape[3] if streams == "sp" else 0)
    delays = draw(st.one_of(st.none(), st.lists(st.integers(0, 4), min_size=rows - 1, max_size=rows - 1).map(lambda rest: [0, *rest])))
    return lm.Parallel(lm.Vocabulary(info_of(*shape), text_size=3), streams, delays)


@given(parallels(), st.integers(0, 8 * 640), st.booleans(), st.integers(0, 3))
def test_ids_give_back_what_was_written(layout, samples, voiced, padding):
    bundle = bundle_of(layout.info, samples, g=voiced, p="p" in layout.streams)
    ids = layout.to_ids(bundle)
    ids = np.pad(ids, ((0, 0), (0, padding)), constant_values=layout.vocabulary.pad)
    assert layout.from_ids(ids, num_samples=samples) == bundle
    assert layout.from_ids(ids).num_samples == len(bundle.s) * layout.info.s.hop
    step = lm.Step("start")
    for column in ids.T.tolist():
        mask = layout.allowed(step, column[0])
        assert all(row[id] for row, id in zip(mask, column, strict=True))
        assert layout.allowed(step).logical_or(mask).equal(layout.allowed(step))  # what the first row has takes away only
        step = layout.step(step, column)
    assert step.part == "end"


@given(parallels(), st.integers(0, 99))
def test_what_is_drawn_under_the_mask_can_be_read(layout, seed):
    draw, columns, step = random.Random(seed), [], lm.Step("start")
    while step.part != "end":
        kinds = layout.allowed(step)[0].nonzero().flatten().tolist()
        first = draw.choice(kinds if len(columns) < 12 else [*(set(kinds) & {layout.vocabulary.eos, layout.vocabulary.pad}), *kinds][:1])
        rest = [draw.choice(row.nonzero().flatten().tolist()) for row in layout.allowed(step, first)[1:]]
        columns.append([first, *rest])
        step = layout.step(step, columns[-1])
    bundle = layout.from_ids(np.array(columns).T)
    assert layout.to_ids(bundle).tolist() == np.array(columns).T.tolist()


def test_rows_are_later_by_their_delays():
    layout = lm.Parallel(lm.Vocabulary(info_of(640, 640, 2, 1)), "sp", [0, 1, 2])
    bundle = bundle_of(layout.info, 3 * 640)
    ids, names = layout.to_ids(bundle), [kind.name for kind in layout.vocabulary.kinds]
    told = [" ".join(names[number] for number in layout.vocabulary.numbers_of(row)) for row in ids]
    assert told == [
        "bos global g0 g1 g2 s0 s0 s0 pad pad eos",
        "bos pad pad pad pad pad s1 s1 s1 pad eos",
        "bos pad pad pad pad pad pad p0 p0 p0 eos",
    ]
    nan = [np.nan] * 5
    expected = [[*nan, 0, 0.04, 0.08, *nan[:3]], [*nan, np.nan, 0, 0.04, 0.08, *nan[:2]], [*nan, *nan[:2], 0, 0.04, 0.08, np.nan]]
    assert layout.seconds(ids) == pytest.approx(np.array(expected), nan_ok=True)
    assert layout.loss_mask(ids).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1],
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
    ]
    assert layout.prefix(bundle.g).tolist() == ids[:, :5].tolist()


def test_refusals():
    vocabulary = lm.Vocabulary(info_of())
    for delays in ([1, 0], [0], [0, -1]):
        with pytest.raises(ConfigError, match=r"delays must be one of 0 or more for each of s0, p0, the first 0"):
            lm.Parallel(vocabulary, "sp", delays)
    with pytest.raises(ConfigError, match="streams must be s or sp, got 'p'"):
        lm.Parallel(vocabulary, "p")
    with pytest.raises(ConfigError, match="equal rates of S and P, got hops of 640 and 1280"):
        lm.Parallel(lm.Vocabulary(info_of(640, 1280)))
    layout = lm.Parallel(vocabulary)
    bundle = bundle_of(info_of(), 2 * 640)
    with pytest.raises(LayoutError, match="the bundle has none"):
        layout.to_ids(bundle.replace(p=None))
    with pytest.raises(LayoutError, match="the bundle is of toy"):
        layout.to_ids(bundle_of(info_of(size=9), 640))
    ids = layout.to_ids(bundle)
    with pytest.raises(LayoutError, match=r"shape \(2, steps\), got int64 \(1, 8\)"):
        layout.from_ids(ids[:1])
    with pytest.raises(LayoutError, match="ends after 7 steps, without a step of EOS"):
        layout.from_ids(ids[:, :-1])
    ids[1, 6] = vocabulary.pad
    with pytest.raises(LayoutError, match=r"at step 6: row 1 \(p0\): expected p0, got pad"):
        layout.from_ids(ids)


def test_files(tmp_path):
    path = tmp_path / "rows.json"
    layout = lm.Parallel(lm.Vocabulary(info_of(), text_size=5), "sp", [0, 2])
    layout.save(path)
    again = lm.Parallel.load(path)
    bundle = bundle_of(info_of(), 3 * 640)
    assert (again.vocabulary, again.streams, again.delays) == (layout.vocabulary, "sp", (0, 2))
    assert (again.to_ids(bundle) == layout.to_ids(bundle)).all()
    with pytest.raises(ConfigError, match="no layout"):
        lm.Layout.load(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9}))
    with pytest.raises(ConfigError, match="of format 9, this release reads 1"):
        lm.Parallel.load(path)
    lm.Layout(layout.vocabulary, lm.Interleaved()).save(path)
    with pytest.raises(ConfigError, match=r"no parallel layout: .parallel.; .* read it with Layout.load"):
        lm.Parallel.load(path)
