"""A sequence with edits loses no more than the frames that these touch, and the report says where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import BODIES, SHAPES, bundle_of, carried, info_of, layouts, utterances, vocabulary_of
from unitoken import TokenBundle, lm
from unitoken.lm.bodies import ratio


def longest_common(a, b):
    """Return the length of the longest common subsequence."""
    row = np.zeros(len(b) + 1, int)
    for one in a:
        same = np.concatenate([[0], row[:-1] + np.array([one == other for other in b], int)]) if len(b) else row
        row = np.maximum.accumulate(np.maximum(row, same))
    return int(row[-1])


def groups(layout, bundle, streams):
    """Return what survives or does not: groups of frames of both streams, or frames of one."""
    of_s, of_p = ratio(layout.info) if streams == "sp" else (1, 1)
    parts = {"s": (bundle.s, of_s), "p": (bundle.p, of_p)}
    split = [[tuple(part.flatten().tolist()) for part in parts[name][0].split(parts[name][1])] if len(parts[name][0]) else [] for name in streams]
    return list(zip(*split, strict=True))


def bound(layout):
    """Frames that an edit may cost, as `Report` says; runs and pieces have as many as one id may stand for."""
    if isinstance(layout.body, lm.Interleaved):
        return 2 * (1 + layout.body.delay)
    if isinstance(layout.body, lm.Sequential):
        return 2 * max(ratio(layout.info))
    return 1 if layout.body.streams == "s" and layout.info.s.num_codebooks == 1 else 2


@st.composite
def edits(draw, layout, ids, most=4):
    """Return ids with some added, taken away or changed, and how many; BOS stays."""
    ids, count = list(ids), draw(st.integers(1, most))
    for _ in range(count):
        at = draw(st.integers(0, len(ids)))
        what = draw(st.sampled_from(["add", "take", "change", "double"]))
        id = draw(st.one_of(st.integers(0, layout.vocabulary.size - 1), st.sampled_from([-5, 10**7]), st.sampled_from(ids)))
        if what == "add":
            ids.insert(at, id)
        elif what == "double" and at < len(ids):
            ids.insert(at, ids[at])
        elif what == "take" and at < len(ids):
            del ids[at]
        elif at < len(ids):
            ids[at] = id
        if not ids:
            ids = [layout.vocabulary.bos]
    return ids, count


@given(st.data())
def test_a_valid_sequence_needs_no_repair(data):
    layout = data.draw(layouts())
    bundle, spans = data.draw(utterances(layout))
    read, report = layout.from_ids(layout.to_ids(bundle, spans), strict=False)
    assert read == carried(layout, bundle)
    assert report.clean, report
    assert str(report) == "nothing to repair"
    if spans is not None:
        assert layout.spans_of(layout.to_ids(bundle, spans), strict=False) == (spans, report)


@settings(max_examples=300)
@given(st.data())
def test_an_edit_costs_no_more_than_the_two_spans_it_stands_between(data):
    layout = data.draw(layouts(text=("before", "after")))
    bundle, spans = data.draw(utterances(layout))
    ids, count = data.draw(edits(layout, layout.to_ids(bundle, spans).tolist()))
    found, report = layout.spans_of(ids, strict=False)
    read, said = layout.from_ids(ids, strict=False)
    assert (sum(span.frames for span in found), report) == (len(read.s), said)
    assert longest_common(spans, found) >= len(spans) - 2 * count


@settings(max_examples=300)
@given(st.data())
def test_an_edit_costs_no_more_than_the_frames_it_touches(data):
    layout = data.draw(layouts(text=("none",)))
    bundle, _ = data.draw(utterances(layout, most=20))
    ids, count = data.draw(edits(layout, layout.to_ids(bundle).tolist()))
    read, _ = layout.from_ids(ids, strict=False)
    cases = ["s", "p"] if layout.body.name == "sequential" else [layout.body.streams]
    v = layout.vocabulary
    size = {"pieces": max(map(len, v.expansions)), "runs": v.longest_run}.get(layout.body.name, 1)
    for streams in cases:
        before, after = groups(layout, carried(layout, bundle), streams), groups(layout, read, streams)
        assert longest_common(before, after) >= len(before) - bound(layout) * size * count


@settings(max_examples=100)
@given(st.data())
def test_anything_can_be_read(data):
    layout = data.draw(layouts())
    ids = data.draw(st.lists(st.integers(-3, layout.vocabulary.size + 3), max_size=30))
    read, report = layout.from_ids(ids, strict=False)
    assert set(layout.streams) >= {name for name in "gsp" if getattr(read, name) is not None}
    assert all(0 <= repair.index <= len(ids) for repair in report.repairs)


@pytest.mark.parametrize("body", [lm.Semantic(), lm.Interleaved(), lm.Interleaved(2)], ids=str)
def test_frames_far_from_an_edit_stay_where_they_are(body):
    layout = lm.Layout(vocabulary_of(), body)
    bundle = bundle_of(info_of(), 40 * 640, 3)
    ids = layout.to_ids(bundle).tolist()
    del ids[len(ids) // 2]
    read, report = layout.from_ids(ids, strict=False)
    assert len(read) == 39
    for part, whole in ((read[:17], bundle[:17]), (read[-17:], bundle[-17:])):
        assert part.s.equal(whole.s)
        assert part.p is None or part.p.equal(whole.p)
    assert report.clean is (body == lm.Semantic())  # nothing tells that a frame of one id is gone


def report_of(body, change, **more):
    layout = lm.Layout(vocabulary_of(**more), body)
    bundle = bundle_of(layout.info, 4 * 640, 1)
    ids = layout.to_ids(bundle).tolist()
    change(ids, layout.vocabulary)
    read, report = layout.from_ids(ids, strict=False)
    return bundle, read, [(repair.index, repair.what) for repair in report.repairs]


def test_the_report_says_what_was_done_and_where():
    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.insert(8, 10**6))
    assert read == bundle
    assert repairs == [(8, f"1000000, which is outside 0 to {vocabulary_of().size - 1} is no id of this layout and is left out")]

    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.insert(9, v.eos))
    assert read == bundle
    assert repairs == [(9, "eos does not belong here and is left out")]

    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.pop())
    assert read == bundle
    assert repairs == [(14, "eos is missing")]

    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.pop(3))
    assert read == bundle.replace(g=None)
    assert repairs == [(14, "G lacks codebook 1 and is left out")]

    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.insert(9, ids[3]))
    assert read == bundle
    assert repairs == [(9, "a second token of g1 left out")]

    bundle, read, repairs = report_of(lm.Interleaved(), lambda ids, v: ids.pop(8))  # S of frame 1
    assert read == TokenBundle.concat([bundle[:1], bundle[2:]])
    assert repairs == [(13, "1 frame without S or P left out")]

    bundle, read, repairs = report_of(lm.Runs(), lambda ids, v: ids.pop(7))
    assert repairs == [(6, "a token without a length is taken for one frame")]
    bundle, read, repairs = report_of(lm.Runs(), lambda ids, v: ids.pop(6))
    assert repairs == [(6, "a length without a token is left out")]


def test_frames_of_several_codebooks():
    layout = lm.Layout(vocabulary_of((640, 640, 2, 3)), lm.Semantic())
    bundle = bundle_of(layout.info, 4 * 640, 1)
    for at in (8, 9):  # the first and the last token of frame 1
        ids = layout.to_ids(bundle).tolist()
        del ids[at]
        read, report = layout.from_ids(ids, strict=False)
        assert read.s.tolist() == bundle.s[[0, 2, 3]].tolist()
    assert str(report) == "at index 8: a frame with missing tokens is left out"


def test_a_token_on_the_wrong_side_stands_for_one_that_is_missing():
    """S and P stay in step, since a foreign id has taken the place of one of S."""
    for foreign in (lambda v: v.kind("p0").first, lambda v: 10**6):
        layout = lm.Layout(vocabulary_of(), lm.Sequential())
        bundle = bundle_of(layout.info, 6 * 640, 1)
        ids = layout.to_ids(bundle).tolist()
        ids[8] = foreign(layout.vocabulary)
        read, report = layout.from_ids(ids, strict=False)
        assert read == TokenBundle.concat([bundle[:2], bundle[3:]])
        assert not report.clean


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_text_between_frames_is_not_frames(body):
    layout = lm.Layout(vocabulary_of(), body, text="before")
    bundle = bundle_of(layout.info, 10 * 640, 1)
    ids = layout.to_ids(bundle, [lm.Span((3, 4), 6), lm.Span((5,), 4)]).tolist()
    at = ids.index(layout.vocabulary.kind("transcript").first, 10)
    for broken in ([*ids[:at], *ids[at + 1 :]], [*ids[: at + 2], *ids[at + 3 :]]):  # without the marker of text, and without that of frames
        read, report = layout.from_ids(broken, strict=False)
        assert read == carried(layout, bundle)
        assert layout.spans_of(broken, strict=False) == ([lm.Span((3, 4), 6), lm.Span((5,), 4)], report)
        assert len(report.repairs) == 1


@pytest.mark.parametrize(
    ("text", "written", "found", "said"),
    [
        ("before", "TaaMffTbMf", [("aa", 2), ("b", 1)], []),
        ("before", "TTaaMffTbMMf", [("aa", 2), ("b", 1)], ["the marker of text comes twice", "the marker of frames comes twice"]),
        ("before", "TaaffbMf", [("aa", 2), ("b", 1)], ["the marker of frames is missing", "the marker of text is missing"]),
        ("before", "TaaMffMf", [("aa", 2), ("", 1)], []),
        ("before", "TMTM", [("", 0), ("", 0)], []),
        ("after", "MffTaaMfTb", [("aa", 2), ("b", 1)], []),
        ("after", "MffaafTb", [("aa", 2), ("b", 1)], ["the marker of text is missing", "the marker of frames is missing"]),
        ("after", "MffTfTb", [("", 2), ("b", 1)], ["the marker of frames is missing"]),
        ("after", "MffTaaTb", [("aa", 2), ("b", 0)], []),
    ],
)
def test_text_goes_with_its_frames_where_markers_are_missing_or_come_twice(text, written, found, said):
    layout = lm.Layout(vocabulary_of(), lm.Semantic(), text=text)
    kinds = {"T": "transcript", "M": layout.body.marker, "a": "text", "b": "text", "f": "s0"}
    v = layout.vocabulary
    ids = [v.bos, *(v.kind(kinds[one]).first + (one == "b") for one in written), v.eos]
    spans, report = layout.spans_of(ids, strict=False)
    assert spans == [lm.Span(tuple("ab".index(word) for word in words), frames) for words, frames in found]
    assert [repair.what.split(" or ")[0].removesuffix(" and is left out") for repair in report.repairs] == said


def test_shapes_are_all_tried():
    assert len({ratio(info_of(*shape)) for shape in SHAPES}) == 4
