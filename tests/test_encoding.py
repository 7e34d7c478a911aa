"""Tokens that no rounding decides on: what is near the border of a cell is computed again in float64."""

import pytest
import torch

from models import TINY, VARIANTS, clip, codec
from unitoken.model.codec import Codec
from unitoken.model.encoding import ClipEncoder

CONFIGS = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
COARSE = 2000
"""Bounds so many times as wide, and errors too, so that a few seconds hold many doubtful frames."""


def clips(config):
    return [clip(number * config.hop - 7, number) for number in (40, 1, 260, 90)]


def exactly(config):
    """Return what float64 says of every frame."""
    encoder = ClipEncoder(codec(config))
    encoder.bounds = dict.fromkeys("spg", 1e9)
    return encoder, encoder.encode(clips(config))


def tokens(encoder, config, encoded):
    return [
        tensor
        for one, audio in zip(encoded, clips(config), strict=True)
        for tensor in (one.s, one.p, encoder.global_tokens([audio], [one.statistics])[0])
    ]


def with_errors(monkeypatch, sizes):
    """Add errors of some length to float32 latents, other ones at each call: as another shape, machine or number of threads would."""
    generator = torch.Generator().manual_seed(0)

    def erring(own, size):
        def latents(self, *args):
            right = own(self, *args)
            if right.dtype == torch.float64:
                return right
            error = torch.randn(right.shape, generator=generator)
            return right + error / error.norm(dim=-1, keepdim=True) * size

        return latents

    for name, size in zip(("semantic_latents", "residual_latents", "global_latent"), sizes, strict=True):
        monkeypatch.setattr(Codec, name, erring(getattr(Codec, name), size))


def differences(one, other):
    return [sum((x != y).sum().item() for x, y in zip(one[stream::3], other[stream::3], strict=True)) for stream in range(3)]


@CONFIGS
def test_errors_below_the_bound_change_no_token(config, monkeypatch):
    encoder, encoded = exactly(config)
    expected = tokens(encoder, config, encoded)
    encoder = ClipEncoder(codec(config))
    encoder.bounds = {stream: COARSE * bound for stream, bound in encoder.bounds.items()}
    with_errors(monkeypatch, [encoder.bounds[stream] / 2.01 for stream in "spg"])
    assert differences(tokens(encoder, config, encoder.encode(clips(config))), expected) == [0, 0, 0]
    encoder.bounds = dict.fromkeys("spg", 0.0)  # what the same errors do to those who do not look
    s, p, _ = differences(tokens(encoder, config, encoder.encode(clips(config))), expected)
    assert s > 0
    assert p > 0


def test_errors_below_the_bound_change_no_voice(monkeypatch):
    encoder, voices = ClipEncoder(codec()), [clip(3 * TINY.hop, seed) for seed in range(60)]
    parts = [one.statistics for one in encoder.encode(voices)]
    expected = [encoder.global_tokens([voice], [part])[0] for voice, part in zip(voices, parts, strict=True)]
    with_errors(monkeypatch, [0.0, 0.0, 10 * COARSE * encoder.bounds["g"] / 2.01])
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

    settled = encoder._settle("s", far[None], [len(far)], again)[0]
    assert torch.equal(settled, tokens)
    doubtful = (margins < bound).nonzero()[:, 0].tolist()
    assert 3 < len(doubtful) < 100
    assert set(doubtful) <= set(heard)
    assert all(min(abs(frame - one) for one in doubtful) <= 16 for frame in heard)


@CONFIGS
def test_an_error_that_is_larger_than_it_should_be_has_the_window_computed_again(config, monkeypatch):
    """Where a processor is less precise than the bound supposes, the first doubtful frame tells."""
    _, expected = exactly(config)
    encoder = ClipEncoder(codec(config))
    encoder.bounds = {stream: COARSE / 10 * bound for stream, bound in encoder.bounds.items()}
    with_errors(monkeypatch, [20 * encoder.bounds["s"], 0.0, 0.0])
    found = encoder.encode(clips(config))
    wrong = [(one.s != other.s).any(-1) for one, other in zip(found, expected, strict=True)]
    assert not wrong[2][:250].any()  # 250 frames: some are doubtful
    monkeypatch.setattr(ClipEncoder, "_settle", lambda self, stream, latents, *_: list(getattr(self.codec, f"quantizer_{stream}").assess(latents)[0]))
    assert (encoder.encode(clips(config))[2].s != expected[2].s).any()


@CONFIGS
def test_a_frame_alone_is_what_the_whole_clip_says_of_it(config):
    """The pieces that are computed again, each with its own context, cover the clip's ends and the windows' borders."""
    _, expected = exactly(config)
    audio, heard, seen = clips(config)[2], [], []
    own = ClipEncoder._settle

    def each(self, stream, latents, valid, again):
        fine = config.hop // getattr(config, f"hop_{stream}")
        for first in range(valid[0]):
            piece = again(0, first, first + 1)
            heard.append((piece.float() - latents[0, first * fine : (first + 1) * fine]).norm(dim=-1).max().item() / self.bounds[stream])
        seen.append(stream)
        return own(self, stream, latents, valid, again)

    encoder = ClipEncoder(codec(config))
    encoder._settle = each.__get__(encoder)
    (found,) = encoder.encode([audio])
    assert seen == ["s", "s", "p", "p"]
    assert max(heard) < 0.25
    assert torch.equal(found.s, expected[2].s)
    assert torch.equal(found.p, expected[2].p)


def test_the_twin_is_made_when_it_is_needed_and_only_once():
    encoder = ClipEncoder(codec())
    assert encoder._twin is None
    assert encoder.twin is encoder.twin
    assert encoder.twin.decoder is None
    assert {parameter.dtype for parameter in encoder.twin.parameters()} == {torch.float64}
    assert {parameter.dtype for parameter in codec().parameters()} == {torch.float32}
