"""The codec: front end, three encoders, three quantizers, decoder. Tensors of one window in, tensors out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..nn.pooling import AttentivePooling, Statistics
from ..nn.quantize import build_quantizer
from ..nn.spectral import LogMel
from .decoder import EDGE, Decoder
from .encoder import NOTHING, Context, Encoder
from .pitch import make_source
from .transformer import TransformerEncoder, semantic_encoder


@dataclass(frozen=True)
class Latents:
    """Continuous frames before quantization.

    Attributes:
        s: float32 `(batch, frames of S, dim)`.
        p: float32 `(batch, frames of P, dim)`.
        g: float32 `(batch, frames of G, channels)`: frames before pooling.
    """

    s: Tensor
    p: Tensor
    g: Tensor


def _without(frames: Tensor, margin: Context, factor: int) -> Tensor:
    """Return `(batch, frames, ...)` without a margin, `factor` frames for each of the margin's."""
    return frames[:, margin.past * factor : frames.shape[1] - margin.future * factor].contiguous()


class Codec(nn.Module):
    """UniCodec-style speech codec (after Jiang et al., arXiv 2503.12115): three encoders, three streams of tokens, one decoder.

    Args:
        config: sizes and rates.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        mels = config.front_end.mels
        self.front_end = LogMel(config.front_end, config.sample_rate)
        self.front_end_s = LogMel(config.front_end_s, config.sample_rate)
        self.semantic = semantic_encoder(config)
        side = config.semantic.quantizer.dim if config.p_hears_s else 0
        self.residual = Encoder(config.residual.encoder, mels, config.residual.quantizer.dim, side, config.p_hears_s)
        self.global_encoder = Encoder(config.global_.encoder, mels, 0)
        channels = config.global_.encoder.dims[-1]
        self.pooling = AttentivePooling(channels)
        self.global_out = nn.Sequential(nn.LayerNorm(2 * channels), nn.Linear(2 * channels, config.global_.quantizer.dim))
        self.quantizer_s = build_quantizer(config.semantic.quantizer)
        self.quantizer_p = build_quantizer(config.residual.quantizer)
        self.quantizer_g = build_quantizer(config.global_.quantizer)
        self.decoder = Decoder(config)
        if isinstance(self.semantic, TransformerEncoder):
            self.semantic.check_frames(self.encode_context_frames.past + config.grid.core + self.encode_context_frames.future)

    def mask(self, valid: Tensor, frames: int, hop: int) -> Tensor:
        """Return float32 `(batch, frames, 1)`: one on frames of `hop` samples that lie between two samples.

        Args:
            valid: int64 `(batch, 2)`, first and last-but-one sample of the clip in each row; may lie outside the row.
            frames: frames in a row.
            hop: samples a frame.
        """
        at = torch.arange(frames, device=valid.device)[None] * hop
        return ((at + hop > valid[:, :1]) & (at < valid[:, 1:])).float().unsqueeze(-1)

    def semantic_latents(self, waveform: Tensor, valid: Tensor, margin: Context = NOTHING, at: int = 0) -> Tensor:
        """Encode S of windows.

        Args:
            waveform: float32 `(batch, samples)`, samples a multiple of `config.hop`, zero outside the clip.
            valid: int64 `(batch, 2)`: where in the row the clip starts and ends; see `mask`.
            margin: frames of `config.hop` samples at the row's ends that are there to be heard only; `frames_heard` is enough to change nothing.
            at: position of the row's first frame of S, for an encoder that has positions.

        Returns:
            float32 `(batch, frames of S, dim)`, without the margin.
        """
        fine, hop = self.config.hop // self.config.hop_s, self.config.hop_s
        features, mask = self.front_end_s(waveform), self.mask(valid, waveform.shape[1] // hop, hop)
        if isinstance(self.semantic, TransformerEncoder):
            return self.semantic(features, mask, Context(margin.past * fine, margin.future * fine), at)
        return _without(self.semantic(features, mask), margin, fine)

    def residual_latents(self, features: Tensor, valid: Tensor, margin: Context = NOTHING, heard: Tensor | None = None) -> Tensor:
        """Encode P of windows, `(batch, frames of P, dim)` without the margin.

        Args:
            features: of `front_end`, `(batch, frames, mels)`.
            valid: as for `semantic_latents`.
            margin: as for `semantic_latents`.
            heard: codewords of S in the whole row, `(batch, frames of S, dim)`, where P hears S.
        """
        return self._encode(self.residual, features, valid, margin, heard)

    def global_frames(self, features: Tensor, valid: Tensor, margin: Context = NOTHING) -> Tensor:
        """Encode frames of G, `(batch, frames of G, channels)` without the margin; see `residual_latents`."""
        return self._encode(self.global_encoder, features, valid, margin)

    def _encode(self, encoder: Encoder, features: Tensor, valid: Tensor, margin: Context, side: Tensor | None = None) -> Tensor:
        """Run an encoder on what it hears of a row: what it need not hear for the frames without the margin is cut before."""
        need, size, hop = self.frames_heard(encoder), self.config.front_end.hop, self.config.hop
        cut = Context(max(0, margin.past - need.past), max(0, margin.future - need.future))
        x = _without(features, cut, hop // size)
        if side is not None:
            side = _without(side, cut, hop // self.config.hop_s)
        mask = self.mask(valid - cut.past * hop, x.shape[1] // encoder.config.stride, size * encoder.config.stride)
        return _without(encoder(x, mask, side), margin - cut, hop // (size * encoder.config.stride))

    def latents(self, waveform: Tensor, valid: Tensor, margin: Context = NOTHING) -> Latents:
        """Encode windows in one go; P hears the nearest codewords of what S is in the same row.

        Args:
            waveform: as for `semantic_latents`.
            valid: as for `semantic_latents`.
            margin: frames of `config.hop` samples at the row's ends that are there to be heard only: no latents of them are returned.
                `encode_context_frames` is enough to change nothing.
        """
        side, fine = self._side_frames(), self.config.hop // self.config.hop_s
        more = Context(max(0, margin.past - side), max(0, margin.future - side))
        s = F.pad(self.semantic_latents(waveform, valid, more), (0, 0, more.past * fine, more.future * fine))
        heard = self.quantizer_s.quantize(s)[1] if self.config.p_hears_s else None
        features = self.front_end(waveform)
        return Latents(_without(s, margin, fine), self.residual_latents(features, valid, margin, heard), self.global_frames(features, valid, margin))

    def global_statistics(self, frames: Tensor, mask: Tensor) -> Statistics:
        """Return the pooled moments of global frames `(batch, frames, channels)` where the mask is one."""
        return self.pooling.statistics(frames, mask)

    def global_latent(self, statistics: Statistics) -> Tensor:
        """Return the latent of the global tokens, float32 `(batch, dim)`."""
        return self.global_out(self.pooling.pooled(statistics))

    def decode(self, s: Tensor, p: Tensor | None, g: Tensor | None, valid: Tensor, skip: int = 0) -> Tensor:
        """Decode windows of tokens.

        Args:
            s: int64 `(batch, frames of S, codebooks)`, any token where the clip has none.
            p: int64 `(batch, frames of P, codebooks)`, covering the same samples; None for the learnt null input.
            g: int64 `(batch, num_g)`, or the vector that they stand for, float32 `(batch, dim)`; None for the learnt null condition.
            valid: int64 `(batch, 2)`: where in the row, in samples, the tokens start and end; see `mask`. The start is at a multiple of `config.hop`.
            skip: frames of `config.hop` samples at the row's start that are there for the phase of what follows, and are not decoded.

        Returns:
            float32 `(batch, samples)`: of all but the first and last `EDGE` decoder frames of what is decoded.
        """
        decoder, hop = self.decoder, self.config.decoder.hop
        voice = self.quantizer_g.dequantize(g) if g is not None and not g.is_floating_point() else g
        condition = decoder.conditioning(voice, len(s))
        codewords = self.quantizer_s.dequantize(s)
        if p is None:
            rest = decoder.null_p.expand(len(s), -(-s.shape[1] * self.config.hop_s // self.config.hop_p), -1)
        else:
            rest = self.quantizer_p.dequantize(p)
        frames, fine = s.shape[1] * decoder.factor_s, skip * self.config.hop // hop
        mask = self.mask(valid, frames, hop)
        log_f0, voiced = decoder.pitch(codewords, rest, mask, condition)
        source = make_source(self.config, log_f0, torch.sigmoid(voiced), mask, -valid[:, 0] // hop)
        skip_s, skip_p = (skip * self.config.hop // each for each in (self.config.hop_s, self.config.hop_p))
        local = decoder.local(codewords[:, skip_s:], rest[:, skip_p:], mask[:, fine:])
        edge = torch.tensor([-EDGE * hop, EDGE * hop], device=valid.device)
        return decoder(local, self.mask(valid + edge, frames, hop)[:, fine:], condition, source.skip(fine * self.config.decoder.subframes))

    @property
    def receptive_field(self) -> Context:
        """Samples before and after its own frame that an S or P token depends on, or a global frame: the largest of the three encoders'."""
        ways = [self._heard(self.residual), self._heard(self.global_encoder), own := self._heard(self.semantic)]
        if self.config.p_hears_s:
            through, hop = self.residual.side_context, self.config.hop_p
            ways.append(Context(through.past * hop + own.past, through.future * hop + own.future))
        return Context(max(way.past for way in ways), max(way.future for way in ways))

    def _heard(self, encoder: Encoder | TransformerEncoder) -> Context:
        """Return the samples before and after its own frame that a frame of an encoder depends on."""
        front_end, context = self.front_end_s if encoder is self.semantic else self.front_end, encoder.context
        size = front_end.config
        return Context(context.past * size.hop + front_end.reach, context.future * size.hop + size.window - size.hop - front_end.reach)

    def _frames(self, samples: Context) -> Context:
        """Return how many frames of `config.hop` samples hold so many."""
        return Context(math.ceil(samples.past / self.config.hop), math.ceil(samples.future / self.config.hop))

    def frames_heard(self, encoder: Encoder | TransformerEncoder) -> Context:
        """Return the frames of `config.hop` samples around its own that a frame of an encoder depends on, save for what P hears of S."""
        return self._frames(self._heard(encoder))

    def _side_frames(self) -> int:
        """Return how many frames of `config.hop` samples before or after its own P hears of S; S and P then have one hop."""
        if not self.config.p_hears_s:
            return 0
        side = self.residual.side_context
        return max(side.past, side.future)

    @property
    def encode_context_frames(self) -> Context:
        """Frames of `config.hop` samples that an exact chunk needs before and after it to be encoded."""
        return self._frames(self.receptive_field)

    @property
    def decode_context_frames(self) -> Context:
        """Frames of `config.hop` samples that an exact chunk needs before and after it to be decoded."""
        blocks, phase, factor = self.decoder.context, self.decoder.phase_context, self.config.hop // self.config.decoder.hop
        return Context(math.ceil(max(blocks.past, phase.past) / factor), math.ceil(max(blocks.future, phase.future) / factor))

    @property
    def phase_frames(self) -> int:
        """How many of the past `decode_context_frames` are there for the phase only: `decode` may skip them."""
        return self.decode_context_frames.past - math.ceil(self.decoder.context.past * self.config.decoder.hop / self.config.hop)
