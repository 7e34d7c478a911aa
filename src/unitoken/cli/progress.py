"""How far a job is: a bar on a terminal, a plain line now and then elsewhere, always on stderr."""

import time
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .messages import duration

EVERY_S = 10.0
"""Least time between two plain lines."""


def status(done: float, total: float, elapsed_s: float, unit: str, digits: int) -> str:
    """Return what is done, the rate and the time left.

    >>> status(0.5, 2.0, 25.0, "h", 3)
    '0.500 of 2.000 h, 0.02 h/s, 0:01:15 left'
    >>> status(0, 8, 0.0, "clips", 0)
    '0 of 8 clips'
    """
    text = f"{done:.{digits}f} of {total:.{digits}f} {unit}"
    if not done or not elapsed_s:
        return text
    rate = done / elapsed_s
    return f"{text}, {rate:.3g} {unit}/s, {duration((total - done) / rate)} left"


class Meter:
    """Shows progress as long as it is open.

    Args:
        unit: of the numbers given to `update`.
        digits: shown behind the point.
    """

    def __init__(self, unit: str, digits: int) -> None:
        self._unit, self._digits = unit, digits
        self._start = self._last = time.monotonic()
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Meter":
        """Open the bar."""
        if self._bar is not None:
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the meter was made."""
        return time.monotonic() - self._start

    def update(self, done: float, total: float) -> None:
        """Say how much of how much is done."""
        self.show(status(done, total, self.elapsed_s, self._unit, self._digits), done, total)

    def show(self, text: str, done: float, total: float) -> None:
        """Show a text of one's own beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            typer.echo(text, err=True)
