"""What may follow what in a sequence of ids: a finite automaton with one counter, whose steps take the same time wherever they are."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import LayoutError
from .vocabulary import Vocabulary

NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Arc:
    """One way on from a state.

    Attributes:
        kind: number of the kind of the id that is read.
        target: the state after it.
        add: added to the counter after it, which does not go below 0.
        least: the counter is at least this much,
        most: and at most this much, or the way is closed.
    """

    kind: int
    target: int
    add: int = 0
    least: int = 0
    most: int = NO_LIMIT

    def open(self, count: int) -> bool:
        """Return whether the counter lets this way be gone."""
        return self.least <= count <= self.most


@dataclass(frozen=True)
class Place:
    """Where in a sequence one is: a state and the counter. A value: it can be kept, compared, and gone on from more than once."""

    state: int
    count: int = 0


class GrammarBuilder:
    """Collects states and arcs.

    Args:
        vocabulary: whose kinds are named.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.arcs: list[list[Arc]] = []

    def state(self) -> int:
        """Return a new state."""
        self.arcs.append([])
        return len(self.arcs) - 1

    def states(self, number: int) -> list[int]:
        """Return new states."""
        return [self.state() for _ in range(number)]

    def arc(self, source: int, kind: str, target: int, **limits: int) -> None:
        """Add a way; see `Arc` for the limits."""
        self.arcs[source].append(Arc(self.vocabulary.number(kind), target, **limits))

    def chain(self, source: int, kinds: Sequence[str], target: int, **limits: int) -> list[int]:
        """Add a way over several kinds; the limits are of the first. Return the states between."""
        between = self.states(len(kinds) - 1)
        for here, kind, there in zip([source, *between], kinds, [*between, target], strict=True):
            self.arc(here, kind, there, **limits)
            limits = {}
        return between


class Grammar:
    """The sequences that a layout can have.

    Args:
        vocabulary: the ids.
        arcs: of each state.
        start: the state before the first id.
        end: the state after the last one.
    """

    def __init__(self, vocabulary: Vocabulary, arcs: Sequence[Sequence[Arc]], start: int, end: int) -> None:
        self.vocabulary = vocabulary
        self.arcs = tuple(map(tuple, arcs))
        self.start, self.end = Place(start), Place(end)
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def kinds(self, place: Place) -> tuple[int, ...]:
        """Return the numbers of the kinds that may come next; after the end padding."""
        return tuple(arc.kind for arc in self.arcs[place.state] if arc.open(place.count))

    def step(self, place: Place, id: int) -> Place:
        """Return the place after one more id, in constant time.

        Raises:
            LayoutError: if it may not come here.
        """
        after = self._after(place, id)
        if after is None:
            raise LayoutError(self._refusal(place, id))
        return after

    def _after(self, place: Place, id: int) -> Place | None:
        number = self.number_of(id)
        for arc in self.arcs[place.state]:
            if arc.kind == number and arc.least <= place.count <= arc.most:
                return Place(arc.target, max(0, place.count + arc.add))
        return None

    def _refusal(self, place: Place, id: int) -> str:
        return f"expected {self.expected(place)}, got {self.vocabulary.describe(id)} (id {id}); parse with strict=False to repair it"

    def after(self, ids: NDArray[np.int64]) -> Place:
        """Return the place after some ids from the beginning.

        Raises:
            LayoutError: at the first that may not come where it is.
        """
        place = self.start
        for index, id in enumerate(ids.tolist()):
            after = self._after(place, id)
            if after is None:
                raise LayoutError(f"at index {index}: {self._refusal(place, id)}")
            place = after
        return place

    def number_of(self, id: int) -> int:
        """Return the number of an id's kind, in constant time; -1 if it is of none."""
        return self._kinds_by_id[id] if 0 <= id < self.vocabulary.size else -1

    @functools.cached_property
    def _kinds_by_id(self) -> list[int]:
        return self.vocabulary.numbers_of(np.arange(self.vocabulary.size)).tolist()

    def expected(self, place: Place) -> str:
        """Return the names of what may come next."""
        return " or ".join(self.vocabulary.kinds[number].name for number in self.kinds(place))

    def allowed(self, place: Place) -> Tensor:
        """Return which ids may come next: bool `(vocabulary.size,)`, in constant time. It is shared: do not change it."""
        kinds = self.kinds(place)
        if kinds not in self._masks:
            mask = torch.zeros(self.vocabulary.size, dtype=torch.bool)
            for number in kinds:
                kind = self.vocabulary.kinds[number]
                mask[kind.first : kind.stop] = True
            self._masks[kinds] = mask
        return self._masks[kinds]

    def table(self) -> dict[str, Any]:
        """Return all of it as a JSON object, for other programs that choose ids, in any language.

        `kinds`: first id and number of ids of each; `arcs`: for each state, of each way the kind, the state after it, what is added to the counter,
        which is 0 at `start` and never below, and the least and the most that the counter may be for the way to be open (null: no limit).
        """
        return {
            "kinds": [[kind.name, kind.first, kind.size] for kind in self.vocabulary.kinds],
            "arcs": [[[arc.kind, arc.target, arc.add, arc.least, None if arc.most == NO_LIMIT else arc.most] for arc in arcs] for arcs in self.arcs],
            "start": self.start.state,
            "end": self.end.state,
        }
