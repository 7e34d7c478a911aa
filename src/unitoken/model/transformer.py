"""A semantic encoder of attention blocks: a Whisper encoder's parts, with a bounded and known context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..encoder_config import POSITIONS, TransformerConfig
from ..errors import ConfigError
from ..nn.attention import AttentionBlock, sinusoids
from ..nn.flow import Rows
from ..nn.linear import Linear
from .encoder import Context, Encoder, spread_lookahead


class TransformerEncoder(nn.Module):
    """Log-mel frames to latents at a quarter of their rate.

    Two convolutions halve the rate, the mean of each two frames halves it again, and attention goes on at the token rate. Positions begin
    anywhere in training; else they are counted from the clip's beginning, and begin anew every 30 s.

    Args:
        config: sizes.
        out: size of the latent.
    """

    def __init__(self, config: TransformerConfig, out: int) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv1d(config.front_end.mels, config.dim, 3, padding=1)
        self.second = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(2 * POSITIONS, config.dim).view(-1, 2, config.dim).mean(1), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(AttentionBlock(config.dim, config.heads, hidden) for hidden in config.hidden)
        self.futures = spread_lookahead(len(config.hidden), 2 * config.reach + 1, config.lookahead_frames)
        self.norm = nn.LayerNorm(config.dim)
        self.out = Linear(config.dim, out)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """Encode frames.

        Args:
            features: float32 `(batch, frames * stride, mels)`, finite, anything outside the clip.
            rows: where they stand.

        Returns:
            float32 `(batch, frames, out)`; values outside the clip mean nothing.

        Raises:
            ConfigError: in training, if there are more frames than positions, 30 s.
        """
        x = rows.extend(rows.cut(features), 1, 1)
        x = rows.extend(rows.cut(F.gelu(self._convolved(x, self.first))), 1, 0, group=2)
        rows.join(2)
        x = rows.extend(F.gelu(self._convolved(x, self.second)), 0, 0, group=2)
        rows.join(2)
        x = x.unflatten(1, (-1, 2)).mean(2)
        x = rows.cut(x + self.positions[self._numbers(rows, x.shape[0], x.shape[1])])
        for block, future in zip(self.blocks, self.futures, strict=True):
            x = block(x, rows, self.config.reach, future)
        return self.out(self.norm(x))

    @staticmethod
    def _convolved(x: Tensor, layer: nn.Conv1d) -> Tensor:
        """Return a convolution of `(batch, frames, channels)` without padding."""
        if not x.shape[1]:
            return x.new_zeros(len(x), 0, layer.out_channels)
        # As in `DepthwiseConv`: without copies to and from frames in rows.
        image, weight = x.transpose(1, 2).unsqueeze(2), layer.weight.unsqueeze(2)
        return F.conv2d(image, weight, layer.bias, (1, *layer.stride)).squeeze(2).transpose(1, 2)

    def _numbers(self, rows: Rows, batch: int, frames: int) -> Tensor:
        """Return the positions of frames, int64 `(batch or 1, frames)`."""
        count, device = len(self.positions), self.positions.device
        if not self.training:
            return (rows.numbers(frames, device) + self.config.first_position) % count
        if frames > count:
            raise ConfigError(f"a semantic transformer has {count} positions, a crop has {frames} frames; make it shorter")
        return torch.randint(count - frames + 1, (batch, 1), device=device) + torch.arange(frames, device=device)

    @property
    def reach(self) -> int:
        """Front-end frames that a single layer hears at most on one side; attention, which tells clips apart, does not count."""
        return 1

    @property
    def context(self) -> Context:
        """Front-end frames that a token frame depends on, before and after the four that it spans."""
        past, future = len(self.blocks) * self.config.reach, sum(self.futures)
        return Context(past * self.config.stride + 2, future * self.config.stride + 1)


def semantic_encoder(config: CodecConfig) -> Encoder | TransformerEncoder:
    """Return the semantic encoder that a configuration asks for; it hears `config.front_end_s`."""
    encoder, dim = config.semantic.encoder, config.semantic.quantizer.dim
    if isinstance(encoder, TransformerConfig):
        return TransformerEncoder(encoder, dim)
    return Encoder(encoder, config.front_end.mels, dim)
