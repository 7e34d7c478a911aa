"""A transformer block whose attention sees near frames only, on `(batch, frames, channels)`, and the position encoding that goes with it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def near(mask: Tensor, reach: int) -> Tensor:
    """Return which frames each frame may attend to: valid ones at most `reach` away, and always itself.

    Args:
        mask: float32 `(batch, frames, 1)`: one on valid frames.
        reach: frames before and after.

    Returns:
        bool `(batch, 1, frames, frames)`, of queries and keys.
    """
    at = torch.arange(mask.shape[1], device=mask.device)
    apart = (at[None] - at[:, None]).abs()
    return (((mask[:, None, :, 0] > 0) & (apart <= reach)) | (apart == 0)).unsqueeze(1)


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
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.joined = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, mask: Tensor, allowed: Tensor, inner: slice = slice(None)) -> Tensor:
        """Return `(batch, frames, channels)`, of the inner frames if only these are wanted; zero where the mask is.

        Args:
            x: `(batch, frames, channels)`.
            mask: float32 `(batch, frames, 1)`: one on valid frames.
            allowed: what `near` returned.
            inner: frames to compute; the others are attended to, and left out.
        """
        query, key, value = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Written out: of scaled_dot_product_attention the gradient is slow on a CPU (a fifth of a step of the semantic stage).
        bias = torch.where(allowed[:, :, inner], 0.0, -math.inf).to(query.dtype).expand(-1, self.heads, -1, -1).flatten(0, 1)
        query, key, value = query[:, :, inner].flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        heard = (scores.softmax(-1).to(value.dtype) @ value).unflatten(0, (len(x), self.heads))
        x = x[:, inner] + self.joined(heard.transpose(1, 2).flatten(2))
        return (x + self.down(F.gelu(self.up(self.norm(x))))) * mask[:, inner]
