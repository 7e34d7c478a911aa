"""F0 and voicing from tokens: what the decoder's harmonic source is made of."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..nn.blocks import AdaptiveNorm, ConvNeXtBlock
from ..nn.codebook import full
from ..nn.flow import Rows
from ..nn.harmonic import LEAST_HZ, MOST_HZ, run_through, running_phase
from ..nn.linear import Linear
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
        self.from_s = Linear(config.semantic.quantizer.dim, self.dim * (config.hop_s // size.hop))
        self.from_p = Linear(config.residual.quantizer.dim, self.dim * (config.hop_p // size.hop))
        lookahead = None if size.lookahead_frames is None else size.lookahead_frames * (config.hop_s // size.hop)
        futures = spread_lookahead(size.pitch_blocks, size.kernel, lookahead)
        scale = 1 / size.pitch_blocks
        self.blocks = nn.ModuleList(ConvNeXtBlock(self.dim, size.kernel, size.expansion, future, size.condition_dim, scale) for future in futures)
        self.norm = AdaptiveNorm(self.dim, size.condition_dim)
        self.out = Linear(self.dim, 2)

    def forward(self, s: Tensor, p: Tensor, rows: Rows, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Predict F0.

        Args:
            s: codewords, `(batch, frames of S, dim)`, float32, or float64 if the module is.
            p: codewords, `(batch, frames of P, dim)`, of the same samples; at least as many as S.
            rows: where the decoder's frames of S stand.
            condition: `(batch, condition_dim)`.

        Returns:
            natural logarithm of F0 in Hz, and the logit of voice, `(batch, frames)` each.
        """
        fine = self.from_s(s).unflatten(-1, (-1, self.dim)).flatten(1, 2)
        x = rows.cut(fine + self.from_p(p).unflatten(-1, (-1, self.dim)).flatten(1, 2)[:, : fine.shape[1]])
        for block in self.blocks:
            x = block(x, rows, condition)
        out = full(self.out(self.norm(x, condition)))
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

    def cut(self, begin: int, frames: int) -> "Source":
        """Return so many frames of the source, from one on."""
        span = slice(begin, begin + frames)
        return Source(self.f0[:, span], self.voice[:, span], self.phase[:, span], self.start + begin)


def make_source(config: CodecConfig, log_f0: Tensor, voice: Tensor, first: Tensor) -> Source:
    """Return the source of predicted, or known, F0 and voicing.

    Args:
        config: the codec's.
        log_f0: `(batch, frames)`, natural logarithm of Hz.
        voice: `(batch, frames)`, probability of voice, 0 where there are no tokens.
        first: int64 `(batch,)`, number of each row's first decoder frame in its clip.
    """
    size = config.decoder
    f0 = torch.exp(log_f0.clamp(math.log(LEAST_HZ), math.log(MOST_HZ)))
    phase = running_phase(f0, voice > 0.5, first, size.hop, config.sample_rate, size.phase_memory)
    if size.subframes > 1:
        f0, phase = run_through(f0, phase, voice > 0.5, size.hop, config.sample_rate, size.subframes)
        voice = voice.repeat_interleave(size.subframes, 1)
    return Source(f0.float(), voice.float(), phase, first * size.subframes)
