"""Ids of a language model: what is written is read again, and nothing else is."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layouts import BODIES, SHAPES, TEXT, bundle_of, carried, info_of, layouts, utterances, vocabulary_of
from unitoken import TokenBundle, lm
from unitoken.errors import ConfigError, LayoutError, TokenError


def test_ranges_of_ids_touch_and_do_not_overlap():
    for first in (True, False):
        vocabulary = vocabulary_of(text_first=first)
        assert vocabulary.kinds[0].first == 0
        for kind, after in zip(vocabulary.kinds, vocabulary.kinds[1:], strict=False):
            assert kind.stop == after.first
        assert vocabulary.size == TEXT + 10 + 3 * 5 + 8 + 9 + 3 + 3
        assert (vocabulary.kind("text").first == 0) is first
        assert [vocabulary.describe(id) for id in (vocabulary.pad, vocabulary.kind("s0").first + 7)] == ["pad", "s0 7"]
    assert vocabulary.describe(-1) == f"-1, which is outside 0 to {vocabulary.size - 1}"


def test_strings_name_each_id():
    vocabulary = vocabulary_of()
    names = vocabulary.strings()
    assert len(set(names)) == len(names) == vocabulary.size - TEXT
    assert names[vocabulary.kind("g2").first + 4 - TEXT] == "<|g2_4|>"
    assert names[vocabulary.eos - TEXT] == "<|eos|>"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"text_size": -1}, "text_size must be 0 or more, got -1"),
        ({"longest_run": -2}, "longest_run must be 0 or more, got -2"),
        ({"merges": ((0, 8),)}, "merge 0 must be a pair of numbers from 0 to 7, got (0, 8)"),
        ({"info": info_of(books_s=2)}, "runs and pieces are of one codebook, S has 2"),
    ],
)
def test_vocabulary_refuses(change, text):
    with pytest.raises(ConfigError, match=text.replace("(", r"\(").replace(")", r"\)")):
        lm.Vocabulary(**{"info": info_of(), "longest_run": 3, **change})


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_layout_comes_back_from_its_file(tmp_path, body):
    layout = lm.Layout(vocabulary_of(), body, text="after")
    layout.save(tmp_path / "layout.json")
    again = lm.Layout.load(tmp_path / "layout.json")
    assert (again.vocabulary, again.body, again.text) == (layout.vocabulary, body, "after")
    assert json.loads((tmp_path / "layout.json").read_text())["vocabulary"]["info"]["fingerprint"] == "0123abcd"


def test_vocabulary_comes_back_from_its_file(tmp_path):
    vocabulary = vocabulary_of()
    vocabulary.save(tmp_path / "v.json")
    assert lm.Vocabulary.load(tmp_path / "v.json") == vocabulary
    (tmp_path / "v.json").write_text('{"format": 2}')
    with pytest.raises(ConfigError, match="expected a vocabulary of format 1"):
        lm.Vocabulary.load(tmp_path / "v.json")
    (tmp_path / "v.json").write_text('{"format": 1}')
    with pytest.raises(ConfigError, match="the vocabulary is incomplete"):
        lm.Vocabulary.load(tmp_path / "v.json")
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        lm.Vocabulary.load(tmp_path / "v.json")
    (tmp_path / "v.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no layout"):
        lm.Layout.load(tmp_path / "v.json")


def test_a_vocabulary_without_what_a_layout_needs_is_refused():
    plain = lm.Vocabulary(info_of())
    for body, needed in ((lm.Runs(), "longest_run="), (lm.Pieces(), "merges=")):
        with pytest.raises(ConfigError, match=f"build it with {needed}"):
            lm.Layout(plain, body)
    with pytest.raises(ConfigError, match="build it with text_size="):
        lm.Layout(plain, lm.Semantic(), text="before")
    with pytest.raises(ConfigError, match="delay must be 0 or more groups, got -1"):
        lm.Interleaved(-1)
    with pytest.raises(ConfigError, match="equal rates"):
        lm.Layout(vocabulary_of(SHAPES[2]), lm.Interleaved(), text="after")
    with pytest.raises(ConfigError, match="text must be one of none, before, after, got 'both'"):
        lm.Layout(plain, lm.Semantic(), text="both")


@given(st.data())
def test_ids_give_back_what_was_written(data):
    layout = data.draw(layouts())
    bundle, spans = data.draw(utterances(layout))
    ids = layout.to_ids(bundle, spans)
    assert layout.from_ids(ids, num_samples=bundle.num_samples) == carried(layout, bundle, whole=False)
    assert layout.from_ids(ids) == carried(layout, bundle)
    assert layout.from_ids([*ids.tolist(), *[layout.vocabulary.pad] * 3]) == carried(layout, bundle)
    if spans is not None:
        assert layout.spans_of(ids) == spans


@given(st.data())
def test_ids_read_one_by_one_give_the_same_frames(data):
    layout = data.draw(layouts())
    bundle, spans = data.draw(utterances(layout))
    reader, parts = lm.Reader(layout), []
    for id in layout.to_ids(bundle, spans):
        assert not reader.finished
        parts.append(reader.push(id))
    assert TokenBundle.concat([*parts, reader.finish()]) == carried(layout, bundle)
    assert (reader.g is None) == (bundle.g is None)


def test_frames_are_ready_with_the_id_that_completes_them():
    bundle = bundle_of(info_of(), 5 * 640)
    for body, ready in ((lm.Interleaved(), [0, 1] * 5), (lm.Interleaved(2), [0, 0] + [0, 1] * 3 + [1, 1]), (lm.Sequential(), [0] * 6 + [1] * 5)):
        layout = lm.Layout(vocabulary_of(), body)
        reader = lm.Reader(layout)
        given = [len(reader.push(id)) for id in layout.to_ids(bundle)]
        assert given == [0] * 6 + ready + [0]  # BOS, marker, three of G, marker


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lm.Semantic(), "bos global g0 g1 g2 semantic s0 s0 s0 eos"),
        (lm.Sequential(), "bos global g0 g1 g2 semantic s0 s0 s0 residual p0 p0 p0 eos"),
        (lm.Interleaved(), "bos global g0 g1 g2 frames s0 p0 s0 p0 s0 p0 eos"),
        (lm.Interleaved(1), "bos global g0 g1 g2 frames s0 s0 p0 s0 p0 p0 eos"),
        (lm.Interleaved(9), "bos global g0 g1 g2 frames s0 s0 s0 p0 p0 p0 eos"),
    ],
)
def test_order_of_ids(body, expected):
    layout = lm.Layout(vocabulary_of(), body)
    bundle = bundle_of(info_of(), 3 * 640)
    ids = layout.to_ids(bundle)
    assert " ".join(layout.vocabulary.kinds[number].name for number in layout.vocabulary.numbers_of(ids)) == expected
    spoken = ids[np.isin(layout.vocabulary.numbers_of(ids), [layout.vocabulary.number("s0")])]
    assert (spoken - layout.vocabulary.kind("s0").first).tolist() == bundle.s.tolist()


def test_order_of_ids_where_rates_differ():
    vocabulary = vocabulary_of((640, 1280, 1, 2))
    ids = lm.Layout(vocabulary, lm.Interleaved(1)).to_ids(bundle_of(vocabulary.info, 5 * 640, g=False))
    names = " ".join(vocabulary.kinds[number].name for number in vocabulary.numbers_of(ids))
    assert names == "bos frames s0 s0 s0 s0 p0 p1 s0 p0 p1 p0 p1 eos"


def test_runs_and_pieces():
    vocabulary = vocabulary_of()
    bundle = TokenBundle([5, 5, 5, 5, 5, 0, 1, 2], None, None, 8 * 640, vocabulary.info)

    def told(body):
        ids = lm.Layout(vocabulary, body).to_ids(bundle)
        return [vocabulary.describe(id) for id in ids[2:-1].tolist()]

    assert told(lm.Runs()) == ["s0 5", "run 2", "s0 5", "run 1", "s0 0", "run 0", "s0 1", "run 0", "s0 2", "run 0"]
    triple = TokenBundle([5] * 6, None, None, 6 * 640, vocabulary.info)  # as long as two of the longest runs
    assert lm.Layout(vocabulary, lm.Runs()).from_ids(lm.Layout(vocabulary, lm.Runs()).to_ids(triple)) == triple
    assert told(lm.Pieces()) == ["s0 5"] * 5 + ["piece 1"]


def test_pieces_are_learnt_from_what_is_frequent():
    info = info_of()
    bundles = [TokenBundle([1, 2, 3, 7, 1, 2, 3], None, None, 7 * 640, info), TokenBundle([4, 1, 2, 3], None, None, 4 * 640, info)]
    vocabulary = lm.train_pieces(lm.Vocabulary(info), bundles, 2)
    assert [tokens.tolist() for tokens in vocabulary.expansions[8:]] in ([[1, 2], [1, 2, 3]], [[2, 3], [1, 2, 3]])
    layout = lm.Layout(vocabulary, lm.Pieces())
    ids = layout.to_ids(bundles[0])
    assert len(ids) == 3 + 3
    assert layout.from_ids(ids) == bundles[0]
    with pytest.raises(ConfigError, match="number must be 1 or more, got 0"):
        lm.train_pieces(vocabulary, bundles, 0)
    with pytest.raises(ConfigError, match="pieces are of one codebook"):
        lm.train_pieces(lm.Vocabulary(info_of(books_s=2)), bundles, 2)


@given(st.data())
def test_each_id_of_a_frame_knows_its_time(data):
    layout = data.draw(layouts())
    bundle, spans = data.draw(utterances(layout))
    ids = layout.to_ids(bundle, spans)
    seconds = layout.seconds(ids)
    assert seconds.shape == ids.shape
    info = layout.info
    for stream, count, per_frame in (
        ("s", len(bundle.s), info.s.num_codebooks),
        ("p", 0 if bundle.p is None else len(bundle.p), info.p.num_codebooks),
    ):
        kinds = [number for number, kind in enumerate(layout.vocabulary.kinds) if kind.stream == stream]
        if stream == "s" and layout.body.name in ("runs", "pieces"):
            continue
        hop = getattr(info, stream).hop
        times = seconds[np.isin(layout.vocabulary.numbers_of(ids), kinds)]
        if stream in layout.streams:
            assert times.tolist() == pytest.approx([frame * hop / 16000 for frame in range(count) for _ in range(per_frame)])
    outside = ~np.isin(
        layout.vocabulary.numbers_of(ids),
        [n for n, kind in enumerate(layout.vocabulary.kinds) if kind.stream in ("s", "p") or kind.name in ("run", "piece")],
    )
    assert np.isnan(seconds[outside]).all()


def test_a_time_has_an_id():
    bundle = TokenBundle([5, 5, 5, 5, 5, 0, 1, 2], None, None, 8 * 640, info_of())
    runs = lm.Layout(vocabulary_of(), lm.Runs())
    ids = runs.to_ids(bundle)
    assert [runs.vocabulary.describe(int(ids[runs.index_at(ids, time)])) for time in (0, 0.119, 0.121, 0.2, 0.319)] == [
        "run 2",
        "run 2",
        "run 1",
        "run 0",
        "run 0",
    ]
    with pytest.raises(LayoutError, match=r"no frame is at 0.32 s; those of the sequence end at 0.320 s"):
        runs.index_at(ids, 0.32)
    pieces = lm.Layout(vocabulary_of(), lm.Pieces())
    ids = pieces.to_ids(bundle)
    assert pieces.seconds(ids)[-2] == pytest.approx(0.2)
    assert pieces.index_at(ids, 0.3) == len(ids) - 2


def test_loss_is_on_frames_and_on_what_is_asked_for():
    layout = lm.Layout(vocabulary_of(), lm.Interleaved(), text="before")
    bundle = bundle_of(info_of(), 2 * 640)
    ids = np.append(layout.to_ids(bundle, [lm.Span((4, 5), 2)]), layout.vocabulary.pad)
    opening, text, frames, rest = [0] + [0] * 4, [0] * 3, [1] * 6, [0]  # BOS and G; text and its marker; marker, frames, EOS
    assert layout.loss_mask(ids).astype(int).tolist() == opening + text + frames + rest
    assert layout.loss_mask(ids, text=True).astype(int).tolist() == opening + [1] * 3 + frames + rest
    assert layout.loss_mask(ids, g=True).astype(int).tolist() == [0] + [1] * 4 + text + frames + rest
    ids = layout.to_ids(bundle, [lm.Span((4, 5), 1), lm.Span((6,), 1)])
    again = [1, 0]  # that more text is wanted is learnt, what it is is given
    assert layout.loss_mask(ids).astype(int).tolist() == opening + text + [1] * 3 + again + [1] * 3 + [1]
    after = lm.Layout(vocabulary_of(), lm.Interleaved(), text="after")
    ids = after.to_ids(bundle, [lm.Span((4, 5), 1), lm.Span((6,), 1)])
    assert after.loss_mask(ids).astype(int).tolist() == opening + [1] * 3 + [0] * 3 + [1] * 3 + [0] * 2 + [1]


def test_a_prefix_is_how_a_sequence_begins():
    bundle = bundle_of(info_of(), 2 * 640)
    plain = lm.Layout(vocabulary_of(), lm.Interleaved())
    assert plain.prefix(bundle.g).tolist() == plain.to_ids(bundle)[:6].tolist()
    assert plain.prefix().tolist() == plain.to_ids(bundle.replace(g=None))[:2].tolist()
    told = lm.Layout(vocabulary_of(), lm.Interleaved(), text="before")
    assert told.prefix(bundle.g, [7, 8]).tolist() == told.to_ids(bundle, [lm.Span((7, 8), 2)])[:9].tolist()
    with pytest.raises(LayoutError, match="needs text in its prefix"):
        told.prefix(bundle.g)
    with pytest.raises(LayoutError, match="has no text in its prefix"):
        plain.prefix(bundle.g, [1])
    with pytest.raises(LayoutError, match="text must be ids from 0 to 49, got 7 to 50"):
        told.prefix(bundle.g, [7, 50])
    with pytest.raises(TokenError):
        plain.prefix([1, 2])


def test_what_a_layout_cannot_carry_is_refused():
    layout = lm.Layout(vocabulary_of(), lm.Interleaved())
    bundle = bundle_of(info_of(), 3 * 640)
    with pytest.raises(LayoutError, match="carries P, the bundle has none"):
        layout.to_ids(bundle.replace(p=None))
    with pytest.raises(LayoutError, match="the bundle is of toy"):
        layout.to_ids(bundle_of(info_of(size=9), 640))
    with pytest.raises(LayoutError, match="this layout has no text"):
        layout.to_ids(bundle, [lm.Span((), 3)])
    with pytest.raises(LayoutError, match="this layout has no text"):
        layout.spans_of(layout.to_ids(bundle))
    told = lm.Layout(vocabulary_of(), lm.Interleaved(), text="after")
    for spans, given_spans in ((None, "no spans"), ([lm.Span((), 2)], r"spans of \[2\]"), ([lm.Span((), 4), lm.Span((), -1)], r"spans of \[4, -1\]")):
        with pytest.raises(LayoutError, match=f"frames add up to the bundle's 3 of S, got {given_spans}"):
            told.to_ids(bundle, spans)


def test_what_a_layout_cannot_have_is_refused():
    layout = lm.Layout(vocabulary_of(), lm.Interleaved())
    ids = layout.to_ids(bundle_of(info_of(), 3 * 640, g=False)).tolist()
    with pytest.raises(LayoutError, match=r"at index 3: expected p0, got s0 . \(id"):
        layout.from_ids([*ids[:3], *ids[4:]])
    with pytest.raises(LayoutError, match="ends after 6 ids where s0 or eos should follow"):
        layout.from_ids(ids[:6])
    with pytest.raises(LayoutError, match="which is outside 0 to"):
        layout.from_ids([*ids, 10**6])
    with pytest.raises(ConfigError, match="ids must be integers in one row"):
        layout.from_ids(torch.zeros(2, 2))
    reader = lm.Reader(layout)
    reader.push(ids[0])
    place = reader.place
    with pytest.raises(LayoutError):
        reader.push(ids[0])
    assert reader.place == place
    with pytest.raises(LayoutError, match="the sequence ends where global or frames should follow"):
        reader.finish()
