"""A whole pool's samples or frames in one tensor, and pieces of it gathered as padded batches, on whatever device it lies.

On a CPU the tensor is a memory map, so that only what is read takes memory; on a GPU it is copied there once and batches are made there.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import TrainError
from ..files import replacing
from .pool import Pool
from .sampling import Crop

Store = TypeVar("Store", bound="FrameStore")


def mark(path: Path, pool: Pool) -> None:
    """Write beside a file what pool it was computed of."""
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"pool": pool.digest}) + "\n", encoding="utf-8")


def check_mark(path: Path, pool: Pool, command: str) -> None:
    """Do nothing if a file and its mark are there and it was computed of this pool.

    Raises:
        TrainError: if not; `command` makes the file.
    """
    marked = path.with_suffix(".json")
    if not (path.is_file() and marked.is_file()):
        missing = path if not path.is_file() else marked
        raise TrainError(f"{path.parent} is not complete ({missing.name} is missing); make it with: {command}")
    if json.loads(marked.read_text(encoding="utf-8"))["pool"] != pool.digest:
        raise TrainError(f"{path} was made of another pool than {pool.folder}, or that one has been built anew; make it again with: {command}")


def take(data: Tensor, first: Tensor, count: Tensor, width: int, fill: float = 0) -> Tensor:
    """Gather runs of rows as a padded batch.

    Args:
        data: `(rows, ...)`, one row at least.
        first: int64 `(batch,)`, first row of each run.
        count: int64 `(batch,)`, rows of each run; `first + count <= rows`.
        width: rows to return; longer runs are cut.
        fill: what stands behind the end of a run.

    Returns:
        `(batch, width, ...)` of the data's type and on its device.
    """
    at = torch.arange(width, device=data.device)
    inside = at < count[:, None]
    rows = data[torch.where(inside, first[:, None] + at, 0)]
    return rows.masked_fill_(~inside.view(*inside.shape, *[1] * (data.ndim - 1)), fill)


class FrameStore:
    """Frames of all utterances of a pool, one utterance after the other.

    Args:
        data: `(frames, ...)`.
        offsets: first frame of each utterance, by path.
        hop: samples a frame.
        fill: what `crop` puts behind the end of a crop.
    """

    def __init__(self, data: Tensor, offsets: Mapping[str, int], hop: int, fill: float = 0) -> None:
        self.data, self.offsets, self.hop, self.fill = data, offsets, hop, fill

    def crop(self, crops: Sequence[Crop], width: int) -> Tensor:
        """Return the frames of crops, `(batch, width, ...)`, with `fill` behind the end of each; crops start at multiples of the hop."""
        device = self.data.device
        first = torch.tensor([self.offsets[crop.utterance.path] + crop.start // self.hop for crop in crops])
        count = torch.tensor([-(-crop.samples // self.hop) for crop in crops])
        return take(self.data, first.to(device, non_blocking=True), count.to(device, non_blocking=True), width, self.fill)

    def to(self: Store, device: torch.device | str) -> Store:
        """Return a store with its data on a device; the same data if they are there already."""
        moved = copy.copy(self)
        moved.data = self.data.to(device)
        return moved


class AudioStore(FrameStore):
    """The samples of a pool.

    Args:
        pool: whose samples; they stay in its memory map until `to` copies them to a GPU.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(torch.from_numpy(pool.audio), {u.path: u.start for u in pool.utterances}, 1)

    def crop(self, crops: Sequence[Crop], width: int) -> Tensor:
        """Return float32 `(batch, width)` in [-1, 1], zero behind the end of each crop."""
        return super().crop(crops, width).float() / 32768
