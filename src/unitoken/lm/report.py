"""What a tolerant reading found and did."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Repair:
    """One thing that was not as it should be.

    Attributes:
        index: of the id in the sequence; the sequence's length for what is missing at its end.
        what: what was found, and what was done.
    """

    index: int
    what: str


@dataclass
class Report:
    """What a tolerant reading found.

    For each id that was added, taken away or changed, so many frames are lost at most, counted as what is no longer among the frames read, in order:
    1 of S in one codebook, 2 in several; a run, or a piece, in these layouts; interleaved, `2 * (1 + delay)` groups, the frames of one frame of the
    slower stream. `Sequential` loses 2 groups of each stream, and from an id that is missing or too many on S and P are apart by a frame.

    Attributes:
        repairs: in the order of the sequence.
    """

    repairs: list[Repair] = field(default_factory=list[Repair])

    @property
    def clean(self) -> bool:
        """Whether there was nothing to repair."""
        return not self.repairs

    def add(self, index: int, what: str) -> None:
        """Write one down."""
        self.repairs.append(Repair(int(index), what))

    def __str__(self) -> str:
        return "; ".join(f"at index {repair.index}: {repair.what}" for repair in self.repairs) or "nothing to repair"
