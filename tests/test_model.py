import dataclasses

import pytest
import torch
from torch.nn import functional as F

from models import HOP, RATE, TINY, VARIANTS, clip, codec, tokenizer
from unitoken.config import GridConfig
from unitoken.encoder_config import EncoderConfig, TransformerConfig
from unitoken.errors import ConfigError
from unitoken.model import windows
from unitoken.model.codec import Codec, Latents
from unitoken.model.decoder import EDGE
from unitoken.model.decoding import Tokens, decode_clips
from unitoken.model.encoder import Context, Encoder, spread_lookahead
from unitoken.model.encoding import ClipEncoder
from unitoken.model.transformer import TransformerEncoder
from unitoken.presets import preset

CONFIGS = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
SHIFTED = pytest.mark.parametrize("config", [config for name, config in VARIANTS.items() if name != "transformer"])
"""Configurations whose frames do not depend on where in a row a clip begins; a transformer counts positions from there."""
STREAMS = {"s": "semantic", "p": "residual", "g": "global_encoder"}


def whole(made, samples):
    """Return the mask of one clip that fills its row."""
    return torch.tensor([[0, samples]])


def encoded(made, waveform):
    return made.latents(waveform[None], whole(made, len(waveform)))


def reach(made, stream):
    """Return hop and receptive field of one stream's frame, in samples, from its encoder's own context."""
    encoder = getattr(made, STREAMS[stream])
    front = made.config.front_end_s if stream == "s" else made.config.front_end
    beside = (front.window - front.hop) // 2
    hop, context = front.hop * encoder.config.stride, encoder.context
    if stream == "p" and made.config.p_hears_s:  # through S's tokens
        own = reach(made, "s")[1]
        return hop, Context(encoder.side_context.past * hop + own.past, encoder.side_context.future * hop + own.future)
    return hop, Context(context.past * front.hop + beside, context.future * front.hop + beside)


@pytest.mark.parametrize("stream", STREAMS)
@CONFIGS
def test_a_frame_depends_on_its_receptive_field_and_on_nothing_else(config, stream):
    made = codec(config)
    hop, field = reach(made, stream)
    samples, at = 32 * config.hop, 16 * config.hop // hop + 1
    first, end = at * hop - field.past, (at + 1) * hop + field.future
    assert (first > 0, end < samples) == (True, True)
    x = clip(samples)
    frame = getattr(encoded(made, x), stream)[0, at]
    other = clip(samples, 1)
    other[first:end] = x[first:end]
    assert torch.equal(getattr(encoded(made, other), stream)[0, at], frame)
    if stream == "p" and config.p_hears_s:
        return  # at its edges through tokens of S only, which a change there need not flip
    for sample in (first + 1, end - 1):  # the Hann window's first value is zero
        changed = x.clone()
        changed[sample] += 1e6
        assert not torch.equal(getattr(encoded(made, changed), stream)[0, at], frame)


def test_p_hears_the_tokens_of_s_and_nothing_finer():
    config = VARIANTS["p hears s"]
    made, samples = codec(config), 32 * config.hop
    x, mask = clip(samples), torch.ones(1, 32, 1)
    latents, features = encoded(made, x), made.front_end(x[None])
    tokens, codewords = made.quantizer_s.quantize(latents.s)
    assert torch.equal(made.residual(features, mask, codewords), latents.p)
    tokens[0, 16] = (tokens[0, 16] + 1) % 64
    moved = (made.residual(features, mask, made.quantizer_s.dequantize(tokens)) != latents.p)[0].any(-1)
    assert moved.nonzero()[:, 0].tolist() == [15, 16, 17]


def test_an_encoder_that_begins_to_hear_s_goes_on_from_where_it_was():
    torch.manual_seed(0)
    fresh = Codec(VARIANTS["p hears s"])
    deaf = Codec(TINY)
    deaf.load_state_dict({name: value for name, value in fresh.state_dict().items() if name != "residual.side.weight"})
    x = clip(32 * TINY.hop)
    assert torch.equal(encoded(fresh, x).p, encoded(deaf, x).p)


