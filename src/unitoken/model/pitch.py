"""F0 and voicing from tokens: what the decoder's harmonic source is made of."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..nn.blocks import AdaptiveNorm, ConvNeXtBlock
from ..nn.harmonic import LEAST_HZ, MOST_HZ, run_through, running_phase
from .encoder import Context, spread_lookahead

CENTRE, SPREAD = 5.0, 0.5
"""Log-F0 of an output of zero (148 Hz), and of one more."""


class PitchPredictor(nn.Module):
    """A small stack of blocks on the codewords of S and P, conditioned on G.

    It stands apart from the decoder's own blocks because a phase needs the F0 of many frames before it, and those must cost little.

    Args:
        config: the codec's.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        size = config.decoder
        self.dim = size.pitch_dim
        self.from_s = nn.Linear(config.semantic.quantizer.dim, self.dim * (config.hop_s // size.hop))
        self.from_p = nn.Linear(config.residual.quantizer.dim, self.dim * (config.hop_p // size.hop))
        lookahead = None if size.lookahead_frames is None else size.lookahead_frames * (config.hop_s // size.hop)
        futures = spread_lookahead(size.pitch_blocks, size.kernel, lookahead)
        scale = 1 / size.pitch_blocks
        self.blocks = nn.ModuleList(ConvNeXtBlock(self.dim, size.kernel, size.expansion, future, size.condition_dim, scale) for future in futures)
        self.norm = AdaptiveNorm(self.dim, size.condition_dim)
        self.out = nn.Linear(self.dim, 2)

    def forward(self, s: Tensor, p: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Predict F0.

        Args:
            s: codewords, float32 `(batch, frames of S, dim)`.
            p: codewords, float32 `(batch, frames of P, dim)`, of the same samples.
            mask: float32 `(batch, frames, 1)` at the decoder's rate: one where there are tokens.
            condition: float32 `(batch, condition_dim)`.

        Returns:
            natural logarithm of F0 in Hz, and the logit of voice, float32 `(batch, frames)` each.
        """
        batch, frames, _ = mask.shape
        x = (self.from_s(s).reshape(batch, -1, self.dim)[:, :frames] + self.from_p(p).reshape(batch, -1, self.dim)[:, :frames]) * mask
        for block in self.blocks:
            x = block(x, mask, condition)
        out = self.out(self.norm(x, condition)).float()
        return CENTRE + SPREAD * out[..., 0], out[..., 1]

    @property
    def context(self) -> Context:
        """Decoder frames that a frame's F0 depends on, before and after."""
        return Context(sum(block.conv.past for block in self.blocks), sum(block.conv.future for block in self.blocks))  # type: ignore[union-attr]


@dataclass(frozen=True)
class Source:
    """What is filtered: the harmonic source of a row of frames of the inverse STFT, `subframes` for each of the decoder's, and where noise begins.

    Attributes:
        f0: float32 `(batch, frames)`, Hz, within `LEAST_HZ` and `MOST_HZ`.
        voice: float32 `(batch, frames)`, 0 to 1: strength of the harmonics.
        phase: float64 `(batch, frames)`, radians, of the first harmonic.
        start: int64 `(batch,)`, number of the first of these frames in the clip: which noise there is.
    """

    f0: Tensor
    voice: Tensor
    phase: Tensor
    start: Tensor

    def skip(self, frames: int) -> "Source":
        """Return the source without its first frames."""
        return Source(self.f0[:, frames:], self.voice[:, frames:], self.phase[:, frames:], self.start + frames)


def make_source(config: CodecConfig, log_f0: Tensor, voice: Tensor, mask: Tensor, first: Tensor) -> Source:
    """Return the source of predicted, or known, F0 and voicing.

    Args:
        config: the codec's.
        log_f0: float32 `(batch, frames)`, natural logarithm of Hz.
        voice: float32 `(batch, frames)`, probability of voice.
        mask: float32 `(batch, frames, 1)`: one where there are tokens; elsewhere there are no harmonics.
        first: int64 `(batch,)`, number of each row's first decoder frame in its clip.
    """
    size, voice = config.decoder, voice * mask[..., 0]
    f0 = torch.exp(log_f0.clamp(math.log(LEAST_HZ), math.log(MOST_HZ)))
    phase = running_phase(f0, voice > 0.5, first, size.hop, config.sample_rate, size.phase_memory)
    if size.subframes > 1:
        f0, phase = run_through(f0, phase, voice > 0.5, size.hop, config.sample_rate, size.subframes)
        voice = voice.repeat_interleave(size.subframes, 1)
    return Source(f0, voice, phase, first * size.subframes)
