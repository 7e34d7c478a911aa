"""Rows of a batch that streams come into and leave: what every network keeps of each stream between its steps."""

from collections.abc import Sequence

from torch import Tensor


class SlotTails:
    """What the layers of a network keep of each of some streams.

    Args:
        slots: how many streams there can be.
    """

    def __init__(self, slots: int) -> None:
        self.slots, self._tails = slots, list[Tensor]()

    def take(self, slots: Sequence[int]) -> list[Tensor]:
        """Return what was kept of some streams, one a row."""
        if list(slots) == list(range(self.slots)):
            return list(self._tails)
        return [tail[list(slots)] for tail in self._tails]

    def put(self, slots: Sequence[int], kept: Sequence[Tensor]) -> None:
        """Keep what a step of these streams left."""
        if list(slots) == list(range(self.slots)):
            self._tails = list(kept)
            return
        if not self._tails:
            self._tails = [tail.new_zeros(self.slots, *tail.shape[1:]) for tail in kept]
        for tail, new in zip(self._tails, kept, strict=True):
            tail[list(slots)] = new

    def clear(self, slot: int) -> None:
        """Forget a stream, so that another may begin in its place."""
        for tail in self._tails:
            tail[slot] = 0


def together(ready: dict[int, int], most: int) -> tuple[list[int], int]:
    """Return the slots that can go on, and by how many steps all of them can.

    Args:
        ready: steps that each slot can take.
        most: steps at once.
    """
    slots = [slot for slot, steps in ready.items() if steps > 0]
    return slots, min([most, *(ready[slot] for slot in slots)])