def test_a_side_input_is_given_to_the_encoder_that_has_one():
    made, x = codec(VARIANTS["p hears s"]), clip(32 * TINY.hop)
    features, mask = made.front_end(x[None]), torch.ones(1, 32, 1)
    with pytest.raises(ValueError, match="the encoder has a side input, but none came"):
        made.residual(features, mask)
    with pytest.raises(ValueError, match="the encoder has no side input, but one came"):
        made.semantic(features, mask, torch.zeros(1, 32, 16))


@CONFIGS
def test_the_codec_reports_the_largest_of_the_three_fields(config):
    made = codec(config)
    fields = [reach(made, stream)[1] for stream in STREAMS]
    assert made.receptive_field == Context(max(field.past for field in fields), max(field.future for field in fields))
    frames = made.encode_context_frames
    assert (frames.past - 1) * config.hop < made.receptive_field.past <= frames.past * config.hop
    assert (frames.future - 1) * config.hop < made.receptive_field.future <= frames.future * config.hop


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_lookahead_bounds_the_future_of_an_encoder_in_token_frames(lookahead):
    config = EncoderConfig((8, 8, 8), (2, 2, 4), 5, 2, lookahead)
    context = Encoder(config, 4, 6).context
    assert context.future == lookahead * config.stride
    assert context.past + context.future == 4 * (2 + 2 * 2 + 4 * 4)


def test_centred_kernels_see_as_far_ahead_as_back():
    context = Encoder(EncoderConfig((8, 8, 8), (2, 2, 4), 5, 2), 4, 6).context
    assert context.past == context.future == 2 * (2 + 2 * 2 + 4 * 4)


@pytest.mark.parametrize(
    ("lookahead", "futures"), [(None, [3, 3, 3]), (0, [0, 0, 0]), (1, [1, 0, 0]), (3, [3, 0, 0]), (4, [3, 1, 0]), (9, [3, 3, 3]), (20, [3, 3, 3])]
)
def test_the_first_blocks_use_the_lookahead_up(lookahead, futures):
    assert spread_lookahead(3, 7, lookahead) == futures


