"""A semantic encoder of attention blocks: a Whisper encoder's parts, with a bounded and known context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..encoder_config import TransformerConfig
from ..errors import ConfigError
from ..nn.attention import AttentionBlock, near, sinusoids
from .encoder import NOTHING, Context, Encoder

POSITIONS = 1500
"""Whisper's positions, 20 ms each: 30 s."""


class TransformerEncoder(nn.Module):
    """Log-mel frames to latents at a quarter of their rate.

    Two convolutions halve the rate, the mean of each two frames halves it again, and attention goes on at the token rate. Positions begin
    anywhere in training; else the windows of the canonical grid decide on them, which begin at the same frames of every clip.

    Args:
        config: sizes.
        out: size of the latent.
    """

    def __init__(self, config: TransformerConfig, out: int) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv1d(config.front_end.mels, config.dim, 3, padding=1)
        self.second = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(POSITIONS, config.dim).view(-1, 2, config.dim).mean(1), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(AttentionBlock(config.dim, config.heads, hidden) for hidden in config.hidden)
        self.norm = nn.LayerNorm(config.dim)
        self.out = nn.Linear(config.dim, out)

    def forward(self, features: Tensor, mask: Tensor, margin: Context = NOTHING, at: int = 0) -> Tensor:
        """Encode frames.

        Args:
            features: float32 `(batch, frames * stride, mels)`, finite, anything where the mask is zero.
            mask: float32 `(batch, frames, 1)` at the token rate, ones and zeros.
            margin: frames at the ends that are there to be heard only: each block leaves out those that no later one will ask for.
            at: position of the first frame; 0 in training, where positions begin anywhere.

        Returns:
            float32 `(batch, frames - margin.past - margin.future, out)`; values where the mask is zero mean nothing.

        Raises:
            ConfigError: if there are more frames than positions, 30 s.
        """
        batch, frames, _ = mask.shape
        self.check_frames(at + frames)
        fine = mask.repeat_interleave(self.config.stride, dim=1).transpose(1, 2)
        x = F.gelu(self.first(features.transpose(1, 2) * fine)) * fine
        x = F.gelu(self.second(x)).transpose(1, 2)
        x = (x.reshape(batch, frames, 2, -1).mean(2) + self._positions(batch, frames, at)) * mask
        allowed, gone = near(mask, self.config.reach), NOTHING
        for left, block in zip(reversed(range(len(self.blocks))), self.blocks, strict=True):
            heard = left * self.config.reach
            leave = Context(max(0, margin.past - heard), max(0, margin.future - heard))
            inner = slice(leave.past - gone.past, mask.shape[1] - leave.future + gone.future)
            x = block(x, mask, allowed, inner)
            mask, allowed, gone = mask[:, inner], allowed[:, :, inner, inner], leave
        return self.out(self.norm(x))

    def check_frames(self, frames: int) -> None:
        """Do nothing if a row of this many token frames has a position for each.

        Raises:
            ConfigError: if not.
        """
        if frames > len(self.positions):
            raise ConfigError(
                f"a semantic transformer has {len(self.positions)} positions, a piece has {frames} frames; make it, or the grid's core, smaller"
            )

    def _positions(self, batch: int, frames: int, first: int) -> Tensor:
        if not self.training:
            return self.positions[first : first + frames]
        at = torch.arange(frames, device=self.positions.device)
        return self.positions[torch.randint(len(self.positions) - frames + 1, (batch, 1), device=at.device) + at]

    @property
    def context(self) -> Context:
        """Front-end frames that a token frame depends on, before and after the four that it spans."""
        around = len(self.blocks) * self.config.reach * self.config.stride
        return Context(around + 2, around + 1)


def semantic_encoder(config: CodecConfig) -> Encoder | TransformerEncoder:
    """Return the semantic encoder that a configuration asks for; it hears `config.front_end_s`."""
    encoder, dim = config.semantic.encoder, config.semantic.quantizer.dim
    if isinstance(encoder, TransformerConfig):
        return TransformerEncoder(encoder, dim)
    return Encoder(encoder, config.front_end.mels, dim)
