"""A transformer block whose attention sees near frames only, on `(batch, frames, channels)`, and the position encoding that goes with it."""

import math

import torch
from torch import Tensor, nn

from .flow import Rows
from .linear import Linear


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


def near(present: Tensor | None, frames: int, past: int, future: int, device: torch.device) -> Tensor:
    """Return which frames each frame may attend to: those in the clip that are near, and always itself.

    Args:
        present: bool `(batch or 1, past + frames + future)`: frames that there are in the clip; None for all.
        frames: queries; so many frames more than these before and after are there to be attended to.
        past: frames before its own.
        future: frames after it.
        device: of the result.

    Returns:
        bool `(batch or 1, 1, frames, past + frames + future)`, of queries and keys.
    """
    apart = torch.arange(-past, frames + future, device=device)[None] - torch.arange(frames, device=device)[:, None]
    close = ((apart >= -past) & (apart <= future))[None]
    return (close if present is None else (close & present.unsqueeze(1)) | (apart == 0)).unsqueeze(1)


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
        if frames < 0:
            return wide[..., :channels]
        return rows.cut(self.attend(wide, near(rows.present(frames, past, future, x.device), frames, past, future, x.device), past))

    def attend(self, wide: Tensor, allowed: Tensor, past: int) -> Tensor:
        """Return `(batch, frames, channels)`.

        Args:
            wide: frames, queries, keys and values, `(batch, past + frames + future, 4 * channels)`.
            allowed: which frames each frame may attend to, see `near`.
            past: frames before the first one.
        """
        channels, frames = wide.shape[2] // 4, allowed.shape[2]
        x, query = wide[:, past : past + frames].split([channels, channels, 2 * channels], -1)[:2]
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, *wide[..., 2 * channels :].chunk(2, -1)))
        # Written out: of scaled_dot_product_attention the gradient is slow on a CPU (a fifth of a step of the semantic stage).
        bias = torch.where(allowed, 0.0, -math.inf).to(query.dtype).expand(x.shape[0], self.heads, -1, -1).flatten(0, 1)
        scores = torch.baddbmm(bias, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        heard = (scores.softmax(-1).to(value.dtype) @ value.flatten(0, 1)).unflatten(0, (-1, self.heads))
        x = x + self.joined(heard.transpose(1, 2).flatten(2))
        return x + self.down(self.up.gelu(self.norm(x)))
