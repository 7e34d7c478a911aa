"""How clips become pieces of bounded length.

On a CPU clips of up to 40 s share rows (`packing`), and longer ones are computed block by block, each going on from the one before. On a GPU many
windows run at once, each by itself with the model's context on both sides, in batches of one shape. What a frame's value is depends on the clip and
the frame's number, never on how it was cut.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..units import frames_for

CORE = 250
"""Frames of the codec's hop in a block or a window: 10 s at 25 Hz."""
WHOLE = 4 * CORE
"""Frames of a clip that is computed as a whole on a CPU, at most.

Ends of clips that go on from a block have another number of frames in nearly every layer: hundreds of shapes, and oneDNN and torch keep memory for
each.
"""
QUANTUM = 50
"""The last window of a clip has a multiple of so many frames; divides `CORE`."""


def batch_size(device: torch.device) -> int:
    """Return how many windows are computed at once on a device; 1 where clips are computed block by block."""
    return 1 if device.type == "cpu" else 32


def few(frames: int) -> int:
    """Return as many frames or a few more, a number of few: four between a power of two and the next.

    A CPU's kernels are made for shapes, and kept for a dozen lengths (oneDNN's primitive cache): kernels for clips of all lengths take as long to
    make as the clips to compute, and what stands beyond their ends takes less.
    """
    step = 1 << max(0, (frames - 1).bit_length() - 3)
    return -(-frames // step) * step


@dataclass(frozen=True)
class Window:
    """A piece of a clip, in frames of the codec's hop.

    Attributes:
        start: number of the first frame.
        core: the frames, made up to a multiple of the quantum; may reach beyond the clip's end.
        valid: how many of them the clip has.
    """

    start: int
    core: int
    valid: int


def windows(frames: int) -> Iterator[Window]:
    """Yield the windows of a clip of `frames` frames, in order; none for an empty clip."""
    for start in range(0, frames, CORE):
        valid = min(CORE, frames - start)
        yield Window(start, -(-valid // QUANTUM) * QUANTUM, valid)


def batches(lengths: Sequence[int], hop: int, size: int) -> Iterator[list[tuple[int, Window]]]:
    """Yield the windows of clips of so many samples, as pairs of a clip's number and a window, in batches of one shape and at most so many."""
    shapes = defaultdict[int, list[tuple[int, Window]]](list)
    for clip, samples in enumerate(lengths):
        for window in windows(frames_for(samples, hop)):
            shapes[window.core].append((clip, window))
    for members in shapes.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]
