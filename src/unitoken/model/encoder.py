"""Encoders: log-mel frames to latents at the token rate, with a bounded and known context."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ..config import EncoderConfig
from ..nn.blocks import ConvNeXtBlock, Halve
from ..nn.flow import Rows
from ..nn.linear import Linear


@dataclass(frozen=True)
class Context:
    """How far beyond its own span a frame's value depends on its input.

    Attributes:
        past: input frames (or samples) before the span.
        future: input frames (or samples) after it.
    """

    past: int
    future: int


Heard = Callable[[Rows, int], Tensor]
"""Gives another input, `(batch, frames, channels)`, at so many frames that stand in some rows."""


def spread_lookahead(blocks: int, kernel: int, lookahead: int | None) -> list[int]:
    """Return each block's future taps: centred if `lookahead` is None, else its budget given to the first blocks until it is used up."""
    half = kernel // 2
    if lookahead is None:
        return [half] * blocks
    return [min(half, max(0, lookahead - half * index)) for index in range(blocks)]


class Encoder(nn.Module):
    """ConvNeXt stages, each at half the frame rate of the one before.

    Args:
        config: sizes.
        features: channels of the front end.
        out: size of the latent; 0 leaves the last stage's normed channels.
        side: channels of another input at the token rate; 0 for none.
        side_blocks: how many of the last stage's blocks come after it.
    """

    def __init__(self, config: EncoderConfig, features: int, out: int, side: int = 0, side_blocks: int = 0) -> None:
        super().__init__()
        self.config = config
        self.side_at = config.blocks[-1] - side_blocks
        self.side = Linear(side, config.dims[-1], bias=False) if side else None
        if self.side is not None:
            nn.init.zeros_(self.side.weight)  # an encoder trained without it goes on from where it was
        self.stem = Linear(features, config.dims[0])
        scale = 1 / sum(config.blocks)
        last = len(config.dims) - 1
        self.stages = nn.ModuleList()
        self.halves = nn.ModuleList(Halve(a, b) for a, b in zip(config.dims, config.dims[1:], strict=False))
        for index, (dim, count) in enumerate(zip(config.dims, config.blocks, strict=True)):
            budget = config.lookahead_frames if index == last or config.lookahead_frames is None else 0
            futures = spread_lookahead(count, config.kernel, budget)
            self.stages.append(nn.ModuleList(ConvNeXtBlock(dim, config.kernel, config.expansion, f, scale=scale) for f in futures))
        self.norm = nn.LayerNorm(config.dims[-1], eps=1e-6)
        self.out = Linear(config.dims[-1], out) if out else None

    def forward(self, features: Tensor, rows: Rows, side: Tensor | Heard | None = None) -> Tensor:
        """Encode frames.

        Args:
            features: float32 `(batch, frames * stride, features)`, finite, anything outside the clip.
            rows: where they stand.
            side: float32 `(batch, frames, side)`, or what gives it, if the encoder has a side input.

        Returns:
            float32 `(batch, frames, out)`; values outside the clip mean nothing.

        Raises:
            ValueError: if a side input is given to an encoder without one, or none to an encoder with one.
        """
        if (side is None) != (self.side is None):
            raise ValueError("the encoder has no side input, but one came" if self.side is None else "the encoder has a side input, but none came")
        x = rows.cut(self.stem(features))
        for index, stage in enumerate(self.stages):
            if index:
                x = self.halves[index - 1](x, rows)
            for number, block in enumerate(stage):  # type: ignore[arg-type]
                if self.side is not None and side is not None and index == len(self.stages) - 1 and number == self.side_at:
                    x = x + rows.cut(self.side(side if isinstance(side, Tensor) else side(rows, x.shape[1])))
                x = block(x, rows)
        x = self.norm(x)
        return x if self.out is None else self.out(x)

    @property
    def reach(self) -> int:
        """Front-end frames that a single layer hears at most on one side."""
        return max(max(block.conv.past, block.conv.future) << index for index, stage in enumerate(self.stages) for block in stage)  # type: ignore[arg-type]

    @property
    def side_context(self) -> Context:
        """Token frames of the side input that a token frame depends on, before and after it."""
        blocks = list(self.stages[-1])[self.side_at :]  # type: ignore[arg-type]
        return Context(sum(block.conv.past for block in blocks), sum(block.conv.future for block in blocks))

    @property
    def side_future(self) -> int:
        """Front-end frames behind a token frame that must be there before the side input of that frame is asked for."""
        return self._around(self.side_at).future

    @property
    def context(self) -> Context:
        """Front-end frames that a token frame depends on, before and after the `stride` frames it spans."""
        return self._around(self.config.blocks[-1])

    def _around(self, last: int) -> Context:
        """Return the context of a token frame before block number `last` of the last stage."""
        past = future = 0
        for index, stage in reversed(list(enumerate(self.stages))):
            blocks = list(stage)[: last if index == len(self.stages) - 1 else None]  # type: ignore[arg-type]
            past += sum(block.conv.past for block in blocks)
            future += sum(block.conv.future for block in blocks)
            if index:
                past, future = 2 * past, 2 * future
        return Context(past, future)
