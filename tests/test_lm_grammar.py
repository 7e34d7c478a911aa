"""What a model may write: all of it can be read, all that can be read may be written, and each step takes the same time."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layouts import SHAPES, layouts, utterances, vocabulary_of
from unitoken import lm
from unitoken.errors import LayoutError


@given(st.data())
def test_all_that_is_written_is_allowed(data):
    layout = data.draw(layouts())
    place = layout.grammar.start
    for id in layout.to_ids(*data.draw(utterances(layout))).tolist():
        assert layout.allowed(place)[id]
        place = layout.grammar.step(place, id)
    assert place == layout.grammar.end
    assert layout.allowed(place).nonzero().flatten().tolist() == [layout.vocabulary.pad]


@given(st.data())
def test_what_is_not_allowed_is_refused(data):
    layout = data.draw(layouts())
    place = layout.grammar.start
    for id in layout.to_ids(*data.draw(utterances(layout, most=4))).tolist():
        for other in range(-1, layout.vocabulary.size + 1):
            if not (0 <= other < layout.vocabulary.size and layout.allowed(place)[other]):
                with pytest.raises(LayoutError):
                    layout.grammar.step(place, other)
        place = layout.grammar.step(place, id)


def sample(layout, draw, ends):
    """Return a sequence under the grammar, ids drawn with a random kind first; from `ends` ids on, it takes an end where it can."""
    grammar, ids = layout.grammar, []
    place, eos = grammar.start, layout.vocabulary.number("eos")
    while place != grammar.end:
        kinds = grammar.kinds(place)
        kind = layout.vocabulary.kinds[eos if eos in kinds and len(ids) > ends else draw.choice(kinds)]
        ids.append(kind.first + draw.randrange(kind.size))
        place = grammar.step(place, ids[-1])
        if len(ids) > 20 * (ends + 10):
            return None
    return ids


ALL = [
    lm.Layout(vocabulary_of(shape, text_first=first), body, text=text)
    for first in (True, False)
    for shape in SHAPES
    for body in (lm.Semantic(), lm.Sequential(), lm.Interleaved(), lm.Interleaved(1), lm.Interleaved(4), lm.Runs(), lm.Pieces())
    for text in ("none", "before", "after")
    if not (body.needs() and shape[2] > 1) and not (text != "none" and body.streams == "sp" and shape[0] != shape[1])
]


def test_hundred_thousand_random_sequences_can_be_read():
    draw = random.Random(0)
    wanted, read = 100_000, 0
    while read < wanted:
        layout = ALL[draw.randrange(len(ALL))]
        ids = sample(layout, draw, draw.randrange(12))
        if ids is None:
            continue
        bundle = layout.from_ids(ids)
        if not read % 20:
            assert layout.from_ids(layout.to_ids(bundle, None if layout.text == "none" else layout.spans_of(ids))) == bundle
        read += 1


def test_the_table_says_the_same(tmp_path):
    """A program that knows nothing but the table reads the same sequences."""
    for layout in ALL:
        table = json.loads(json.dumps(layout.grammar.table()))
        draw = random.Random(1)
        for _ in range(5):
            place, state, count = layout.grammar.start, table["start"], 0
            while place != layout.grammar.end:
                ways = [way for way in table["arcs"][state] if way[3] <= count and (way[4] is None or count <= way[4])]
                assert sorted(way[0] for way in ways) == sorted(layout.grammar.kinds(place))
                kind, state, add, *_ = draw.choice(ways)
                name, first, size = table["kinds"][kind]
                assert layout.vocabulary.kind(name).first == first
                assert layout.vocabulary.kind(name).size == size
                count = max(0, count + add)
                place = layout.grammar.step(place, first + draw.randrange(size))
            assert state == table["end"]


def test_a_place_can_be_gone_on_from_twice():
    layout = ALL[0]
    ids = [layout.vocabulary.bos, layout.vocabulary.kind("semantic").first]
    place = layout.grammar.after(np.array(ids))
    first = layout.grammar.step(place, layout.vocabulary.kind("s0").first)
    assert layout.grammar.step(place, layout.vocabulary.kind("s0").first + 1) == first
    assert place == layout.grammar.after(np.array(ids))
