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
        channels, query_key_value = x.shape[2], self.query_key_value(self.norm_attention(x))
        if rows.whole:
            query, around = query_key_value[..., :channels], rows.extend(query_key_value[..., channels:], past, future)
        else:
            wide = rows.extend(torch.cat([x, query_key_value], -1), past, future)
            own, around = wide[:, past : max(past, wide.shape[1] - future)], wide[..., 2 * channels :]
            x, query = own[..., :channels], own[..., channels : 2 * channels]
        frames, device = x.shape[1], x.device
        if not frames:
            return x
        bias = rows.once((past, future), lambda: self.bias(rows.clips(frames, past, future, device), frames, past, future, device))
        return rows.cut(self.attend(x, query, around, bias, past, future))

    def bias(self, clips: Tensor | None, frames: int, past: int, future: int, device: torch.device) -> Tensor:
        """Return what is added to the scores of queries and keys, float32: 0 or, where a frame does not hear the other, minus infinity.

        Args:
            clips: the clip that each of these frames belongs to, 0 for none, `(batch or 1, past + frames + future)`; None where all are of one.
            frames: queries.
            past: frames before its own that each attends to.
            future: frames after it.
            device: of the result.

        Returns:
            `(1, size, past + size + future)`, size being that of blocks, or `(batch or 1, blocks, size, past + size + future)`.
        """
        size = _size(frames)
        allowed = near(None if clips is None else _blocks(clips, frames, past + size + future), size, past, future, device)
        return torch.where(allowed, 0.0, -math.inf)

    def attend(self, x: Tensor, query: Tensor, around: Tensor, bias: Tensor, past: int, future: int) -> Tensor:
        """Return `(batch, frames, channels)`.

        Args:
            x: frames, `(batch, frames, channels)`.
            query: of these, `(batch, frames, channels)`.
            around: keys and values, `(batch, past + frames + future, 2 * channels)`.
            bias: see `bias`.
            past: frames before its own that each attends to.
            future: frames after it.
        """
        frames, channels = x.shape[1:]
        size = _size(frames)
        parts = (_blocks(query, frames, size), *_blocks(around, frames, past + size + future).chunk(2, -1))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 2) for part in parts)
        # Written out: of scaled_dot_product_attention the gradient is slow on a CPU (a fifth of a step of the semantic stage).
        bias = bias.to(query.dtype)
        if bias.ndim == 4:
            bias = bias.unsqueeze(2).expand(x.shape[0], -1, self.heads, -1, -1).flatten(0, 2)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        heard = (scores.softmax(-1).to(value.dtype) @ value).view(x.shape[0], -1, self.heads, size, channels // self.heads)
        x = x + self.joined(heard.transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames])
        return x + self.down(self.up.gelu(self.norm(x)))


def _size(frames: int) -> int:
    """Return how many queries share keys."""
    return BLOCK if is_exporting() or frames > 2 * BLOCK else frames


def _blocks(rows: Tensor, frames: int, count: int) -> Tensor:
    """Return `(rows, blocks, count, ...)`, a block for each so many of the frames; where the last one lacks frames it has any."""
    firsts = torch.arange(0, frames, _size(frames), device=rows.device).unsqueeze(1)
    at = (firsts + torch.arange(count, device=rows.device)).clamp_max(rows.shape[1] - 1)
    return rows.index_select(1, at.flatten()).unflatten(1, (-1, count))
