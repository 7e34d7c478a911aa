"""The grid of canonical windows: how clips of any length become pieces of bounded length.

A clip is cut on a grid anchored at its first frame into windows of `core` frames, each computed by itself with the model's whole context on both
sides. What a frame's value is then depends on the clip and the frame's number, never on what else is in the batch or where a chunk of a stream
ended. Where windows are computed in batches of one shape, the last one of a clip is padded to a multiple of `quantum` frames.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..config import CodecConfig, GridConfig
from ..units import frames_for


def batch_size(device: torch.device) -> int:
    """Return how many windows are computed at once on a device: on the CPU one, since more of them are no faster there."""
    return 1 if device.type == "cpu" else 32


@dataclass(frozen=True)
class Window:
    """One canonical piece of a clip, in frames.

    Attributes:
        start: number of the first core frame.
        core: the frames, made up to a multiple of the quantum; may reach beyond the clip's end.
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


def batches(lengths: Sequence[int], config: CodecConfig, device: torch.device) -> Iterator[list[tuple[int, Window]]]:
    """Yield the windows of clips of so many samples, as pairs of a clip's number and a window, in batches of one shape for a device."""
    shapes = defaultdict[int, list[tuple[int, Window]]](list)
    for clip, samples in enumerate(lengths):
        for window in windows(config.grid, frames_for(samples, config.hop)):
            shapes[window.core].append((clip, window))
    size = batch_size(device)
    for members in shapes.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]
