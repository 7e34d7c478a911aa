"""The configuration of a codec: frozen dataclasses, JSON in and out, rates derived and never stored twice."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from .encoder_config import EncoderConfig, FrontEndConfig, TransformerConfig
from .errors import ConfigError
from .strict_json import build
from .units import bits_for, frame_rate

QuantizerKind = Literal["vq", "fsq", "rvq", "gumbel"]


@dataclass(frozen=True)
class QuantizerConfig:
    """One stream's quantizer.

    Attributes:
        kind: `vq` (exponential moving average, restarts), `fsq`, `rvq`, or `gumbel` (distance-Gumbel-softmax with rate control).
        dim: size of the latent; grouped kinds split it evenly over the codebooks.
        num_codebooks: tokens a frame (an utterance for the global stream).
        codebook_size: codewords in each codebook.
        levels: FSQ only: levels of each dimension of one codebook; their product is `codebook_size`.
    """

    kind: QuantizerKind = "vq"
    dim: int = 64
    num_codebooks: int = 1
    codebook_size: int = 4096
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if self.codebook_size < 2 or self.num_codebooks < 1 or self.dim < 1:
            raise ConfigError(f"a quantizer needs dim >= 1, num_codebooks >= 1 and codebook_size >= 2, got {self}")
        if self.kind == "fsq":
            if math.prod(self.levels) != self.codebook_size or not self.levels:
                raise ConfigError(
                    f"fsq levels {self.levels} give {math.prod(self.levels)} codewords, codebook_size says {self.codebook_size}; make them equal"
                )
            if min(self.levels) < 2:
                raise ConfigError(f"each fsq dimension needs at least 2 levels, got {self.levels}")
            if self.dim != self.num_codebooks * len(self.levels):
                raise ConfigError(f"fsq needs dim = num_codebooks * levels = {self.num_codebooks * len(self.levels)}, got {self.dim}")
        elif self.levels:
            raise ConfigError(f"levels are for fsq only, this quantizer is {self.kind}; leave them out")
        if self.kind == "vq" and self.num_codebooks != 1:
            raise ConfigError(f"vq has one codebook, got {self.num_codebooks}; use rvq or gumbel for several")
        if self.kind == "gumbel" and self.dim % self.num_codebooks:
            raise ConfigError(f"gumbel splits dim evenly over the codebooks; {self.dim} does not divide by {self.num_codebooks}")


@dataclass(frozen=True)
class SemanticConfig:
    """The encoder of S, of either kind, and its quantizer."""

    encoder: EncoderConfig | TransformerConfig = field(default_factory=EncoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)


@dataclass(frozen=True)
class StreamConfig:
    """An encoder and its quantizer."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)


@dataclass(frozen=True)
class DecoderConfig:
    """Fusion of the local streams, ConvNeXt blocks conditioned on the global tokens, inverse STFT.

    Attributes:
        dim: channels of the blocks.
        blocks: how many.
        kernel: frames of each depthwise convolution, odd.
        expansion: hidden channels of a block, times `dim`.
        condition_dim: channels of the global conditioning vector.
        n_fft: size of the inverse FFT and its Hann window.
        hop: samples of one of the blocks' frames.
        subframes: frames of the inverse STFT in each of them; `n_fft` must be four times the samples between these (overlap of 75 %).
        lookahead_frames: token frames of future context; None means centred kernels.
        pitch_dim: channels of the small stack that finds F0 and voicing in the tokens.
        pitch_blocks: its blocks.
        phase_memory: decoder frames that the phase of a voice may go back (4 s by default); longer runs of voice are cut there.
        noise_hz: frequency from which on what is not harmonic becomes noise, all of it an octave above; None leaves it its phases everywhere.
    """

    dim: int = 512
    blocks: int = 8
    kernel: int = 7
    expansion: int = 3
    condition_dim: int = 256
    n_fft: int = 1280
    hop: int = 320
    lookahead_frames: int | None = None
    pitch_dim: int = 128
    pitch_blocks: int = 3
    phase_memory: int = 200
    subframes: int = 1
    noise_hz: float | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if self.noise_hz is not None and not self.noise_hz > 0:
            raise ConfigError(f"noise_hz must be a positive frequency, or null for no noise, got {self.noise_hz}")
        if self.subframes < 1 or self.hop % (2 * self.subframes):
            raise ConfigError(f"the decoder's hop of {self.hop} samples cannot be cut into {self.subframes} subframes of an even number of samples")
        if self.n_fft != 4 * self.stft_hop:
            raise ConfigError(f"the decoder's n_fft must be 4 * hop / subframes = {4 * self.stft_hop}, got {self.n_fft}")
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ConfigError(f"kernel must be odd and positive, got {self.kernel}")
        if min(self.dim, self.blocks, self.expansion, self.condition_dim, self.hop) < 1:
            raise ConfigError(f"a decoder needs dim, blocks, expansion, condition_dim and hop of at least 1, got {self}")
        if self.lookahead_frames is not None and self.lookahead_frames < 0:
            raise ConfigError(f"lookahead_frames must be 0 or more, or null, got {self.lookahead_frames}")
        if min(self.pitch_dim, self.pitch_blocks, self.phase_memory) < 1:
            raise ConfigError(f"a decoder needs pitch_dim, pitch_blocks and phase_memory of at least 1, got {self}")

    @property
    def stft_hop(self) -> int:
        """Samples between frames of the inverse STFT."""
        return self.hop // self.subframes


