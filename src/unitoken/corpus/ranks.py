"""Which shards are this process's when many work on one corpus and share nothing but its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CorpusError

VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
    ("RANK", "WORLD_SIZE", ""),
)
"""Of Slurm arrays, Slurm tasks and torchrun: a rank, how many there are, and the first of them where that is not 0."""


@dataclass(frozen=True)
class Share:
    """Every `count`-th shard, from number `index` on.

    Attributes:
        index: 0 to `count - 1`.
        count: how many shares there are.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.index < self.count:
            raise CorpusError(
                f"share {self.index}/{self.count} is none of 0/{self.count} to {self.count - 1}/{self.count}; shares are counted from 0"
            )

    def of(self, shards: int) -> list[int]:
        """Return the numbers of this share's shards.

        >>> Share(1, 3).of(8)
        [1, 4, 7]
        """
        return list(range(self.index, shards, self.count))


def read_share(text: str | None, environment: Mapping[str, str]) -> Share:
    """Return the share that a text `i/n` or the environment asks for; all shards if neither does.

    Args:
        text: of an option; None looks for `VARIABLES`. A Slurm array of more than one task goes before the tasks of a step.
        environment: such as `os.environ`.

    Raises:
        CorpusError: if it is no share.
    """
    if text is not None:
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None:
            raise CorpusError(f"a share is written i/n, such as 0/8 for the first of eight, got {text!r}")
        return Share(int(found[1]), int(found[2]))
    for rank, count, first in VARIABLES:
        if environment.get(rank, "").isdigit() and environment.get(count, "").isdigit() and int(environment[count]) > 1:
            return Share(int(environment[rank]) - int(environment.get(first, "0") or 0), int(environment[count]))
    return Share()
