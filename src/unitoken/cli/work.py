"""Working through many files: look at all, refuse what would lose a file, go in batches, go on past what fails, say so at the end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ..errors import UnitokenError
from .messages import counted, duration, one_line, shown
from .paths import Job, check_targets
from .progress import Meter

BATCH_S = 60.0
"""Seconds of audio that go through the tokenizer at once; a longer file goes alone."""


@dataclass(frozen=True)
class Item(Job):
    """One clip to work on.

    Attributes:
        seconds: its length.
        index: its place in the source, for files that hold several.
    """

    seconds: float
    index: int = 0


Look = Callable[[Job], Sequence[Item]]
Process = Callable[[Sequence[Item]], None]
Failure = tuple[Path, str]


def run(verb: str, jobs: Sequence[Job], look: Look, start: Callable[[], Process], *, force: bool) -> None:
    """Do all jobs, and report what failed.

    Args:
        verb: what is done to a file, in the past tense.
        jobs: the files.
        look: finds out what a file holds and how long it is.
        start: loads what is needed, and returns what reads a batch of items and writes their targets.
        force: replace targets that exist.

    Raises:
        UsageError: if a target exists or would be lost; nothing is written then.
        typer.Exit: with code 1, if files failed.
    """
    failures: list[Failure] = []
    items: list[Item] = []
    for job in jobs:
        _try(lambda job=job: items.extend(look(job)), job.source, failures)
    items = _apart(items, failures)
    check_targets(items, force)
    if items:
        _process(verb, items, start(), failures)
    _report(len(jobs), failures)


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield the items in order, together as long as they are within `BATCH_S`."""
    batch: list[Item] = []
    seconds = 0.0
    for item in items:
        seconds += item.seconds
        if batch and seconds > BATCH_S:
            yield batch
            batch, seconds = [], item.seconds
        batch.append(item)
    if batch:
        yield batch


def _apart(items: Sequence[Item], failures: list[Failure]) -> list[Item]:
    """Return the items without those whose target is an earlier one's: they fail, and nothing is lost."""
    makers = dict[Path, Path]()
    kept = list[Item]()
    for item in items:
        other = makers.setdefault(item.target.resolve(), item.source)
        if other is item.source:
            kept.append(item)
        else:
            failures.append((item.source, f"{shown(other)} becomes {shown(item.target)} too; give this one another -o, in another call"))
    return kept


def _process(verb: str, items: Sequence[Item], process: Process, failures: list[Failure]) -> None:
    total, passed, done, done_s = sum(item.seconds for item in items), 0.0, 0, 0.0
    with Meter("h", digits=3) as meter:
        meter.update(0, total / 3600)
        for batch in batches(items):
            for item in _done(batch, process, failures):
                done, done_s = done + 1, done_s + item.seconds
            passed += sum(item.seconds for item in batch)
            meter.update(passed / 3600, total / 3600)
    typer.echo(f"{verb} {counted(done, 'clip')}, {duration(done_s)} of audio in {duration(meter.elapsed_s)}", err=True)


def _done(batch: Sequence[Item], process: Process, failures: list[Failure]) -> list[Item]:
    """Process a batch and return the items that succeeded; if it fails as a whole, each item is tried alone."""
    if len(batch) > 1 and _try(lambda: process(batch), batch[0].source, []):
        return list(batch)
    return [item for item in batch if _try(lambda item=item: process([item]), item.source, failures)]


def _try(work: Callable[[], None], source: Path, failures: list[Failure]) -> bool:
    """Return whether `work` succeeded; note the reason if it did not."""
    try:
        work()
    except (UnitokenError, OSError) as error:
        failures.append((source, one_line(error)))
        return False
    except (RuntimeError, MemoryError) as error:  # a device that has no memory left, say: the other files may still do
        failures.append((source, f"{type(error).__name__}: {one_line(error) or 'out of memory'}"))
        return False
    return True


def _report(files: int, failures: Sequence[Failure]) -> None:
    if not failures:
        return
    typer.echo(f"{len({source for source, _ in failures})} of {counted(files, 'file')} failed:", err=True)
    for source, reason in failures:
        typer.echo(f"  {shown(source)}: {reason}", err=True)
    raise typer.Exit(1)
