"""The rows of one shard to tokens: threads read and decode while the model encodes; what fails is noted and loses nothing else."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ..errors import CorpusError, UnitokenError
from ..tokenizer import Tokenizer
from .media import Heard, check_length, fetch, hear, shown
from .plan import Row
from .shard import Failure, Made

FULL = {28, 122}  # no space left on device, quota exceeded: nothing about a row
Result = TypeVar("Result")
Known = Callable[[str, bytes], Made | None]
"""Gives what an earlier corpus has of an id whose audio has this hash."""
Tell = Callable[[float, int, int], object]
"""Hears of seconds encoded, rows done and rows failed since the last call."""


@dataclass(frozen=True)
class Settings:
    """How rows are encoded. Tokens depend on none of it but the model, on a CPU.

    Attributes:
        model: packaged model, folder or Hub repository; None for the default.
        revision: of a Hub repository.
        device: where to compute.
        margins: whether shards say how near each utterance's nearest token was to another.
        readers: threads that read and decode.
        batch_seconds: audio that goes through the model at once.
        reuse: an earlier corpus of the same tokenizer, from which rows are taken whose id and audio are the same.
    """

    model: str | None = None
    revision: str | None = None
    device: str = "cpu"
    margins: bool = False
    readers: int = 2
    batch_seconds: float = 300.0
    reuse: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.readers < 1 or not self.batch_seconds > 0:
            raise CorpusError(f"readers must be 1 or more and batch_seconds positive, got {self.readers} and {self.batch_seconds}")

    def load(self) -> Tokenizer:
        """Return the tokenizer."""
        return Tokenizer.from_pretrained(self.model, revision=self.revision, device=self.device)


def encode_rows(
    tokenizer: Tokenizer, rows: Mapping[int, Row], settings: Settings, tell: Tell | None = None, known: Known | None = None
) -> tuple[dict[int, Made], dict[int, Failure]]:
    """Encode rows.

    Args:
        tokenizer: of the settings.
        rows: by their numbers.
        settings: how.
        tell: hears how far it is, if anybody.
        known: what need not be encoded again.

    Returns:
        what was made, and what failed, by the rows' numbers.
    """
    made, failures, tell = dict[int, Made](), dict[int, Failure](), tell or untold

    def note(number: int, found: Made | Failure) -> None:
        if isinstance(found, Made):
            made[number] = found
            tell(found.bundle.seconds, 1, 0)
        else:
            failures[number] = found
            tell(0.0, 0, 1)

    def read() -> Iterator[tuple[int, Heard]]:
        for number, found in _read(rows, tokenizer.sample_rate, settings.readers, known):
            if isinstance(found, Heard):
                yield number, found
            else:
                note(number, found)

    for batch in _batches(read(), settings.batch_seconds):
        for number, found in _encoded(tokenizer, batch, rows, settings.margins).items():
            note(number, found)
    return made, failures


def _read(rows: Mapping[int, Row], sample_rate: int, readers: int, known: Known | None) -> Iterator[tuple[int, Heard | Made | Failure]]:
    """Yield what rows sound like, in their order, read ahead of time by threads; or what is known of them, or why they cannot be read."""

    def one(row: Row) -> Heard | Made:
        fetched = fetch(row)
        found = None if known is None else known(row.id, fetched.source_hash)
        return hear(fetched, sample_rate) if found is None else found

    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        waiting = deque[tuple[int, Future[Heard | Made]]]()
        left = iter(rows.items())
        try:
            while True:
                while len(waiting) < 4 * readers and (item := next(left, None)) is not None:
                    waiting.append((item[0], pool.submit(one, item[1])))
                if not waiting:
                    return
                number, future = waiting.popleft()
                yield number, _tried(future.result, rows[number])
        finally:
            for _, future in waiting:
                future.cancel()


def _batches(heard: Iterator[tuple[int, Heard]], most: float) -> Iterator[list[tuple[int, Heard]]]:
    """Yield what goes through the model at once, the longest first; what is too long to be held goes alone."""
    batch, seconds = list[tuple[int, Heard]](), 0.0
    for number, one in heard:
        if one.waveform is None:
            yield [(number, one)]
            continue
        if batch and seconds + one.seconds > most:
            yield sorted(batch, key=lambda item: -item[1].seconds)
            batch, seconds = [], 0.0
        batch.append((number, one))
        seconds += one.seconds
    if batch:
        yield sorted(batch, key=lambda item: -item[1].seconds)


def _encoded(tokenizer: Tokenizer, batch: Sequence[tuple[int, Heard]], rows: Mapping[int, Row], margins: bool) -> dict[int, Made | Failure]:
    """Encode a batch; if it fails as a whole, each row is tried alone."""
    first = rows[batch[0][0]]
    found = _tried(lambda: _tokens(tokenizer, batch, rows, margins), first)
    if not isinstance(found, Failure):
        return dict(found)
    if len(batch) == 1:
        return {batch[0][0]: found}
    return {number: one for item in batch for number, one in _encoded(tokenizer, [item], rows, margins).items()}


def _tokens(tokenizer: Tokenizer, batch: Sequence[tuple[int, Heard]], rows: Mapping[int, Row], margins: bool) -> dict[int, Made]:
    if batch[0][1].waveform is None:
        bundles = [tokenizer.encode(one.source, margins=margins) for _, one in batch]  # type: ignore[arg-type]
    else:
        bundles = tokenizer.encode([one.waveform for _, one in batch], sample_rate=tokenizer.sample_rate, margins=margins)  # type: ignore[misc]
    for (number, one), bundle in zip(batch, bundles, strict=True):
        check_length(rows[number], bundle.seconds, one.seconds)
    return {number: Made(bundle, one.source_hash) for (number, one), bundle in zip(batch, bundles, strict=True)}


def _tried(work: Callable[[], Result], row: Row) -> Result | Failure:
    """Return what `work` returns, or why it failed; what is wrong with the machine is no row's failure."""
    try:
        return work()
    except OSError as error:
        if error.errno in FULL:
            raise
        return _failure(row, error)
    except (UnitokenError, ValueError) as error:
        return _failure(row, error)
    except (RuntimeError, MemoryError) as error:  # of a device without memory, say: shorter rows may still do
        return _failure(row, error, f"{type(error).__name__}: ")


def _failure(row: Row, error: Exception, before: str = "") -> Failure:
    return Failure(row.id, shown(row), before + " ".join(str(error).split() or [type(error).__name__]))


def untold(seconds: float, rows: int, failures: int) -> None:
    """Hear, and do nothing."""
