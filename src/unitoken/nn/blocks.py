"""Convolution blocks on `(batch, frames, channels)`, with the past and future context of each stated.

Every block takes a mask, float32 `(batch, frames, 1)` of ones and zeros, and returns zeros where it is zero: what a block's neighbours
see beyond the end of a clip is the zero padding that they would see at the end of a tensor, so padding never changes a valid frame.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv(nn.Module):
    """Depthwise convolution over frames; output frame `t` sees input frames `t - past` to `t + future`.

    Args:
        channels: channels in and out.
        kernel: taps.
        future: how many of them lie in the future; the rest, less one, lie in the past.
    """

    def __init__(self, channels: int, kernel: int, future: int) -> None:
        super().__init__()
        self.past, self.future = kernel - 1 - future, future
        self.weight = nn.Parameter(torch.empty(channels, 1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.trunc_normal_(self.weight, std=kernel**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(batch, frames, channels)` for the same; zeros are assumed beyond both ends."""
        padded = F.pad(x, (0, 0, self.past, self.future))
        # As an image of height 1 in channels-last memory the tensor needs no copy, and the kernel is 10 times as fast as conv1d's.
        return F.conv2d(padded.transpose(1, 2).unsqueeze(2), self.weight, self.bias, groups=len(self.bias)).squeeze(2).transpose(1, 2)


class AdaptiveNorm(nn.Module):
    """Layer norm over channels, of each frame alone; scale and shift come from a condition if there is one (Perez et al., arXiv 1709.07871).

    Args:
        channels: channels in and out.
        condition_dim: size of the condition; 0 for an ordinary affine layer norm.
    """

    def __init__(self, channels: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=not condition_dim)
        self.affine = nn.Linear(condition_dim, 2 * channels) if condition_dim else None
        if self.affine is not None:
            nn.init.zeros_(self.affine.bias)
            nn.init.trunc_normal_(self.affine.weight, std=0.02)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return `(batch, frames, channels)`; `condition` is `(batch, condition_dim)`, needed if and only if one was configured."""
        x = self.norm(x)
        if self.affine is None or condition is None:
            return x
        scale, shift = self.affine(condition).unsqueeze(1).chunk(2, dim=-1)
        return x * (1 + scale) + shift


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, two pointwise layers, scaled residual (Liu et al., arXiv 2201.03545; in one dimension as in Vocos, 2306.00814).

    Args:
        channels: channels in and out.
        kernel: taps of the depthwise convolution.
        expansion: hidden channels, times `channels`.
        future: taps that lie in the future.
        condition_dim: size of the condition of the norm; 0 for none.
        scale: initial value of the residual branch's scale.
    """

    def __init__(self, channels: int, kernel: int, expansion: int, future: int, condition_dim: int = 0, scale: float = 0.1) -> None:
        super().__init__()
        self.conv = DepthwiseConv(channels, kernel, future)
        self.norm = AdaptiveNorm(channels, condition_dim)
        self.up = nn.Linear(channels, expansion * channels)
        self.down = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))
        for layer in (self.up, self.down):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return `(batch, frames, channels)`, zero where the mask is; `x` must be zero there too."""
        y = self.norm(self.conv(x), condition)
        y = self.down(F.gelu(self.up(y)))
        return (x + y * self.scale) * mask


class Halve(nn.Module):
    """Join each two neighbouring frames into one: half the frames, no context beyond them.

    Args:
        channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.proj = nn.Linear(2 * channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return `(batch, frames / 2, out_channels)`; `mask` is the mask at the halved rate."""
        batch, frames, channels = x.shape
        return self.proj(self.norm(x).view(batch, frames // 2, 2 * channels)) * mask
