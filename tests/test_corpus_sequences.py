"""A corpus as sequences of ids: each utterance once an epoch, in shares, and on from wherever one stopped."""

import itertools

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from corpora import encode, manifest, tiny
from layouts import info_of
from unitoken import corpus, lm
from unitoken.errors import CorpusError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return encode(folder / "tokens", manifest(folder / "audio", 23), tiny(folder))


@pytest.fixture(scope="module")
def tokens(place):
    return corpus.open(place)


@pytest.fixture(scope="module")
def layout(tokens):
    return lm.Layout(lm.Vocabulary(tokens.info, text_size=10), lm.Interleaved())


def told(sequences):
    return [tuple(ids.tolist()) for ids in sequences]


def expected(layout, tokens, frames=10**6):
    bundles = [utterance.bundle for utterance in tokens]
    return [tuple(layout.to_ids(b[at : at + frames]).tolist()) for b in bundles for at in range(0, max(1, len(b)), frames)]


def test_an_epoch_has_every_utterance_once_in_its_own_order(tokens, layout):
    sequences = corpus.Sequences(tokens, layout, seed=3)
    epochs = [told(sequences) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(expected(layout, tokens))
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != expected(layout, tokens)
    again = corpus.Sequences(tokens, layout, seed=3)
    again.set_epoch(1)
    assert told(again) == epochs[1]
    assert told(corpus.Sequences(tokens, layout, seed=4)) != epochs[0]
    assert told(corpus.Sequences(tokens, layout, shuffle=False)) == expected(layout, tokens)


@given(st.integers(0, 60), st.sampled_from([None, 1, 3, 7]), st.integers(0, 2))
def test_it_goes_on_where_it_stopped(tokens, layout, stop, frames, epoch):
    whole = corpus.Sequences(tokens, layout, frames=frames)
    whole.set_epoch(epoch)
    rest, state = [], whole.state_dict()
    for number, ids in enumerate(whole):
        if number == stop:
            state = whole.state_dict()
        rest.append(tuple(ids.tolist()))
    if stop >= len(rest):
        state = whole.state_dict()
    other = corpus.Sequences(tokens, layout, frames=frames)
    other.load_state_dict(state)
    if stop < len(rest):
        assert told(other) == rest[stop + 1 :]
    else:
        assert state == {"epoch": epoch + 1, "given": 0, "seed": 0, "utterances": 23}
    assert told(other) == told(whole)  # the epoch after it


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning")  # where there is one core
@pytest.mark.parametrize("frames", [None, 4])
def test_shares_and_workers_have_every_sequence_once(tokens, layout, frames):
    whole = sorted(expected(layout, tokens, frames or 10**6))
    parts = [told(corpus.Sequences(tokens, layout, frames=frames, part=(rank, 3))) for rank in range(3)]
    assert sorted(itertools.chain(*parts)) == whole
    assert all(parts)
    loader = DataLoader(corpus.Sequences(tokens, layout, frames=frames), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(told(loader)) == whole
    both = [corpus.Sequences(tokens, layout, frames=frames, part=(rank, 2)) for rank in range(2)]
    loaders = [DataLoader(half, batch_size=None, num_workers=2, multiprocessing_context="fork") for half in both]
    assert sorted(itertools.chain(*map(told, loaders))) == whole


def test_a_loader_makes_batches(tokens, layout):
    loader = DataLoader(corpus.Sequences(tokens, layout), batch_size=5, collate_fn=lambda rows: lm.collate(layout, rows))
    batches = list(loader)
    assert [len(batch["input_ids"]) for batch in batches] == [5, 5, 5, 5, 3]
    rows = [tuple(ids[seen == 1].tolist()) for batch in batches for ids, seen in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert sorted(rows) == sorted(expected(layout, tokens))


def test_text_travels_along(tokens, layout):
    read = lm.Layout(layout.vocabulary, lm.Interleaved(), text="before")
    for utterance, ids in zip(tokens, corpus.Sequences(tokens, read, shuffle=False, text=lambda row: [row["speaker"]]), strict=True):
        assert read.spans_of(ids) == [lm.Span((utterance["speaker"],), len(utterance.bundle.s))]


def test_texts_may_have_frames_of_their_own(tokens, layout):
    read = lm.Layout(layout.vocabulary, lm.Interleaved(), text="before")

    def spans(row):
        return [lm.Span((row["speaker"],), 0), lm.Span((), len(row.bundle.s))]

    for utterance, ids in zip(tokens, corpus.Sequences(tokens, read, shuffle=False, text=spans), strict=True):
        assert read.spans_of(ids) == spans(utterance)


def test_rows_of_parquet_files_become_ids(place, tokens, layout):
    rows = [row for path in sorted(place.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    ids = [corpus.ids_of_rows(layout)(row) for row in rows]
    assert [tuple(one["input_ids"]) for one in ids] == expected(layout, tokens)
    assert all(len(one["labels"]) == len(one["attention_mask"]) == len(one["input_ids"]) for one in ids)
    with pytest.raises(CorpusError, match="layouts without text"):
        corpus.ids_of_rows(lm.Layout(layout.vocabulary, lm.Interleaved(), text="after"))


def test_what_does_not_fit_is_refused(tokens, layout):
    read = lm.Layout(layout.vocabulary, lm.Interleaved(), text="before")
    with pytest.raises(CorpusError, match="the layout of toy; build a vocabulary from"):
        corpus.Sequences(tokens, lm.Layout(lm.Vocabulary(info_of()), lm.Semantic()))
    with pytest.raises(CorpusError, match="a layout with text='before' needs text="):
        corpus.Sequences(tokens, read)
    with pytest.raises(CorpusError, match="a layout with text='none' takes no text="):
        corpus.Sequences(tokens, layout, text=lambda row: [])
    for frames, text in ((0, None), (5, lambda row: [])):
        with pytest.raises(CorpusError, match=f"frames must be 1 or more, and go without text.*got {frames}"):
            corpus.Sequences(tokens, read if text else layout, frames=frames, text=text)
    with pytest.raises(CorpusError, match="part 3 of 3"):
        corpus.Sequences(tokens, layout, part=(3, 3))
    sequences = corpus.Sequences(tokens, layout)
    for change in ({"seed": 1}, {"utterances": 9}):
        with pytest.raises(CorpusError, match="build it as it was then"):
            sequences.load_state_dict({**sequences.state_dict(), **change})
