"""Convolution blocks on `(batch, frames, channels)`, with the past and future context of each stated.

Every block takes the rows that its frames stand in (`nn.flow`) and returns zeros outside their clips: what a block's neighbours
see beyond the end of a clip is the zeros that they would see at the end of a tensor, so padding never changes a frame of the clip.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .flow import Rows
from .linear import Linear


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

    @property
    def centred(self) -> bool:
        """Whether as much is heard on both sides."""
        return self.past == self.future

    def forward(self, x: Tensor, whole: bool = False) -> Tensor:
        """Return `(batch, frames, channels)`.

        Args:
            x: `(batch, past + frames + future, channels)`; or `(batch, frames, channels)` if whole.
            whole: zeros stand on both sides of the frames; only if the convolution is centred.
        """
        if not x.shape[1]:
            return x
        if x.dtype == torch.float64:  # has no kernel for groups but one call for each channel
            x = F.pad(x, (0, 0, self.past, self.future)) if whole else x
            return (x.unfold(1, self.past + 1 + self.future, 1) * self.weight[:, 0, 0]).sum(-1) + self.bias
        # As an image of height 1 in channels-last memory the tensor needs no copy, and the kernel is 10 times as fast as conv1d's.
        image, padding = x.transpose(1, 2).unsqueeze(2), (0, self.past if whole else 0)
        return F.conv2d(image, self.weight, self.bias, padding=padding, groups=len(self.bias)).squeeze(2).transpose(1, 2)

    def inner(self, x: Tensor) -> Tensor:
        """Return the frames of `(batch, past + frames + future, channels)` that `forward` gives."""
        return x[:, self.past : x.shape[1] - self.future] if x.shape[1] else x


class AdaptiveNorm(nn.Module):
    """Layer norm over channels, of each frame alone; scale and shift come from a condition if there is one (Perez et al., arXiv 1709.07871).

    Args:
        channels: channels in and out.
        condition_dim: size of the condition; 0 for an ordinary affine layer norm.
    """

    def __init__(self, channels: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=not condition_dim)
        self.affine = Linear(condition_dim, 2 * channels) if condition_dim else None
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
        self.up = Linear(channels, expansion * channels)
        self.down = Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))
        for layer in (self.up, self.down):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, rows: Rows, condition: Tensor | None = None) -> Tensor:
        """Return `(batch, frames, channels)`, zero outside the clip; `x` must be zero there too."""
        whole = rows.whole and self.conv.centred
        return rows.cut(self.mix(x if whole else rows.extend(x, self.conv.past, self.conv.future), condition, whole))

    def mix(self, x: Tensor, condition: Tensor | None, whole: bool) -> Tensor:
        """Return `(batch, frames, channels)`; of the arguments of the convolution, and of the norm's condition."""
        y = self.norm(self.conv(x, whole), condition)
        y = self.down(self.up.gelu(y))
        return torch.addcmul(x if whole else self.conv.inner(x), y, self.scale)


class Halve(nn.Module):
    """Join each two neighbouring frames into one: half the frames, no context beyond them.

    Args:
        channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.proj = Linear(2 * channels, out_channels)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Return `(batch, frames / 2, out_channels)`, zero outside the clip."""
        x = rows.extend(x, 0, 0, group=2)
        rows.join(2)
        batch, frames, channels = x.shape
        return rows.cut(self.proj(self.norm(x).reshape(batch, frames // 2, 2 * channels)))
