"""The slots of a batch of streams: which are taken, and clear errors on misuse."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import StreamError

State = TypeVar("State")
Own = TypeVar("Own", bound="Batch[Any] | Single")


class Batch(ABC, Generic[State]):
    """Streams by the number of their slot.

    Args:
        slots: how many there can be at once.

    Raises:
        StreamError: if it is no positive number.
    """

    def __init__(self, slots: int) -> None:
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamError(f"a batch of streams needs a positive number of slots, got {slots!r}")
        self._slots: int = slots
        self._open = dict[int, State]()
        self._closed = False

    @property
    def slots(self) -> int:
        """How many streams there can be at once."""
        return self._slots

    @property
    def open_slots(self) -> list[int]:
        """The numbers of the streams that have begun and not ended."""
        return sorted(self._open)

    def close(self) -> None:
        """End all streams and let go of what they held; nothing more can be done with the batch."""
        for slot in self.open_slots:
            self.cancel(slot)
        self._closed = True

    def cancel(self, slot: int) -> None:
        """End a stream without its result, so that another may begin in its slot.

        Raises:
            StreamError: if there is no such stream.
        """
        self._state(slot)
        del self._open[slot]
        self._release(slot)

    @abstractmethod
    def _release(self, slot: int) -> None:
        """Let go of what a slot held."""

    def _free_slot(self) -> int:
        self._check_open()
        free = next((slot for slot in range(self._slots) if slot not in self._open), None)
        if free is None:
            raise StreamError(f"all {self._slots} slots are taken; finish or cancel a stream, or ask for more slots")
        return free

    def _state(self, slot: int) -> State:
        self._check_open()
        if slot not in self._open:
            raise StreamError(f"there is no stream {slot!r}; open ones are {self.open_slots}, and open() begins another")
        return self._open[slot]

    def _states(self, slots: Iterable[int]) -> dict[int, State]:
        return {slot: self._state(slot) for slot in slots}

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("this stream is closed; begin another with the tokenizer")

    def __enter__(self: Own) -> Own:
        """Return the batch itself, which is closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()


class Single:
    """One stream in a batch of one slot.

    Args:
        batch: with one slot.
        begin: opens a stream there and returns its slot.
    """

    def __init__(self, batch: Batch[Any], begin: Callable[[], int]) -> None:
        self._only, self._begin = batch, begin
        self._slot: int | None = begin()

    def reset(self) -> None:
        """Forget what has come, and begin anew.

        Raises:
            StreamError: if the stream is closed.
        """
        if self._slot is not None:
            self._only.cancel(self._slot)
        self._slot = self._begin()

    def close(self) -> None:
        """Let go of everything; a stream that was not finished is lost."""
        self._only.close()

    def _running(self) -> int:
        if self._slot is None:
            raise StreamError("this stream is finished; reset() begins another")
        return self._slot

    def __enter__(self: Own) -> Own:
        """Return the stream itself, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
