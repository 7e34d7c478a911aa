"""Tokens that no rounding decides on: what is near the border of a cell is computed again in float64."""

import functools

import pytest
import torch

from models import TINY, TOGETHER, VARIANTS, at_once, clip, codec
from unitoken.model import windows
from unitoken.model.encoding import ClipEncoder
from unitoken.model.settling import Span

CONFIGS = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
WAYS = pytest.mark.parametrize("together", TOGETHER)
COARSE = 2000
"""Bounds so many times as wide, and errors too, so that a few seconds hold many doubtful frames."""


def clips(config):
    return [clip(number * config.hop - 7, number) for number in (40, 1, 260, 90)]


@functools.cache
def exactly(config):
    """Return what float64 says of every frame. Do not change it."""
    encoder = ClipEncoder(codec(config))
    encoder.bounds = dict.fromkeys("spg", 1e9)
    return encoder, encoder.encode(clips(config))


def tokens(encoder, config, encoded):
    return [
        tensor
        for one, audio in zip(encoded, clips(config), strict=True)
        for tensor in (one.s, one.p, encoder.global_tokens([audio], [one.statistics])[0])
    ]


@pytest.fixture
def err():
    """Add errors of some length to what float32 modules give, other ones at each call: as another shape, machine or number of threads would."""
    generator, handles = torch.Generator().manual_seed(0), []

    def begin(module, size):
        def erring(_, __, right):
            if right.dtype == torch.float64:
                return right
            error = torch.randn(right.shape, generator=generator)
            return right + error / error.norm(dim=-1, keepdim=True) * size

        handles.append(module.register_forward_hook(erring))

    yield begin
    for handle in handles:
        handle.remove()


def differences(one, other):
    return [sum((x != y).sum().item() for x, y in zip(one[stream::3], other[stream::3], strict=True)) for stream in range(3)]


@WAYS
@CONFIGS
def test_errors_below_the_bound_change_no_token(config, together, err):
    encoder, encoded = exactly(config)
    expected = tokens(encoder, config, encoded)
    made = codec(config)
    encoder = ClipEncoder(made)
    encoder.bounds = {stream: COARSE * bound for stream, bound in encoder.bounds.items()}
    for stream, module in {"s": made.semantic, "p": made.residual, "g": made.global_out}.items():
        err(module, encoder.bounds[stream] / 2.01)
    with at_once(together):
        assert differences(tokens(encoder, config, encoder.encode(clips(config))), expected) == [0, 0, 0]
        encoder.bounds = dict.fromkeys("spg", 0.0)  # what the same errors do to those who do not look
        s, p, _ = differences(tokens(encoder, config, encoder.encode(clips(config))), expected)
    assert s > 0
    assert p > 0


def test_errors_below_the_bound_change_no_voice(err):
    encoder, voices = ClipEncoder(codec()), [clip(3 * TINY.hop, seed) for seed in range(60)]
    parts = [one.statistics for one in encoder.encode(voices)]
    expected = [encoder.global_tokens([voice], [part])[0] for voice, part in zip(voices, parts, strict=True)]
    err(codec().global_out, 10 * COARSE * encoder.bounds["g"] / 2.01)
    found = {}
    for bound in (0.0, 10 * COARSE * encoder.bounds["g"]):
        encoder.bounds["g"] = bound
        tokens = [encoder.global_tokens([voice], [part])[0] for voice, part in zip(voices, parts, strict=True)]
        found[bound] = sum((one != other).any().item() for one, other in zip(tokens, expected, strict=True))
    assert found.pop(0.0) > 0
    assert list(found.values()) == [0]


def test_what_is_within_the_bound_of_a_border_is_computed_again_and_nothing_else():
    encoder = ClipEncoder(codec())
    bound, book = COARSE * encoder.bounds["s"], codec().quantizer_s.codebook
    encoder.bounds["s"] = bound
    far = torch.randn(200, book.shape[1], generator=torch.Generator().manual_seed(0)) * book.std(0) + book.mean(0)
    tokens = codec().quantizer_s.quantize(far)[0]
    margins = codec().quantizer_s.margins(far, tokens)[:, 0]
    heard = []

    def again(row, first, last):
        heard.extend(range(first, last))
        return far[first:last].double()

    settled = encoder.settle("s", far[None], [Span(0, 0, len(far))], again)[0]
    assert torch.equal(settled, tokens)
    doubtful = (margins < bound).nonzero()[:, 0].tolist()
    assert 3 < len(doubtful) < 100
    assert set(doubtful) <= set(heard)
    assert all(min(abs(frame - one) for one in doubtful) <= 16 for frame in heard)


@WAYS
@CONFIGS
def test_an_error_that_is_larger_than_it_should_be_has_the_window_computed_again(config, together, monkeypatch, err):
    """Where a processor is less precise than the bound supposes, the first doubtful frame tells."""
    _, expected = exactly(config)
    made, settled = codec(config), []
    encoder = ClipEncoder(made)
    encoder.bounds = {stream: COARSE / 10 * bound for stream, bound in encoder.bounds.items()}
    err(made.semantic, 20 * encoder.bounds["s"])
    own = encoder.settle

    def settle(stream, latents, spans, again):
        settled.append((stream, [span.count for span in spans]))
        return own(stream, latents, spans, again)

    monkeypatch.setattr(encoder, "settle", settle)
    with at_once(together):
        (found,) = encoder.encode([clips(config)[2]])
    stream, (count,) = settled[0]
    window = windows.CORE * config.hop // config.hop_s
    assert stream == "s"
    assert count == (window if together > 1 else window - made.frames_heard("s").future)
    assert torch.equal(found.s[:count], expected[2].s[:count])  # of so many frames some are doubtful
    monkeypatch.setattr(
        encoder, "settle", lambda stream, latents, spans, _: [encoder.assess(stream, latents)[0][span.row, span.frames] for span in spans]
    )
    assert (encoder.encode([clips(config)[2]])[0].s[:count] != expected[2].s[:count]).any()


@WAYS
@CONFIGS
def test_a_frame_alone_is_what_the_whole_clip_says_of_it(config, together, monkeypatch):
    """The pieces that are computed again, each with its own context, cover clips' ends, in rows of several too, and windows' borders."""
    _, expected = exactly(config)
    heard, seen = [], {"s": [], "p": []}
    encoder = ClipEncoder(codec(config))
    own = encoder.settle

    def each(stream, latents, spans, again):
        for number, span in enumerate(spans):
            for frame in range(span.count):
                error = again(number, frame, frame + 1)[0].float() - latents[span.row, span.first + frame]
                heard.append(error.norm().item() / encoder.bounds[stream])
        seen[stream] += [span.count for span in spans]
        return own(stream, latents, spans, again)

    monkeypatch.setattr(encoder, "settle", each)
    with at_once(together):
        found = encoder.encode(clips(config))
    assert [sum(seen[stream]) for stream in "sp"] == [sum(len(getattr(one, stream)) for one in expected) for stream in "sp"]
    assert len(seen["s"]) == 5  # one clip in two pieces
    assert max(heard) < 0.25
    assert all(torch.equal(one.s, other.s) and torch.equal(one.p, other.p) for one, other in zip(found, expected, strict=True))


def test_the_twin_is_made_when_it_is_needed_and_only_once():
    encoder = ClipEncoder(codec())
    assert encoder._twin is None
    assert encoder.twin is encoder.twin
    assert encoder.twin.decoder is None
    assert {parameter.dtype for parameter in encoder.twin.parameters()} == {torch.float64}
    assert {parameter.dtype for parameter in codec().parameters()} == {torch.float32}
