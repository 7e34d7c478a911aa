import copy
import dataclasses
import functools
import itertools

import pytest
import torch
from torch.nn import functional as F

from models import HOP, RATE, TINY, TOGETHER, VARIANTS, at_once, clip, codec, latents, tokenizer
from unitoken.encoder_config import EncoderConfig, TransformerConfig
from unitoken.errors import ConfigError
from unitoken.model.codec import Codec
from unitoken.model.decoder import EDGE
from unitoken.model.decoding import ClipDecoder, Tokens
from unitoken.model.encoder import Context, Encoder, spread_lookahead
from unitoken.model.encoding import ClipEncoder
from unitoken.model.pitch import make_source
from unitoken.model.stage import Kept
from unitoken.model.synthesis import Pitch64, Synthesis
from unitoken.model.transformer import TransformerEncoder
from unitoken.nn.flow import Flow, Rows
from unitoken.presets import preset

CONFIGS = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
WAYS = pytest.mark.parametrize("together", TOGETHER)
STREAMS = {"s": "semantic", "p": "residual", "g": "global_encoder"}


def encoded(made, waveform):
    return latents(made, waveform[None])


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
    frame = encoded(made, x)[stream][0, at]
    other = clip(samples, 1)
    other[first:end] = x[first:end]
    assert torch.equal(encoded(made, other)[stream][0, at], frame)
    if stream == "p" and config.p_hears_s:
        return  # at its edges through tokens of S only, which a change there need not flip
    for sample in (first + 1, end - 1):  # the Hann window's first value is zero
        changed = x.clone()
        changed[sample] += 1e6
        assert not torch.equal(encoded(made, changed)[stream][0, at], frame)


def test_p_hears_the_tokens_of_s_and_nothing_finer():
    config = VARIANTS["p hears s"]
    made, samples = codec(config), 32 * config.hop
    x = clip(samples)
    found, features = encoded(made, x), made.front_end(x[None])
    tokens, codewords = made.quantizer_s.quantize(found["s"])
    assert torch.equal(made.residual(features, Rows(), codewords), found["p"])
    tokens[0, 16] = (tokens[0, 16] + 1) % 64
    moved = (made.residual(features, Rows(), made.quantizer_s.dequantize(tokens)) != found["p"])[0].any(-1)
    assert moved.nonzero()[:, 0].tolist() == [15, 16, 17]


def test_an_encoder_that_begins_to_hear_s_goes_on_from_where_it_was():
    torch.manual_seed(0)
    fresh = Codec(VARIANTS["p hears s"])
    deaf = Codec(TINY)
    deaf.load_state_dict({name: value for name, value in fresh.state_dict().items() if name != "residual.side.weight"})
    x = clip(32 * TINY.hop)
    assert torch.equal(encoded(fresh, x)["p"], encoded(deaf, x)["p"])


def test_a_side_input_is_given_to_the_encoder_that_has_one():
    made, x = codec(VARIANTS["p hears s"]), clip(32 * TINY.hop)
    features = made.front_end(x[None])
    with pytest.raises(ValueError, match="the encoder has a side input, but none came"):
        made.residual(features, Rows())
    with pytest.raises(ValueError, match="the encoder has no side input, but one came"):
        made.semantic(features, Rows(), torch.zeros(1, 32, 16))


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
    """Return what one block of tokens decodes to."""
    return ClipDecoder(made).decode([Tokens(s[0], p[0], g[0], frames * made.config.hop)])[0]


@CONFIGS
def test_a_sample_depends_on_the_decoder_context_and_on_nothing_else(config):
    made = codec(config)
    frames, at, hop = 30, 15, config.hop
    context, fine, dec = made.decode_context_frames, made.decoder.context, config.decoder.hop
    s, p, g = tokens_of(config, frames)
    kept = slice(at * hop, (at + 1) * hop)
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


