"""Small codecs and tokenizers with random weights that all matter, and clips that use many of their tokens."""

import dataclasses
import functools
from unittest import mock

import torch

from unitoken.config import CodecConfig, DecoderConfig, EncoderConfig, QuantizerConfig, SemanticConfig, StreamConfig
from unitoken.encoder_config import FrontEndConfig, TransformerConfig
from unitoken.hub import Stored
from unitoken.model import windows
from unitoken.model.codec import Codec
from unitoken.nn.flow import Flow
from unitoken.presets import preset
from unitoken.tokenizer import Tokenizer

TINY = preset("tiny")
RATE, HOP = TINY.sample_rate, TINY.hop


def with_lookahead(frames):
    """Return `tiny` with three blocks in each last stage and in the decoder, and this much lookahead everywhere."""
    encoder = EncoderConfig((16, 16, 24), (1, 1, 3), 3, 2, frames)
    return dataclasses.replace(
        TINY,
        semantic=dataclasses.replace(TINY.semantic, encoder=encoder),
        residual=dataclasses.replace(TINY.residual, encoder=encoder),
        global_=dataclasses.replace(TINY.global_, encoder=EncoderConfig((16, 16), (1, 3), 3, 2, frames)),
        decoder=DecoderConfig(32, 5, 3, 2, 16, lookahead_frames=frames),
    )


VARIANTS: dict[str, CodecConfig] = {
    "tiny": TINY,
    "lookahead 0": with_lookahead(0),
    "lookahead 2": with_lookahead(2),
    # S from attention to two frames before and after, twice, behind a front end of its own
    "transformer": dataclasses.replace(
        TINY,
        semantic=SemanticConfig(TransformerConfig(16, 2, (24, 32), 2, FrontEndConfig(400, 512, 160, 24)), QuantizerConfig("vq", 16, 1, 64)),
        p_hears_s=1,
    ),
    # the same with one frame of lookahead in all, P without any, and positions that begin anew after two seconds
    "causal": dataclasses.replace(
        with_lookahead(0),
        semantic=SemanticConfig(TransformerConfig(16, 2, (24, 32), 2, FrontEndConfig(400, 512, 160, 24), 1, 700), QuantizerConfig("vq", 16, 1, 64)),
        p_hears_s=2,
    ),
    "p hears s": dataclasses.replace(TINY, p_hears_s=1),
    # P at 12.5 Hz from four stages, two RVQ codebooks for S
    "slow p": dataclasses.replace(
        TINY,
        semantic=dataclasses.replace(TINY.semantic, quantizer=QuantizerConfig("rvq", 16, 2, 32)),
        residual=dataclasses.replace(TINY.residual, encoder=EncoderConfig((16, 16, 24, 24), (1, 1, 1, 1), 3, 2)),
    ),
    # S at 12.5 Hz in three Gumbel codebooks, P at 50 Hz in two FSQ codebooks
    "slow s": dataclasses.replace(
        TINY,
        semantic=SemanticConfig(EncoderConfig((16, 16, 24, 24), (1, 1, 1, 1), 3, 2), QuantizerConfig("gumbel", 12, 3, 16)),
        residual=StreamConfig(EncoderConfig((16, 16), (1, 1), 3, 2), QuantizerConfig("fsq", 8, 2, 1000, (8, 5, 5, 5))),
    ),
}


TOGETHER = 1, 3
"""How many windows are computed at once: one after another, each going on from the one before; or each by itself, as on a GPU."""


def at_once(together, core=windows.CORE, quantum=windows.QUANTUM):
    """Compute so many windows at once, of some size; on a CPU none but clips of one block as a whole."""
    return mock.patch.multiple(windows, batch_size=lambda device: together, CORE=core, WHOLE=core, QUANTUM=quantum)


def clip(samples, seed=0):
    """Return float32 `(samples,)`: noise and a tone whose levels and pitch change every 50 ms."""
    generator = torch.Generator().manual_seed(seed)
    steps = samples // 800 + 1
    level, tone, pitch = torch.rand(3, steps, generator=generator).repeat_interleave(800, dim=1)[:, :samples]
    phase = torch.cumsum((100 + 3000 * pitch.double()) / RATE * 2 * torch.pi, 0)
    return 10 ** (-4 * level) * 0.3 * torch.randn(samples, generator=generator) + 10 ** (-3 * tone) * 0.3 * torch.sin(phase).float()


def latents(made, x, at=(0,), lengths=None):
    """Return the latents of whole rows `(batch, samples)` by stream, `(batch, frames, dim)`; P hears the nearest codewords of the rows' own S.

    Args:
        made: a codec.
        x: samples, zero outside the clips.
        at: the sample of its clip at which each row begins.
        lengths: samples of the clips; None where they end with their rows.
    """
    lengths = [start + x.shape[1] for start in at] if lengths is None else lengths
    found = {}
    for stream in "spg":
        hop = made.hop_of(stream)
        flow = Flow(at, [-(-length // hop) * hop for length in lengths])
        heard = made.quantizer_s.quantize(found["s"])[1] if stream == "p" and made.config.p_hears_s else None
        found[stream] = made.encode_stream(stream, x, flow, heard)
    return found


@functools.cache
def codec(config=TINY, seed=0):
    """Return a codec in eval mode; biases and null inputs are random too, codebooks hold latents of `clip`. Do not change it."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made = Codec(config).eval().requires_grad_(False)
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        samples = 160 * config.hop
        found = latents(made, clip(samples, seed)[None])
        for quantizer, frames in ((made.quantizer_s, found["s"][0]), (made.quantizer_p, found["p"][0])):
            if quantizer.config.kind != "fsq":
                _spread(quantizer.codebook, frames)
    return made


def _spread(codebook, frames):
    """Fill a codebook, `(size, dim)` or `(codebooks, size, dim)`, with latents, or groups of them, or what the first level leaves of them."""
    size, dim = codebook.shape[-2:]
    chosen = frames[torch.randperm(len(frames))[:size]]
    if codebook.ndim == 2:
        codebook.copy_(chosen)
    elif dim == frames.shape[1]:
        codebook.copy_(torch.randn(codebook.shape) * frames.std(0) / 4)
        codebook[0] = chosen
    else:
        codebook.copy_(chosen.unflatten(1, (len(codebook), dim)).transpose(0, 1))


@functools.cache
def tokenizer(config=TINY, seed=0, fingerprint="ab" * 16, device="cpu"):
    """Return a tokenizer around `codec(config, seed)`; it is shared by all tests."""
    return Tokenizer(Stored(config, codec(config, seed).state_dict(), fingerprint), device)
