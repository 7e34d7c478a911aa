"""The codec: front end, three encoders, three quantizers, decoder; and how far each hears."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..nn.flow import Rows
from ..nn.pooling import AttentivePooling, Statistics
from ..nn.quantize import build_quantizer
from ..nn.spectral import LogMel
from .decoder import Decoder
from .encoder import Context, Encoder, Heard
from .transformer import semantic_encoder


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

    def encode_stream(self, stream: str, waveform: Tensor, rows: Rows, heard: Tensor | Heard | None = None) -> Tensor:
        """Encode one stream.

        Args:
            stream: `s`, `p` or `g`.
            waveform: `(batch, samples)`, zero outside the clips.
            rows: where the samples stand.
            heard: for `p`, where it hears S: codewords of S, `(batch, frames of S, dim)`, or what gives them.

        Returns:
            latents `(batch, frames of the stream, dim)`; of `g` frames `(batch, frames, channels)` before pooling.
        """
        if stream == "s":
            return self.semantic(self.front_end_s(waveform, rows), rows)
        features = self.front_end(waveform, rows)
        return self.residual(features, rows, heard) if stream == "p" else self.global_encoder(features, rows)

    def own(self, x: Tensor) -> Tensor:
        """Return a tensor in the type of the weights, where they are."""
        return x.to(self.pooling.hidden.weight)

    @property
    def device(self) -> torch.device:
        """Where the codec computes."""
        return self.pooling.hidden.weight.device

    def global_statistics(self, frames: Tensor, mask: Tensor) -> Statistics:
        """Return the pooled moments of global frames `(batch, frames, channels)` where the mask is one."""
        return self.pooling.statistics(frames, mask)

    def moments(self, frames: Tensor) -> Statistics | None:
        """Return the pooled moments, on the CPU, of global frames `(1, frames, channels)` that are all in the clip; None of no frames."""
        return self.moments_of(frames, [slice(0, frames.shape[1])])[0] if frames.shape[1] else None

    def moments_of(self, frames: Tensor, clips: Sequence[slice]) -> list[Statistics]:
        """Return the pooled moments, on the CPU, of each of several clips whose global frames stand in one row, `(1, frames, channels)`."""
        weights = self.pooling.weights(frames)
        parts = [self.pooling.moments(frames[:, clip], weights[:, clip]) for clip in clips]
        return [Statistics(part.weight.cpu(), part.mean.cpu(), part.moment.cpu()) for part in parts]

    def global_latent(self, statistics: Statistics) -> Tensor:
        """Return the latent of the global tokens, float32 `(batch, dim)`."""
        return self.global_out(self.pooling.pooled(statistics))

    def hop_of(self, stream: str) -> int:
        """Return the samples of one frame of the stream `s`, `p` or `g`."""
        encoder = {"s": self.config.semantic, "p": self.config.residual, "g": self.config.global_}[stream].encoder
        return self.config.front_end.hop * encoder.stride

    def samples_heard(self, stream: str) -> Context:
        """Return the samples before and after its own frame that a frame of a stream depends on, save for what P hears of S."""
        encoder = {"s": self.semantic, "p": self.residual, "g": self.global_encoder}[stream]
        front_end, context = self.front_end_s if stream == "s" else self.front_end, encoder.context
        size = front_end.config
        return Context(context.past * size.hop + front_end.reach, context.future * size.hop + size.window - size.hop - front_end.reach)

    def frames_heard(self, stream: str) -> Context:
        """Return the frames of a stream around its own that hold the samples which it hears."""
        heard, hop = self.samples_heard(stream), self.hop_of(stream)
        return Context(math.ceil(heard.past / hop), math.ceil(heard.future / hop))

    @property
    def receptive_field(self) -> Context:
        """Samples before and after its own frame that an S or P token depends on, or a global frame: the largest of the three encoders'."""
        ways = [self.samples_heard(stream) for stream in "spg"]
        if self.config.p_hears_s:
            through, hop, own = self.residual.side_context, self.config.hop_p, ways[0]
            ways.append(Context(through.past * hop + own.past, through.future * hop + own.future))
        return Context(max(way.past for way in ways), max(way.future for way in ways))

    @property
    def frames_apart(self) -> int:
        """Frames of `config.hop` samples between two clips in one row, so that no layer hears one of them from the other."""
        size = self.config.front_end
        far = [encoder.reach * size.hop for encoder in (self.semantic, self.residual, self.global_encoder)]
        return math.ceil(max(*far, *(front_end.window - front_end.hop for front_end in (size, self.config.front_end_s))) / self.config.hop)

    @property
    def encode_context_frames(self) -> Context:
        """Frames of `config.hop` samples that an exact chunk needs before and after it to be encoded."""
        field = self.receptive_field
        return Context(math.ceil(field.past / self.config.hop), math.ceil(field.future / self.config.hop))

    @property
    def decode_context_frames(self) -> Context:
        """Frames of `config.hop` samples that an exact chunk needs before and after it to be decoded."""
        blocks, phase, factor = self.decoder.context, self.decoder.phase_context, self.config.hop // self.config.decoder.hop
        return Context(math.ceil(max(blocks.past, phase.past) / factor), math.ceil(max(blocks.future, phase.future) / factor))

    @property
    def phase_frames(self) -> int:
        """How many of the past `decode_context_frames` are there for the phase only."""
        return self.decode_context_frames.past - math.ceil(self.decoder.context.past * self.config.decoder.hop / self.config.hop)