@CONFIGS
def test_padding_around_a_clip_changes_nothing(config):
    made = codec(config)
    samples, before, after = 10 * config.hop - 123, 3 * config.hop, 5 * config.hop
    x = F.pad(clip(samples), (0, 123))
    alone = latents(made, x[None], lengths=[samples])
    padded = latents(made, F.pad(x, (before, after))[None], [-before], [samples])
    for stream in STREAMS:
        hop = made.hop_of(stream)
        frames = -(-samples // hop)
        torch.testing.assert_close(padded[stream][:, before // hop :][:, :frames], alone[stream][:, :frames], rtol=0, atol=1e-5)


@CONFIGS
def test_what_lies_beyond_a_clip_in_its_row_does_not_reach_its_tokens(config):
    """Frames that hold no sample of the clip are zeros, and `ClipEncoder` puts zeros into the one that it ends in."""
    made = codec(config)
    samples = 10 * config.hop
    rows = [torch.cat([clip(samples), torch.zeros(240), tail]) for tail in (torch.zeros(4 * config.hop - 240), clip(4 * config.hop - 240, 5))]
    one, other = (latents(made, row[None], lengths=[samples]) for row in rows)
    for stream in STREAMS:
        frames = samples // made.hop_of(stream)
        assert torch.equal(one[stream][:, :frames], other[stream][:, :frames])


@WAYS
@CONFIGS
def test_windows_give_what_one_pass_over_the_whole_clip_gives(config, together):
    made = codec(config)
    x = clip(450 * config.hop)
    alone = encoded(made, x)
    with at_once(together):
        (pieced,) = ClipEncoder(made).encode([x], latents=True)
    torch.testing.assert_close(pieced.s_latent, alone["s"][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(pieced.p_latent, alone["p"][0], rtol=0, atol=1e-5)
    pooled = made.pooling.pooled(made.global_statistics(alone["g"], torch.ones(1, alone["g"].shape[1], 1)))
    torch.testing.assert_close(made.pooling.pooled(pieced.statistics), pooled, rtol=0, atol=1e-5)


@CONFIGS
@pytest.mark.parametrize("more", [0, 1, 9])
def test_frames_that_are_heard_only_are_left_out_of_the_latents_and_change_none(config, more):
    """A row of which nothing is known but where its clip begins and ends, in its context: it has the frames that it hears all of."""
    made, context = codec(config), codec(config).encode_context_frames
    past, future, core = context.past + more, context.future + more // 2, 12
    x, at, length = clip((past + core + future) * config.hop)[None], -2 * config.hop, (past + core - 1) * config.hop
    whole = latents(made, x, [at], [length])
    for stream in STREAMS:
        hop, need = made.hop_of(stream), made.frames_heard(stream)

        def heard(rows, frames, hop=hop):
            first = rows.first - at // hop
            return made.quantizer_s.quantize(whole["s"][:, first : first + frames])[1]

        flow = Flow([at], [length], begins=False, ends=False)
        inner = made.encode_stream(stream, x, flow, heard if stream == "p" and config.p_hears_s else None)
        first, frames = flow.first - at // hop, x.shape[1] // hop
        assert (first, inner.shape[1]) == (need.past, frames - need.past - need.future)
        own = slice(max(0, at // -hop - first), length // hop - at // hop - first)  # those that hold the clip
        torch.testing.assert_close(inner[:, own], whole[stream][:, first : first + inner.shape[1]][:, own], rtol=0, atol=1e-5)


def test_a_transformer_counts_positions_from_the_beginning_of_a_clip_and_anew_every_30_s():
    """Whatever it is cut into."""
    made = codec(VARIANTS["transformer"])
    hop, past = made.config.hop_s, made.frames_heard("s").past
    x = clip(20 * hop)
    alone = encoded(made, x)["s"][0, past:]

    def after(frames):
        with at_once(1, 70, 70):
            (found,) = ClipEncoder(made).encode([torch.cat([clip(frames * hop, 1), x])], latents=True)
        return found.s_latent[frames + past :]

    torch.testing.assert_close(after(750), alone, rtol=0, atol=1e-5)
    for frames in (1, 749):
        assert (after(frames) - alone).abs().amax(1).min() > 1e-3


def test_a_transformer_hears_positions_from_anywhere_in_training_only():
    encoder = TransformerEncoder(TransformerConfig(16, 2, (24,), 2), 4)
    features = torch.randn(3, 40, 80)
    assert torch.equal(encoder.eval()(features, Rows()), encoder(features, Rows()))
    torch.manual_seed(0)
    assert not torch.equal(encoder.train()(features, Rows()), encoder(features, Rows()))
    still = encoder(torch.randn(1, 40, 80).expand(3, -1, -1), Rows())
    assert not torch.allclose(still[0], still[1], atol=1e-4)


def test_a_transformer_learns_positions_of_30_s_and_says_so():
    encoder = TransformerEncoder(TransformerConfig(16, 2, (24,), 2), 4).train()
    with pytest.raises(ConfigError, match="a semantic transformer has 750 positions, a crop has 751 frames; make it shorter"):
        encoder(torch.zeros(1, 3004, 80), Rows())
    assert encoder(torch.zeros(1, 3000, 80), Rows()).shape == (1, 750, 4)
    assert encoder.eval()(torch.zeros(1, 3004, 80), Rows()).shape == (1, 751, 4)


def one_pass(made, s, p, g, at, lengths):
    """Return what rows of tokens, which begin at some sample of their clips, decode to, and the number of the first sample."""
    synthesis = Synthesis(made, Pitch64(made), g, len(s))
    return synthesis.push(*synthesis.codewords(s, p), at, lengths)


@WAYS
@pytest.mark.parametrize("missing", ["", "p", "g", "pg"])
@CONFIGS
def test_windows_decode_to_what_one_pass_over_all_tokens_decodes_to(config, missing, together):
    """The row of the one pass holds other tokens before and after the clip's: they must not count."""
    made, frames, around = codec(config), 110, 3
    s, p, g = tokens_of(config, frames + 2 * around)
    p, g = None if "p" in missing else p, None if "g" in missing else g
    start, samples = around * config.hop, frames * config.hop
    row, first = one_pass(made, s, p, g, [-start], [samples])
    own_s, own_p = (
        None if tokens is None else tokens[0, start // hop : (start + samples) // hop] for tokens, hop in ((s, config.hop_s), (p, config.hop_p))
    )
    with at_once(together, 50, 10):
        (pieced,) = ClipDecoder(made).decode([Tokens(own_s, own_p, None if g is None else g[0], samples)])
    torch.testing.assert_close(pieced, row[0, -first : samples - first], rtol=0, atol=1e-5)


@CONFIGS
def test_decoding_computes_what_training_does(config):
    """Voiced all the time, for longer than phases are remembered, and with noise: both count their frames from the clip's first one."""
    decoder = dataclasses.replace(config.decoder, phase_memory=30, noise_hz=2000.0)
    made = copy.deepcopy(codec(dataclasses.replace(config, decoder=decoder)))
    made.decoder.pitch.out.bias.data[1] += 20
    size, samples = made.config.decoder, 50 * config.hop
    s, p, g = tokens_of(config, 50)
    rows, wide = Rows(torch.ones(1, samples // size.hop, 1)), Rows(torch.ones(1, samples // size.hop + 2 * EDGE, 1))
    code_s, code_p = made.quantizer_s.dequantize(s), made.quantizer_p.dequantize(p)
    condition = made.decoder.conditioning(made.quantizer_g.dequantize(g), 1)
    log_f0, voice = made.decoder.pitch(code_s, code_p, rows, condition)
    assert (voice > 3).all()
    log_f0, voice = (F.pad(value, (EDGE, EDGE)) for value in (log_f0, torch.sigmoid(voice)))
    source = make_source(made.config, log_f0, voice, torch.tensor([-EDGE]))
    local = F.pad(made.decoder.local(code_s, code_p, rows), (0, 0, EDGE, EDGE))
    expected = made.decoder.waveform(made.decoder.spectrum(made.decoder.heads(local, wide, condition), wide, source))
    (found,) = ClipDecoder(made).decode([Tokens(s[0], p[0], g[0], samples)])
    torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-3)  # phases of float32 and float64
    assert (found - expected[0].roll(1)).abs().max() > 0.01


@CONFIGS
def test_the_graph_runs_on_any_device_that_torch_knows(config):
    """On the meta device every operation only computes shapes: one that makes a tensor on the CPU would be refused."""
    with torch.device("meta"):
        made = Codec(config).eval()
    assert {tensor.device.type for tensor in (*made.parameters(), *made.buffers())} == {"meta"}
    frames, at, lengths = 20, [-3 * config.hop, -4 * config.hop], [7 * config.hop, config.hop]
    found = latents(made, torch.zeros(2, frames * config.hop, device="meta"), at, lengths)
    assert found["s"].shape == (2, frames * config.hop // config.hop_s, config.semantic.quantizer.dim)
    assert found["p"].shape == (2, frames * config.hop // config.hop_p, config.residual.quantizer.dim)
    s, p, g = (tokens.repeat(2, *[1] * (tokens.ndim - 1)).to("meta") for tokens in tokens_of(config, frames))
    statistics = made.global_statistics(found["g"], torch.ones(*found["g"].shape[:2], 1, device="meta"))
    assert made.quantizer_g.quantize(made.global_latent(statistics))[0].shape == g.shape
    assert made.quantizer_s.quantize(found["s"])[0].shape == s.shape
    assert made.quantizer_p.quantize(found["p"])[0].shape == p.shape
    for drop in ((), ("p",), ("g",)):
        out, first = one_pass(made, s, None if "p" in drop else p, None if "g" in drop else g, at, lengths)
        assert (out.shape[0], out.device.type) == (2, "meta")
        assert first <= 0
        assert first + out.shape[1] >= lengths[0]


def test_every_row_of_a_batch_has_its_own_clip():
    made = codec()
    first, second = clip(20 * HOP, 1), F.pad(clip(15 * HOP - 7, 2), (0, 5 * HOP + 7))
    lengths = [20 * HOP, 15 * HOP - 7]
    both = latents(made, torch.stack([first, second]), [0, 0], lengths)
    for row, x in enumerate((first, second)):
        alone = latents(made, x[None], [0], lengths[row : row + 1])
        for stream in STREAMS:
            torch.testing.assert_close(both[stream][row], alone[stream][0], rtol=0, atol=1e-5)


def test_the_decoder_sounds_as_far_beyond_its_tokens_as_frames_reach_that_overlap_them():
    made, dec = codec(), TINY.decoder.hop
    s, p, g = tokens_of(TINY, 30)
    waveform, first = one_pass(made, s, p, g, [-10 * HOP], [10 * HOP])
    sounding = waveform[0].nonzero()[:, 0] + first
    # the first frame is two before the tokens' first and begins 1.5 hops early, with a zero of the Hann window
    assert sounding[0] == -2 * dec - 3 * dec // 2 + 1
    assert sounding[-1] == 10 * HOP + 2 * dec + 3 * dec // 2 - 1


@CONFIGS
def test_windows_computed_together_have_the_results_of_windows_computed_alone(config):
    """As on a GPU: several clips, null inputs and lengths in one batch."""
    made, frames = codec(config), (60, 260, 52, 90, 55)
    clips = [clip(number * config.hop - 5, number) for number in frames]
    drop = ("", "", "p", "g", "p")
    tokens = []
    for number, one, missing in zip(frames, clips, drop, strict=True):
        s, p, g = (stream[0] for stream in tokens_of(config, number, number))
        tokens.append(Tokens(s, None if "p" in missing else p, None if "g" in missing else g, len(one)))
    alone, waveforms = ClipEncoder(made).encode(clips, latents=True), ClipDecoder(made).decode(tokens)
    with at_once(3):
        encoded_together, decoded_together = ClipEncoder(made).encode(clips, latents=True), ClipDecoder(made).decode(tokens)
    for one, other in zip(encoded_together, alone, strict=True):
        assert torch.equal(one.s, other.s)
        assert torch.equal(one.p, other.p)
        assert one.samples == other.samples
        torch.testing.assert_close(one.s_latent, other.s_latent, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.p_latent, other.p_latent, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.statistics.mean, other.statistics.mean, rtol=0, atol=1e-5)
    for one, other in zip(decoded_together, waveforms, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@functools.cache
def in_one_piece(config):
    """Return clips, tokens, moments and samples of each clip as one block."""
    made = codec(config)
    clips = [clip(frames * config.hop - 5, frames) for frames in (23, 1, 64)]
    found = ClipEncoder(made).encode(clips)
    g = [torch.randint(config.global_.quantizer.codebook_size, (config.global_.quantizer.num_codebooks,)) for _ in clips]
    tokens = [Tokens(one.s, one.p, voice, one.samples) for one, voice in zip(found, g, strict=True)]
    return clips, found, tokens, ClipDecoder(made).decode(tokens)


@WAYS
@pytest.mark.parametrize(("core", "quantum"), [(1, 1), (7, 7), (50, 10), (250, 50)])
@CONFIGS
def test_windows_of_any_size_give_the_same_tokens_and_samples(config, core, quantum, together):
    made, (clips, found, tokens, waveforms) = codec(config), in_one_piece(config)
    with at_once(together, core, quantum):
        encoded_so, decoded_so = ClipEncoder(made).encode(clips), ClipDecoder(made).decode(tokens)
    for one, other in zip(encoded_so, found, strict=True):
        assert torch.equal(one.s, other.s)
        assert torch.equal(one.p, other.p)
        torch.testing.assert_close(one.statistics.mean, other.statistics.mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.statistics.weight, other.statistics.weight, rtol=1e-5, atol=0)
    for one, other in zip(decoded_so, waveforms, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def follow(decoder, log_f0, voiced):
    """Make a decoder's F0 and voice what two rows say of each frame, whatever the tokens are; it waits for as many frames as the real one."""
    context, factor = decoder.codec.decoder.pitch.context, decoder.codec.decoder.factor_s

    def pitch(s, p, rows, condition):
        wide = rows.extend(s.new_zeros(len(s), s.shape[1] * factor, 1), context.past, context.future)
        at = rows.numbers(max(0, wide.shape[1] - context.past - context.future), s.device).clamp(0, len(voiced) - 1)
        return log_f0[at], torch.where(voiced[at], 9.0, -9.0).double()

    decoder.exact.pitch = pitch
    return decoder


@WAYS
@pytest.mark.parametrize("core", [1, 7])
@pytest.mark.parametrize("subframes", [1, 2])
def test_phases_go_on_through_windows_of_any_size_however_long_a_voice_is(subframes, core, together):
    """Voices of 1 to 25 frames: shorter than what a phase remembers, exactly as long, and longer."""
    size = dataclasses.replace(TINY.decoder, n_fft=1280 // subframes, subframes=subframes)
    made = codec(dataclasses.replace(TINY, decoder=size))
    voiced = torch.cat([(torch.arange(length + 1) > 0) for length in range(1, 26)])
    assert len(voiced) > 20 * size.phase_memory
    log_f0 = 5 + 0.3 * torch.sin(torch.arange(len(voiced)).double())
    frames = len(voiced) * size.hop // HOP
    s, p, g = (stream[0] for stream in tokens_of(TINY, frames))
    decoder, clips = follow(ClipDecoder(made), log_f0, voiced), [Tokens(s, p, g, frames * HOP)]
    with at_once(1, frames):
        (whole,) = decoder.decode(clips)
    (silent,) = follow(ClipDecoder(made), log_f0, voiced & False).decode(clips)
    assert (whole - silent).abs().max() > 0.05
    with at_once(together, core, 1):
        torch.testing.assert_close(decoder.decode(clips)[0], whole, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("latents", [False, True])
def test_what_is_kept_of_a_long_clip_lies_in_one_place(latents):
    """Appended bit by bit it is what it is at once, and of no more than twice the size."""
    rows = torch.randn(1000, 3) if latents else torch.arange(1000)[:, None]
    kept = Kept(rows[:0])
    assert kept.rows.shape == rows[:0].shape
    for first, last in itertools.pairwise((0, 0, 1, 3, 250, 251, 999, 1000)):
        kept.append(rows[first:last])
        assert torch.equal(kept.rows, rows[:last])
    assert kept.rows.untyped_storage().nbytes() <= 2 * rows.untyped_storage().nbytes()
