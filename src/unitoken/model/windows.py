"""The grid of canonical windows: how clips of any length become pieces of a few fixed shapes.

A matrix product of another shape rounds differently, and a token near a boundary flips. So a clip is never one tensor of its own length: it
is cut on a grid anchored at its first frame into windows of `core` frames with the model's whole context on both sides, each computed by
itself. What a frame's value is then depends on the clip and the frame's number, never on what else is in the batch, on padding, or on
where a chunk of a stream ended. Only the last window of a clip may be shorter, in steps of `quantum` frames, so that short clips cost little.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import GridConfig


@dataclass(frozen=True)
class Window:
    """One canonical piece of a clip, in frames.

    Attributes:
        start: number of the first core frame.
        core: core frames computed, a multiple of the quantum; may reach beyond the clip's end.
        valid: how many of them the clip has.
    """

    start: int
    core: int
    valid: int


def windows(grid: GridConfig, frames: int) -> Iterator[Window]:
    """Yield the windows of a clip of `frames` frames, in order; none for an empty clip."""
    for start in range(0, frames, grid.core):
        valid = min(grid.core, frames - start)
        yield Window(start, -(-valid // grid.quantum) * grid.quantum, valid)
