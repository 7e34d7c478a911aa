"""Sequences as tensors, and as sound while they are written."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from layouts import MERGES, bundle_of, vocabulary_of
from models import VARIANTS, tokenizer
from unitoken import lm
from unitoken.errors import LayoutError

LAYOUT = lm.Layout(vocabulary_of(), lm.Interleaved())


def sequences(*frames):
    return [LAYOUT.to_ids(bundle_of(LAYOUT.info, count * 640, count)) for count in frames]


@pytest.mark.parametrize("left", [False, True])
def test_a_batch_holds_its_sequences_and_nothing_else(left):
    rows = sequences(3, 0, 5)
    batch = lm.collate(LAYOUT, rows, multiple=8, left=left)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape == (3, 24)
    for ids, seen, labels, row in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], rows, strict=True):
        assert ids[seen == 1].tolist() == row.tolist()
        assert (ids[seen == 0] == LAYOUT.vocabulary.pad).all()
        assert seen[(-1 if left else 0)] == 1
        assert seen.sum() == len(row)
        assert labels[seen == 1].tolist() == np.where(LAYOUT.loss_mask(row), row, -100).tolist()
        assert (labels[seen == 0] == -100).all()
    voiced = lm.collate(LAYOUT, rows, g=True)["labels"][0]
    assert (voiced != -100).sum() == len(rows[0]) - 1
    with pytest.raises(LayoutError, match="got 0 sequences and 1"):
        lm.collate(LAYOUT, [])
    with pytest.raises(LayoutError, match="got 1 sequences and 0"):
        lm.collate(LAYOUT, rows[:1], multiple=0)


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(19, 40))
def test_packed_rows_hold_every_sequence_once_and_in_order(frames, length):
    rows, got = sequences(*frames), []
    for packed in lm.pack(LAYOUT, rows, length):
        assert all(value.shape == (length,) for value in packed.values())
        for number in range(1, int(packed["sequence_ids"].max()) + 1):
            here = packed["sequence_ids"] == number
            got.append(packed["input_ids"][here].tolist())
            assert packed["position_ids"][here].tolist() == list(range(len(got[-1])))
            expected = lm.collate(LAYOUT, [got[-1]])["labels"][0]
            assert packed["labels"][here].equal(expected)
        rest = packed["sequence_ids"] == 0
        assert (packed["input_ids"][rest] == LAYOUT.vocabulary.pad).all()
        assert (packed["labels"][rest] == -100).all()
    assert got == [row.tolist() for row in rows]


def test_a_sequence_that_is_longer_than_a_row_is_refused():
    with pytest.raises(LayoutError, match=r"sequence 1 has 17 ids, a row 16; take longer rows, or cut the bundle"):
        list(lm.pack(LAYOUT, sequences(1, 5), 16))


def test_a_packed_sequence_is_read_as_if_alone():
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=LAYOUT.vocabulary.size, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    model = LlamaForCausalLM(config).eval()
    rows = sequences(3, 2, 4)
    (packed,) = lm.pack(LAYOUT, rows, 50)
    mask = lm.block_mask(packed["sequence_ids"][None])
    with torch.no_grad():
        together = model(packed["input_ids"][None], attention_mask=mask, position_ids=packed["position_ids"][None]).logits[0]
        for number, row in enumerate(rows, 1):
            alone = model(torch.from_numpy(row)[None]).logits[0]
            assert together[packed["sequence_ids"] == number].allclose(alone, atol=1e-5)


@pytest.fixture(scope="module")
def tok():
    return tokenizer()


BODIES = [lm.Semantic(), lm.Sequential(), lm.Interleaved(), lm.Interleaved(2), lm.Runs(), lm.Pieces()]


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_what_is_spoken_while_it_is_written_is_what_is_decoded(tok, body):
    layout = lm.Layout(lm.Vocabulary(tok.info, longest_run=9, merges=MERGES[:1]), body)
    random = np.random.default_rng(0)
    size = tok.info.s.codebook_size
    s = (np.arange(30) + random.integers(0, 2)) % size  # no runs
    bundle = tok.encode(torch.zeros(30 * tok.hop), sample_rate=tok.sample_rate).replace(s=s)
    ids, taken = layout.to_ids(bundle).tolist(), []

    def written():
        for id in ids:
            taken.append(id)
            yield id

    parts, first = [], 0
    for part in lm.speak(tok, layout, written()):
        first = first or len(taken) - 1
        parts.append(part)
    assert len(parts) > 1
    assert all(len(part) for part in parts)
    decoded = tok.decode(layout.from_ids(ids))
    assert torch.cat(parts).allclose(decoded, atol=1e-5)
    expected = lm.ids_before_sound(tok, layout, len(bundle))
    assert first <= expected if body == lm.Pieces() else first == expected


def test_speech_that_breaks_off_and_another_voice(tok):
    layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved())
    bundle = tok.encode(torch.linspace(-0.5, 0.5, 10 * tok.hop), sample_rate=tok.sample_rate)
    ids = layout.to_ids(bundle).tolist()
    short = torch.cat(list(lm.speak(tok, layout, ids[:-6])))  # EOS, two frames and a half less
    assert short.allclose(tok.decode(bundle[:7]), atol=1e-5)
    other = (bundle.g + 1) % tok.info.g_size
    changed = torch.cat(list(lm.speak(tok, layout, ids, g=other)))
    assert changed.allclose(tok.decode(bundle.replace(g=other)), atol=1e-5)
    assert list(lm.speak(tok, layout, layout.to_ids(bundle[:0]))) == []
    assert len(torch.cat(list(lm.speak(tok, layout, [*ids, 10**6])))) == 10 * tok.hop  # what follows EOS is not asked for
    with pytest.raises(LayoutError, match="which is outside 0 to"):
        list(lm.speak(tok, layout, [*ids[:8], 10**6]))
    with pytest.raises(LayoutError, match="the layout is of toy, the tokenizer is"):
        next(lm.speak(tok, LAYOUT, ids))
    with pytest.raises(LayoutError, match="1 frames are fewer than"):
        lm.ids_before_sound(tok, layout, 1)
    assert lm.ids_before_sound(tok, layout) - lm.ids_before_sound(tok, layout, g=False) == 1 + tok.info.num_g


@pytest.mark.parametrize("body", [lm.Sequential(), lm.Interleaved(), lm.Interleaved(1)], ids=str)
@pytest.mark.parametrize("variant", ["slow p", "slow s"])
def test_streams_of_two_rates_are_spoken(variant, body):
    tok = tokenizer(VARIANTS[variant])
    layout = lm.Layout(lm.Vocabulary(tok.info), body)
    for frames in (8, 9):
        bundle = tok.encode(torch.linspace(-0.5, 0.5, frames * min(tok.info.s.hop, tok.info.p.hop)), sample_rate=tok.sample_rate)
        spoken = torch.cat(list(lm.speak(tok, layout, layout.to_ids(bundle).tolist())))
        assert spoken.allclose(tok.decode(layout.from_ids(layout.to_ids(bundle))), atol=1e-5)
