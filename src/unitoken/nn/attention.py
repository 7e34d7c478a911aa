"""A transformer block whose attention sees near frames only, on `(batch, frames, channels)`, and the position encoding that goes with it."""

import math

import torch
from torch import Tensor, nn

from .flow import Rows
from .linear import Linear, is_exporting

BLOCK = 32
"""Frames of a run of more than two such blocks that share the keys around them: of all together most products of queries and keys would be masked."""


def sinusoids(positions: int, channels: int) -> Tensor:
    """Return sines, then cosines of positions at wavelengths from 2 pi to 20,000 pi (Vaswani et al., arXiv 1706.03762; in Whisper's order).

    Args:
        positions: 0 to `positions - 1`.
        channels: even.

    Returns:
        float32 `(positions, channels)`.
    """
    half = channels // 2
    rates = torch.exp(-math.log(10000) / max(half - 1, 1) * torch.arange(half, dtype=torch.float64))
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).float()


def near(clips: Tensor | None, frames: int, past: int, future: int, device: torch.device) -> Tensor:
    """Return which frames each frame may attend to: those near it in the same clip, itself among them.

    Args:
        clips: bool or int64 `(..., past + frames + future)`: the clip that each frame belongs to, 0 for none; None where all are of one.
        frames: queries; so many frames more than these before and after are there to be attended to.
        past: frames before its own.
        future: frames after it.
        device: of the result.

    Returns:
        bool `(..., frames, past + frames + future)`, of queries and keys; `(1, frames, past + frames + future)` if all are of one clip.
    """
    apart = torch.arange(-past, frames + future, device=device)[None] - torch.arange(frames, device=device)[:, None]
    close = ((apart >= -past) & (apart <= future))[None]
    return close if clips is None else close & (clips.unsqueeze(-2) == clips[..., past : past + frames].unsqueeze(-1))


class AttentionBlock(nn.Module):
    """Attention and a feed-forward part, each behind a layer norm and added (pre-norm, as in Whisper, arXiv 2212.04356).

    Args:
        channels: channels in and out.
        heads: of the attention.
        hidden: inner channels of the feed-forward part.
    """

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(channels)
        self.query_key_value = Linear(channels, 3 * channels)
        self.joined = Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.up = Linear(channels, hidden)
        self.down = Linear(hidden, channels)

    def forward(self, x: Tensor, rows: Rows, past: int, future: int) -> Tensor:
        """Return `(batch, frames, channels)`, zero outside the clip.

        Args:
            x: `(batch, frames, channels)`.
            rows: where they stand.
            past: frames before its own that each attends to.
            future: frames after it.
        """
        wide = rows.extend(torch.cat([x, self.query_key_value(self.norm_attention(x))], -1), past, future)
        frames, channels = wide.shape[1] - past - future, x.shape[2]
        if frames <= 0:
            return wide[:, :0, :channels]
        return rows.cut(self.attend(wide, rows.clips(frames, past, future, x.device), past, future))

    def attend(self, wide: Tensor, clips: Tensor | None, past: int, future: int) -> Tensor:
        """Return `(batch, frames, channels)`.

        Args:
            wide: frames, queries, keys and values, `(batch, past + frames + future, 4 * channels)`.
            clips: the clip that each of these frames belongs to, 0 for none, `(batch or 1, past + frames + future)`; None where all are of one.
            past: frames before its own that each attends to.
            future: frames after it.
        """
        frames, channels = wide.shape[1] - past - future, wide.shape[2] // 4
        x = wide[:, past : past + frames, :channels]
        size = BLOCK if is_exporting() or frames > 2 * BLOCK else frames
        firsts = torch.arange(0, frames, size, device=x.device).unsqueeze(1)

        def blocks(rows: Tensor, first: int, count: int) -> Tensor:
            """Return `(rows, blocks, count, ...)`; where the last block lacks frames it has any."""
            at = (firsts + torch.arange(first, first + count, device=x.device)).clamp_max(wide.shape[1] - 1)
            return rows.index_select(1, at.flatten()).unflatten(1, (-1, count))

        span = past + size + future
        query, around = blocks(wide[..., channels : 2 * channels], past, size), blocks(wide[..., 2 * channels :], 0, span)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 2) for part in (query, *around.chunk(2, -1)))
        allowed = near(None if clips is None else blocks(clips, 0, span), size, past, future, x.device)
        # Written out: of scaled_dot_product_attention the gradient is slow on a CPU (a fifth of a step of the semantic stage).
        bias = torch.where(allowed, 0.0, -math.inf).to(query.dtype)
        if clips is not None:
            bias = bias.unsqueeze(2).expand(x.shape[0], -1, self.heads, -1, -1).flatten(0, 2)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        heard = (scores.softmax(-1).to(value.dtype) @ value).view(x.shape[0], -1, self.heads, size, channels // self.heads)
        x = x + self.joined(heard.transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames])
        return x + self.down(self.up.gelu(self.norm(x)))