@dataclass(frozen=True)
class CodecConfig:
    """Everything that decides what a codec computes, save its weights.

    Attributes:
        name: the model's name.
        sample_rate: Hz, of what the codec takes and gives.
        front_end: the spectral front end of all encoders but a semantic one that has its own (`front_end_s`).
        semantic: encoder and quantizer of S.
        residual: encoder and quantizer of P.
        global_: encoder and quantizer of G; the encoder's frames are pooled over the utterance.
        decoder: fusion and synthesis.
        p_hears_s: how many blocks of the P encoder's last stage also get S's codewords, so that P can leave out what S says; 0 for none. S and P
            then have one hop.
        code_licence: SPDX expression of the code.
        weights_licence: SPDX expression of the weights.
    """

    name: str = "unnamed"
    sample_rate: int = 16000
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    residual: StreamConfig = field(default_factory=StreamConfig)
    global_: StreamConfig = field(default_factory=StreamConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    p_hears_s: int = 0
    code_licence: str = "Apache-2.0"
    weights_licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        """Check that the rates fit together."""
        for stream in ("semantic", "residual"):
            hop = self._hop(getattr(self, stream))
            if hop % self.decoder.hop:
                raise ConfigError(f"the {stream} hop of {hop} samples is no multiple of the decoder's {self.decoder.hop}")
        if max(self.hop_s, self.hop_p) % min(self.hop_s, self.hop_p):
            raise ConfigError(f"hops of S and P must divide each other, got {self.hop_s} and {self.hop_p}")
        if self.hop % self._hop(self.global_):
            raise ConfigError(
                f"the global encoder's hop of {self._hop(self.global_)} samples must divide the codec's {self.hop}; give it fewer stages"
            )
        if not 0 <= self.p_hears_s <= self.residual.encoder.blocks[-1]:
            raise ConfigError(f"p_hears_s must be from 0 to the {self.residual.encoder.blocks[-1]} blocks of P's last stage, got {self.p_hears_s}")
        if self.p_hears_s and self.hop_s != self.hop_p:
            raise ConfigError(f"P can hear S at one hop only, got hops of {self.hop_s} (S) and {self.hop_p} (P) samples; set p_hears_s to 0")
        if self.front_end_s.hop != self.front_end.hop:
            raise ConfigError(f"both front ends need one hop, got {self.front_end.hop} and {self.front_end_s.hop} (semantic) samples")
        if self.sample_rate < 1:
            raise ConfigError(f"sample_rate must be positive, got {self.sample_rate}")

    def _hop(self, stream: StreamConfig | SemanticConfig) -> int:
        return self.front_end.hop * stream.encoder.stride

    @property
    def front_end_s(self) -> FrontEndConfig:
        """The front end of the semantic encoder: its own, or the one that the encoders share."""
        encoder = self.semantic.encoder
        return encoder.front_end if isinstance(encoder, TransformerConfig) else self.front_end

    @property
    def hop_s(self) -> int:
        """Samples of one S frame."""
        return self._hop(self.semantic)

    @property
    def hop_p(self) -> int:
        """Samples of one P frame."""
        return self._hop(self.residual)

    @property
    def hop(self) -> int:
        """Samples that whole frames of both streams cover: the longer of the two hops."""
        return max(self.hop_s, self.hop_p)

    @property
    def frame_rate_s(self) -> Fraction:
        """S frames a second."""
        return frame_rate(self.sample_rate, self.hop_s)

    @property
    def frame_rate_p(self) -> Fraction:
        """P frames a second."""
        return frame_rate(self.sample_rate, self.hop_p)

    @property
    def bitrate(self) -> Fraction:
        """Bits a second of S and P as packed in a file; the global tokens come on top, once an utterance (`global_bits`)."""
        s, p = self.semantic.quantizer, self.residual.quantizer
        return self.frame_rate_s * s.num_codebooks * bits_for(s.codebook_size) + self.frame_rate_p * p.num_codebooks * bits_for(p.codebook_size)

    @property
    def global_bits(self) -> int:
        """Bits of the global tokens of one utterance."""
        return self.global_.quantizer.num_codebooks * bits_for(self.global_.quantizer.codebook_size)

    def to_json(self) -> str:
        """Return the whole configuration as JSON text, keys in the order of the fields."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "CodecConfig":
        """Read what `to_json` wrote; fields left out keep their defaults.

        Raises:
            ConfigError: on text that is no JSON object, unknown keys, values of the wrong type, or parts that do not fit together.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"the configuration is no JSON: {error}") from error
        return build(cls, data, "config")
