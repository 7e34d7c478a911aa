"""What goes on from one run of frames to the next: frames at hand, and the networks that keep what they need of earlier ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..nn.flow import Flow
from .windows import few

NO_END = 1 << 40
"""Samples of a clip whose end has not come yet."""


@dataclass
class Held:
    """Consecutive frames, or samples, of a clip that are at hand.

    Attributes:
        data: `(frames, ...)`.
        first: number of the first of them in the clip.
    """

    data: Tensor
    first: int = 0

    def cut(self, first: int, count: int) -> Tensor:
        """Return so many frames from number `first` on, zero where none are at hand."""
        out = self.data.new_zeros(count, *self.data.shape[1:])
        piece = self.data[max(0, first - self.first) : max(0, first + count - self.first)]
        offset = max(0, self.first - first)
        out[offset : offset + len(piece)] = piece
        return out

    def append(self, data: Tensor) -> None:
        """Take the frames that follow."""
        self.data = torch.cat([self.data, data])

    def forget(self, first: int) -> None:
        """Let go of all frames before a number."""
        if first > self.first:
            self.data, self.first = self.data[first - self.first :].clone(), first

    @property
    def end(self) -> int:
        """Number of the first frame that is still to come."""
        return self.first + len(self.data)


class Kept:
    """Rows that are kept one after another, in one tensor that doubles as it fills.

    A list of small tensors would lie scattered among the large ones that a block needs for a moment, which then find no room where they had been: an
    hour took twice the memory of a minute.

    Args:
        empty: `(0, ...)`, of the type and shape of a row.
    """

    def __init__(self, empty: Tensor) -> None:
        self._data, self._rows = empty, 0

    def append(self, rows: Tensor) -> None:
        """Keep some more rows."""
        end = self._rows + len(rows)
        if end > len(self._data):
            wider = self._data.new_empty(max(end, 2 * len(self._data)), *self._data.shape[1:])
            wider[: self._rows] = self.rows
            self._data = wider
        self._data[self._rows : end] = rows
        self._rows = end

    @property
    def rows(self) -> Tensor:
        """All of them."""
        return self._data[: self._rows]


@dataclass
class Stage:
    """A network that a clip's frames go through, run after run.

    Attributes:
        run: takes frames `(1, frames, ...)` and where they stand, and returns frames.
        hop: samples of a frame that comes in.
        out_hop: samples of a frame that comes out.
        unit: samples that the clip's length is rounded up to a multiple of; a multiple of `out_hop`.
        at: the sample at which the next run begins.
        tails: what layers keep.
    """

    run: Callable[[Tensor, Flow], Tensor]
    hop: int
    out_hop: int
    unit: int
    at: int = 0
    tails: Sequence[Tensor] = field(default_factory=list)

    def push(self, x: Tensor, samples: int | None) -> tuple[Tensor, int]:
        """Take the next frames `(1, frames, ...)`; return the frames that are complete, `(frames, ...)`, and the number of the first of them.

        Args:
            x: frames of `hop` samples.
            samples: of the clip, if these are its last frames.
        """
        length = NO_END if samples is None else -(-samples // self.unit) * self.unit
        flow = Flow([self.at], [length], hop=self.hop, ends=samples is not None, tails=self.tails)
        out = self.run(x if samples is None else self._ended(x), flow)
        self.tails, self.at = flow.kept, self.at + x.shape[1] * self.hop
        return out[0, : max(0, length // self.out_hop - flow.first)], flow.first

    def _ended(self, x: Tensor) -> Tensor:
        """Return a clip's last frames with some more beyond its end, so that there are few shapes; see `few`."""
        whole = self.unit // self.hop
        return F.pad(x, (*(0, 0) * (x.ndim - 2), 0, few(-(-x.shape[1] // whole)) * whole - x.shape[1]))