def tokens_of(config, frames, seed=0):
    """Return random tokens of `frames` coarse frames: s and p `(1, frames, codebooks)`, g `(1, num_g)`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(quantizer, *shape):
        return torch.randint(quantizer.codebook_size, (1, *shape, quantizer.num_codebooks), generator=generator)

    s = draw(config.semantic.quantizer, frames * (config.hop // config.hop_s))
    p = draw(config.residual.quantizer, frames * (config.hop // config.hop_p))
    return s, p, draw(config.global_.quantizer)


def decoded(made, s, p, g, frames):
    """Return what a row full of tokens decodes to: the samples of all but its first and last `EDGE` decoder frames."""
    return made.decode(s, p, g, torch.tensor([[0, frames * made.config.hop]]))[0]


@CONFIGS
def test_a_sample_depends_on_the_decoder_context_and_on_nothing_else(config):
    made = codec(config)
    frames, at, hop = 30, 15, config.hop
    context, fine, dec = made.decode_context_frames, made.decoder.context, config.decoder.hop
    s, p, g = tokens_of(config, frames)
    kept = slice(at * hop - EDGE * dec, (at + 1) * hop - EDGE * dec)
    expected = decoded(made, s, p, g, frames)[kept]
    other_s, other_p, _ = tokens_of(config, frames, 1)
    for mine, other, factor in ((s, other_s, hop // config.hop_s), (p, other_p, hop // config.hop_p)):
        inside = slice((at - context.past) * factor, (at + 1 + context.future) * factor)
        other[:, inside] = mine[:, inside]
    assert torch.equal(decoded(made, other_s, other_p, g, frames)[kept], expected)
    factor, per_s = config.hop_s // dec, hop // config.hop_s
    for number in ((at * hop // dec - fine.past) // factor, ((at + 1) * hop // dec - 1 + fine.future) // factor):
        assert (at - context.past) * per_s <= number < (at + 1 + context.future) * per_s
        changed = s.clone()
        changed[0, number] = (changed[0, number] + 1) % config.semantic.quantizer.codebook_size
        assert not torch.equal(decoded(made, changed, p, g, frames)[kept], expected)


@SHIFTED
def test_padding_around_a_clip_changes_nothing(config):
    made = codec(config)
    samples, before, after = 10 * config.hop - 123, 3 * config.hop, 5 * config.hop
    x = F.pad(clip(samples), (0, 123))
    alone = made.latents(x[None], torch.tensor([[0, samples]]))
    padded = made.latents(F.pad(x, (before, after))[None], torch.tensor([[before, before + samples]]))
    for stream in STREAMS:
        hop = reach(made, stream)[0]
        frames = -(-samples // hop)
        ours, theirs = getattr(padded, stream)[:, before // hop :][:, :frames], getattr(alone, stream)[:, :frames]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@CONFIGS
def test_what_lies_beyond_a_clip_in_its_row_does_not_reach_its_tokens(config):
    """Frames that hold no sample of the clip are masked, and `ClipEncoder` puts zeros into the one that it ends in."""
    made = codec(config)
    samples = 10 * config.hop
    rows = [torch.cat([clip(samples), torch.zeros(240), tail]) for tail in (torch.zeros(4 * config.hop - 240), clip(4 * config.hop - 240, 5))]
    one, other = (made.latents(row[None], torch.tensor([[0, samples]])) for row in rows)
    for stream in STREAMS:
        frames = samples // reach(made, stream)[0]
        assert torch.equal(getattr(one, stream)[:, :frames], getattr(other, stream)[:, :frames])


@SHIFTED
def test_windows_give_what_one_pass_over_the_whole_clip_gives(config):
    made = codec(config)
    frames = 450
    x = clip(frames * config.hop)
    alone, (pieced,) = encoded(made, x), ClipEncoder(made).encode([x])
    torch.testing.assert_close(pieced.s_latent, alone.s[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(pieced.p_latent, alone.p[0], rtol=0, atol=1e-4)
    pooled = made.pooling.pooled(made.global_statistics(alone.g, torch.ones(1, alone.g.shape[1], 1)))
    torch.testing.assert_close(made.pooling.pooled(pieced.statistics), pooled, rtol=0, atol=1e-5)


@CONFIGS
@pytest.mark.parametrize("more", [0, 1, 9])
def test_frames_that_are_heard_only_are_left_out_of_the_latents_and_change_none(config, more):
    made, context = codec(config), codec(config).encode_context_frames
    past, future, core = context.past + more, context.future + more // 2, 12
    x, valid = clip((past + core + future) * config.hop)[None], torch.tensor([[2 * config.hop, (past + core + 1) * config.hop]])
    all_of_them, inner = made.latents(x, valid), made.latents(x, valid, Context(past, future))
    for stream in STREAMS:
        fine = config.hop // reach(made, stream)[0]
        wanted = getattr(all_of_them, stream)[:, past * fine : (past + core) * fine]
        torch.testing.assert_close(getattr(inner, stream), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames", [130, 250, 450])
def test_a_transformer_counts_positions_from_the_beginning_of_a_window(frames):
    """A window is what one pass over a row gives that begins as far before it, whatever comes behind."""
    made = codec(VARIANTS["transformer"])
    config, before = made.config, made.encode_context_frames.past
    x = clip(frames * config.hop)
    (pieced,) = ClipEncoder(made).encode([x])
    for start in range(0, frames, config.grid.core):
        count, first = min(config.grid.core, frames - start), (start - before) * config.hop
        row = F.pad(x, (max(0, -first), 7 * config.hop))[max(0, first) :]
        alone = made.latents(row[None], torch.tensor([[-first, len(x) - first]]))
        torch.testing.assert_close(pieced.s_latent[start:][:count], alone.s[0, before:][:count], rtol=0, atol=1e-5)
    heard = made.quantizer_s.dequantize(pieced.s)[None]
    p = made.residual_latents(made.front_end(x[None]), torch.tensor([[0, len(x)]]), heard=heard)[0]
    torch.testing.assert_close(pieced.p_latent, p, rtol=0, atol=1e-4)  # of S as it is, across windows too
    if frames > 250:
        whole_row = encoded(made, x).s[0]
        assert (pieced.s_latent - whole_row).abs().max() > 1e-3


def test_a_transformer_hears_positions_from_anywhere_in_training_only():
    encoder = TransformerEncoder(TransformerConfig(16, 2, (24,), 2), 4)
    features, mask = torch.randn(3, 40, 80), torch.ones(3, 10, 1)
    assert torch.equal(encoder.eval()(features, mask), encoder(features, mask))
    torch.manual_seed(0)
    assert not torch.equal(encoder.train()(features, mask), encoder(features, mask))
    still = encoder(torch.randn(1, 40, 80).expand(3, -1, -1), mask)
    assert not torch.allclose(still[0], still[1], atol=1e-4)


def test_a_transformer_has_positions_for_30_s_and_says_so():
    config = VARIANTS["transformer"]
    with pytest.raises(ConfigError, match="has 750 positions, a piece has 1012 frames; make it, or the grid's core, smaller"):
        Codec(dataclasses.replace(config, grid=GridConfig(1000, 50)))
    encoder = TransformerEncoder(TransformerConfig(16, 2, (24,), 2), 4)
    with pytest.raises(ConfigError, match="a piece has 751 frames"):
        encoder(torch.zeros(1, 3004, 80), torch.ones(1, 751, 1))
    assert encoder(torch.zeros(1, 3000, 80), torch.ones(1, 750, 1)).shape == (1, 750, 4)


@pytest.mark.parametrize("missing", ["", "p", "g", "pg"])
@CONFIGS
def test_windows_decode_to_what_one_pass_over_all_tokens_decodes_to(config, missing):
    """The row of the one pass holds other tokens before and after the clip's: they must not count."""
    made, frames, around = codec(config), 210, 3
    s, p, g = tokens_of(config, frames + 2 * around)
    p, g = None if "p" in missing else p, None if "g" in missing else g
    start, samples = around * config.hop, frames * config.hop
    row = made.decode(s, p, g, torch.tensor([[start, start + samples]]))[0]
    first = start - EDGE * config.decoder.hop
    own_s, own_p = (
        None if tokens is None else tokens[0, start // hop : (start + samples) // hop] for tokens, hop in ((s, config.hop_s), (p, config.hop_p))
    )
    (pieced,) = decode_clips(made, [Tokens(own_s, own_p, None if g is None else g[0], samples)])
    torch.testing.assert_close(pieced, row[first : first + samples], rtol=0, atol=1e-5)


@CONFIGS
def test_the_mask_marks_frames_that_hold_a_sample(config):
    mask = codec(config).mask(torch.tensor([[0, 1], [640, 1281], [-5, 640], [100, 100], [639, 641]]), 4, 640)
    assert mask[..., 0].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]


