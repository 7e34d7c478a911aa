"""Where a run of frames lies in its clip, and what layers keep of the frames before: one set of layers for whole rows, pieces and streams.

A layer that hears its neighbours asks for them with `extend`, works on what it gets without padding, and sets what lies outside the clip to zero
with `cut`. What `extend` gives depends on where the frames are from:

- `Rows`: whole rows. Zeros stand beyond both ends.
- `Packed`: several whole clips in one row, and between them as many zeros as a layer hears.
- `Flow`: a run of a clip's frames. Where the run begins or ends with its clip, zeros stand there. Where it goes on from an earlier run, the frames
  that a layer kept of that. Elsewhere nothing: then a layer returns fewer frames than it got, those that it could hear all of.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

T = TypeVar("T")


class Rows:
    """Whole rows of frames, such as a batch in training.

    Attributes:
        whole: zeros stand beyond both ends, always: a layer that pads by itself need not ask for what is heard around frames.

    Args:
        mask: float32 `(batch, frames, 1)` of ones and zeros: frames that belong to a clip, at the slowest rate that the rows will have; None for all.
    """

    whole = True

    def __init__(self, mask: Tensor | None = None) -> None:
        self.mask = mask
        self._finer, self._made = dict[int, Tensor](), dict[Hashable, object]()

    def extend(self, x: Tensor, past: int, future: int, group: int = 1) -> Tensor:
        """Return frames with what is heard around them, `(batch, past + frames + future, ...)`.

        Args:
            x: `(batch, frames, ...)`.
            past: frames before each one that are heard.
            future: frames after it.
            group: so many frames are joined: a whole number of groups is returned.
        """
        del group
        return F.pad(x, (*(0, 0) * (x.ndim - 2), past, future)) if past or future else x

    def clips(self, frames: int, past: int, future: int, device: torch.device) -> Tensor | None:
        """Return which clip each frame of what `extend` returned last belongs to.

        Returns:
            `(batch or 1, past + frames + future)`: int64, or bool where a row holds one clip; 0 or False for no clip. None: all are of one clip.
        """
        mask = self._at_rate(frames)
        inside = torch.ones(1, frames, dtype=torch.bool, device=device) if mask is None else mask[..., 0] > 0
        return F.pad(inside, (past, future))

    def cut(self, x: Tensor) -> Tensor:
        """Return `(batch, frames, ...)`, zero outside the clip; `x` may be overwritten."""
        mask = self._at_rate(x.shape[1])
        return x if mask is None else x * mask.view(*mask.shape[:2], *[1] * (x.ndim - 2))

    def join(self, factor: int) -> None:
        """From here on a frame is what so many were."""
        self._made.clear()

    def split(self, factor: int) -> None:
        """From here on so many frames are what one was."""
        self._made.clear()

    def numbers(self, frames: int, device: torch.device) -> Tensor:
        """Return the numbers of these frames in their clip, int64 `(batch or 1, frames)`."""
        return torch.arange(frames, device=device)[None]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes of where frames stand, which is made once for all layers that ask by one key at one rate."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]

    def _at_rate(self, frames: int) -> Tensor | None:
        if self.mask is None or frames == self.mask.shape[1]:
            return self.mask
        factor = frames // self.mask.shape[1]
        if factor not in self._finer:
            self._finer[factor] = self.mask.repeat_interleave(factor, 1)
        return self._finer[factor]


class Packed(Rows):
    """Several whole clips one after another in a row, none of which any layer hears from another.

    Args:
        firsts: the frame at which each clip begins, at the slowest rate that the row will have; between two clips as many are free as any layer
            hears on one side, attention aside, which knows the clips.
        counts: frames of each clip, at that rate.
        frames: of the row, at that rate.
    """

    def __init__(self, firsts: Sequence[int], counts: Sequence[int], frames: int) -> None:
        self._clips, self._numbers = torch.zeros(2, frames, dtype=torch.int64)
        super().__init__()
        self._free, end = list[tuple[int, int]](), 0
        for clip, (first, count) in enumerate(zip(firsts, counts, strict=True), 1):
            self._clips[first : first + count], self._numbers[first : first + count] = clip, torch.arange(count)
            self._free.append((end, first))
            end = first + count
        self._free.append((end, frames))

    def clips(self, frames: int, past: int, future: int, device: torch.device) -> Tensor | None:
        """See `Rows.clips`."""
        return F.pad(self._clips.repeat_interleave(frames // len(self._clips)), (past, future))[None].to(device)

    def cut(self, x: Tensor) -> Tensor:
        """See `Rows.cut`."""
        factor = x.shape[1] // len(self._clips)
        for first, end in self._free:
            if end > first:
                x[:, first * factor : end * factor] = 0
        return x

    def numbers(self, frames: int, device: torch.device) -> Tensor:
        """See `Rows.numbers`; any beside the clips."""
        factor = frames // len(self._numbers)
        return (self._numbers.unsqueeze(1) * factor + torch.arange(factor)).view(1, -1).to(device)


class Flow(Rows):
    """A run of frames of one clip, or of several clips, one a row, whose runs have one length.

    Args:
        at: the sample of its clip at which each row's run begins; it may lie before the clip, or behind its end. All are as far from a frame's
            beginning.
        lengths: samples of each row's clip.
        hop: samples of a frame.
        begins: a run that goes on from no earlier one begins where its clip does.
        ends: it ends with its clip.
        tails: what the layers kept of the earlier run (`kept`), in the order in which they ask.
        lagging: a run that goes on from no earlier one begins so early that nothing of what is missing counts: it gives as many frames as it got.
    """

    whole = False

    def __init__(
        self,
        at: Sequence[int],
        lengths: Sequence[int],
        *,
        hop: int = 1,
        begins: bool = True,
        ends: bool = True,
        tails: Sequence[Tensor] = (),
        lagging: bool = False,
    ) -> None:
        super().__init__()
        self.hop, self.begins, self.ends, self.lagging = hop, begins, ends, lagging
        self.tails, self.kept, self._asked = tails, list[Tensor](), 0
        self._at, self._moved = at, 0
        self._bounds = [(-start, length - start) for start, length in zip(at, lengths, strict=True)]  # of the clips, from each run's beginning
        self._surely = max(low for low, _ in self._bounds), min(high for _, high in self._bounds)

    @property
    def first(self) -> int:
        """Number of the first frame, of the first row."""
        return (self._at[0] + self._moved) // self.hop

    @property
    def firsts(self) -> list[int]:
        """Number of the first frame of each row."""
        return [(at + self._moved) // self.hop for at in self._at]

    def extend(self, x: Tensor, past: int, future: int, group: int = 1) -> Tensor:
        """See `Rows.extend`; without a frame where not even one has all that is heard around it."""
        held = self._held(x, past, future)
        after = [x.new_zeros(len(x), future, *x.shape[2:])] if self.ends and future else []
        wide = torch.cat([held, x, *after], 1) if held.shape[1] or after else x
        self._moved += (past - held.shape[1]) * self.hop
        spare = -self.first % group  # frames before the first whole group
        self._moved += spare * self.hop
        count = max(0, wide.shape[1] - past - future - spare) // group * group
        if not self.ends:
            self.kept.append(wide[:, spare + count :].clone())
        return wide[:, spare : spare + count + past + future] if count else wide[:, :0]

    def _held(self, x: Tensor, past: int, future: int) -> Tensor:
        """Return what stands before a run."""
        self._asked += 1
        if self._asked <= len(self.tails):
            return self.tails[self._asked - 1]
        frames = past + future if self.lagging else past if self.begins else 0
        return x.new_zeros(len(x), frames, *x.shape[2:])

    def clips(self, frames: int, past: int, future: int, device: torch.device) -> Tensor | None:
        """See `Rows.clips`."""
        return self._inside(self._moved - past * self.hop, past + frames + future, device)

    def cut(self, x: Tensor) -> Tensor:
        """See `Rows.cut`."""
        inside = self._inside(self._moved, x.shape[1], x.device)
        return x if inside is None else x * inside.view(*inside.shape, *[1] * (x.ndim - 2))

    def join(self, factor: int) -> None:
        """See `Rows.join`."""
        self.hop *= factor

    def split(self, factor: int) -> None:
        """See `Rows.split`."""
        self.hop //= factor

    def numbers(self, frames: int, device: torch.device) -> Tensor:
        """See `Rows.numbers`."""
        return torch.tensor(self.firsts, device=device).unsqueeze(1) + torch.arange(frames, device=device)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `Rows.once`; made anew, since a run moves from layer to layer."""
        del key
        return make()

    def _inside(self, moved: int, frames: int, device: torch.device) -> Tensor | None:
        """Return which of so many frames, the first of which begins `moved` samples after the run, there are in the clip; None: all are."""
        if self._surely[0] <= moved and moved + (frames - 1) * self.hop < self._surely[1]:
            return None
        at, bounds = torch.arange(frames, device=device) * self.hop + moved, torch.tensor(self._bounds, device=device)
        return (at >= bounds[:, :1]) & (at < bounds[:, 1:])
