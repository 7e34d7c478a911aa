"""Short clips that share a row on a CPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import TINY, VARIANTS, clip, codec
from unitoken.model import encoding, packing, windows
from unitoken.model.encoding import ClipEncoder
from unitoken.model.packing import ROW, rows_of


@pytest.mark.parametrize("longest", [windows.CORE, ROW])
@given(st.data(), st.integers(0, 3))
def test_rows_hold_every_clip_once_in_order_and_about_as_much(longest, data, apart):
    counts = data.draw(st.lists(st.integers(1, longest), max_size=80))
    rows = list(rows_of(counts, apart))
    assert [number for row in rows for number in row] == list(range(len(counts)))
    sizes = [sum(counts[number] + apart for number in row) for row in rows]
    fewest = -(-sum(sizes) // ROW)
    assert len(rows) <= fewest + 1 + len(rows) // (4 if longest < ROW else 3)
    assert max(sizes, default=0) <= ROW + longest / 2 + apart
    if len(rows) > 1:
        assert max(sizes[:-1]) - min(sizes[:-1]) <= longest + apart


def rows_seen(made):
    """Note how many frames the semantic encoder hears at each call, in float32."""
    seen = []

    def note(_, args):
        if args[0].dtype == torch.float32:
            seen.append(tuple(args[0].shape[:2]))

    return seen, made.semantic.register_forward_pre_hook(note)


def test_short_clips_share_rows_and_long_ones_have_their_own():
    made, hop = codec(), TINY.hop
    waves = [clip(size, size) for size in (30 * hop, 3, windows.CORE * hop + 1, 0, windows.WHOLE * hop + 1, 7 * hop - 1)]
    seen, handle = rows_seen(made)
    try:
        found = ClipEncoder(made).encode(waves)
    finally:
        handle.remove()
    stride = hop // TINY.front_end.hop
    packed = windows.few(30 + 1 + windows.CORE + 1 + 7 + 3 * made.frames_apart) * stride
    assert [frames for _, frames in seen].count(packed) == 1
    assert len(seen) == 6  # and the long one in five blocks
    assert [one.samples for one in found] == [len(wave) for wave in waves]


@pytest.mark.parametrize("held", [1, 40, 1000])
def test_clips_are_collected_only_so_long(monkeypatch, held):
    """And come back in their order with their own latents, whichever were encoded first."""
    made, waves = codec(), [clip(frames * TINY.hop - 5, frames) for frames in (9, 30, windows.WHOLE + 10, 1, 25, 14, 3)]
    expected = [ClipEncoder(made).encode([wave], latents=True)[0] for wave in waves]
    monkeypatch.setattr(encoding, "HELD", held)
    seen, handle = rows_seen(made)
    try:
        found = ClipEncoder(made).encode([lambda wave=wave: wave.split(windows.CORE * TINY.hop) for wave in waves], latents=True)
    finally:
        handle.remove()
    assert len(seen) == {1: 11, 40: 7, 1000: 6}[held]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.s, other.s)
        assert torch.equal(one.p, other.p)
        assert one.s_latent.shape == (len(one.s), made.quantizer_s.config.dim)
        torch.testing.assert_close(one.s_latent, other.s_latent, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.p_latent, other.p_latent, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.statistics.mean, other.statistics.mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_between_clips_are_as_many_frames_as_any_layer_hears(variant):
    """Not fewer: then the end of one changes the beginning of the next."""
    made, apart = codec(VARIANTS[variant]), codec(VARIANTS[variant]).frames_apart
    first, other, second = (clip(9 * made.config.hop, seed) for seed in (1, 2, 3))

    def heard():
        encoder = ClipEncoder(made)
        one = packing.encode_row(encoder, [first, second], True)[1]
        changed = packing.encode_row(encoder, [other, second], True)[1]
        return not (torch.equal(one.s_latent, changed.s_latent) and torch.equal(one.p_latent, changed.p_latent))

    assert not heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(made), "frames_apart", property(lambda _: apart - 1))
        assert heard()


def test_ends_of_long_clips_have_few_shapes(monkeypatch):
    """Of what the encoder hears, and of what is compared with the codebook."""
    made, assessed = codec(), set()
    encoder = ClipEncoder(made)
    own = encoder.assess
    monkeypatch.setattr(encoder, "assess", lambda stream, latents: assessed.add(latents.shape[1]) or own(stream, latents))
    seen, handle = rows_seen(made)
    try:
        encoder.encode([clip((windows.WHOLE + more) * TINY.hop, more) for more in range(33, 65)])
    finally:
        handle.remove()
    assert len(set(seen)) <= 2 + 4
    assert len(assessed) <= 2 + 2 * 4