@CONFIGS
def test_the_graph_runs_on_any_device_that_torch_knows(config):
    """On the meta device every operation only computes shapes: one that makes a tensor on the CPU would be refused."""
    with torch.device("meta"):
        made = Codec(config).eval()
    assert {tensor.device.type for tensor in (*made.parameters(), *made.buffers())} == {"meta"}
    frames = 20
    valid = torch.tensor([[0, 7 * config.hop], [3, 9]], device="meta")
    latents = made.latents(torch.zeros(2, frames * config.hop, device="meta"), valid)
    assert isinstance(latents, Latents)
    assert latents.s.shape == (2, frames * config.hop // config.hop_s, config.semantic.quantizer.dim)
    assert latents.p.shape == (2, frames * config.hop // config.hop_p, config.residual.quantizer.dim)
    s, p, g = (tokens.repeat(2, *[1] * (tokens.ndim - 1)).to("meta") for tokens in tokens_of(config, frames))
    statistics = made.global_statistics(latents.g, made.mask(valid, latents.g.shape[1], reach(made, "g")[0]))
    assert made.quantizer_g.quantize(made.global_latent(statistics))[0].shape == g.shape
    assert made.quantizer_s.quantize(latents.s)[0].shape == s.shape
    assert made.quantizer_p.quantize(latents.p)[0].shape == p.shape
    for drop in ((), ("p",), ("g",)):
        out = made.decode(s, None if "p" in drop else p, None if "g" in drop else g, valid)
        assert (out.shape, out.device.type) == ((2, frames * config.hop - 2 * EDGE * config.decoder.hop), "meta")


def test_every_row_of_a_batch_has_its_own_clip():
    made = codec()
    first, second = clip(20 * HOP, 1), F.pad(clip(15 * HOP - 7, 2), (0, 5 * HOP + 7))
    valid = torch.tensor([[0, 20 * HOP], [0, 15 * HOP - 7]])
    both = made.latents(torch.stack([first, second]), valid)
    for row, x in enumerate((first, second)):
        alone = made.latents(x[None], valid[row : row + 1])
        torch.testing.assert_close(both.s[row], alone.s[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(both.g[row], alone.g[0], rtol=0, atol=1e-5)


def test_the_decoder_sounds_as_far_beyond_its_tokens_as_frames_reach_that_overlap_them():
    made, dec = codec(), TINY.decoder.hop
    s, p, g = tokens_of(TINY, 30)
    out = made.decode(s, p, g, torch.tensor([[10 * HOP, 20 * HOP]]))[0]
    sounding = out.nonzero()[:, 0] + EDGE * dec
    # the first frame is two before the tokens' first and begins 1.5 hops early, with a zero of the Hann window
    assert sounding[0] == 10 * HOP - 2 * dec - 3 * dec // 2 + 1
    assert sounding[-1] == 20 * HOP + 2 * dec + 3 * dec // 2 - 1


@CONFIGS
def test_windows_computed_together_have_the_results_of_windows_computed_alone(config, monkeypatch):
    """As on a GPU: several clips, null inputs and lengths in one batch."""
    made, frames = codec(config), (60, 260, 52, 90, 55)
    clips = [clip(number * config.hop - 5, number) for number in frames]
    drop = ("", "", "p", "g", "p")
    tokens = []
    for number, one, missing in zip(frames, clips, drop, strict=True):
        s, p, g = (stream[0] for stream in tokens_of(config, number, number))
        tokens.append(Tokens(s, None if "p" in missing else p, None if "g" in missing else g, len(one)))
    alone, waveforms = ClipEncoder(made).encode(clips), decode_clips(made, tokens)
    monkeypatch.setattr(windows, "batch_size", lambda device: 3)
    for one, other in zip(ClipEncoder(made).encode(clips), alone, strict=True):
        assert torch.equal(one.s, other.s)
        assert torch.equal(one.p, other.p)
        torch.testing.assert_close(one.s_latent, other.s_latent, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.p_latent, other.p_latent, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.statistics.mean, other.statistics.mean, rtol=0, atol=1e-4)
    for one, other in zip(decode_clips(made, tokens), waveforms, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)  # a phase adds up the rounding of F0 over many frames


def test_small_and_tiny_keep_their_size():
    assert sum(value.numel() for value in codec().state_dict().values()) < 250_000  # 1 MB of float32
    with torch.device("meta"):
        small = Codec(preset("small"))
    assert sum(value.numel() for value in small.state_dict().values()) <= 20_000_000


@pytest.mark.gpu
@CONFIGS
def test_a_gpu_flips_few_tokens_and_decodes_the_same_samples(config):
    cpu, gpu = tokenizer(config), tokenizer(config, device="cuda")
    clips = [clip(samples, seed) for seed, samples in enumerate((RATE * 20, RATE * 7 + 13, 1, RATE * 9))]
    ours, theirs = (made.encode(clips, sample_rate=RATE) for made in (cpu, gpu))
    assert gpu.encode([audio.cuda() for audio in clips], sample_rate=RATE) == theirs
    for stream in ("s", "p"):
        tokens = [torch.cat([getattr(bundle, stream) for bundle in bundles]) for bundles in (ours, theirs)]
        assert (tokens[0] != tokens[1]).float().mean() < 0.01
    assert [bundle.numerics for bundle in theirs] == ["cuda/float32/torch"] * len(clips)
    for one, other in zip(cpu.decode(ours), gpu.decode(ours), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
