"""What the commands say about errors, files and time."""

import os
from datetime import timedelta
from pathlib import Path

from ..errors import UnitokenError


class UsageError(UnitokenError):
    """Arguments that do not fit together, or that would overwrite something; nothing was done."""


def one_line(error: Exception) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).splitlines())


def shown(path: Path) -> str:
    """Return a path as text that any terminal takes; bytes that are no text become question marks."""
    return os.fsencode(path).decode(errors="replace")


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds.

    >>> duration(3725.4)
    '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))


def counted(number: int, word: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "file"), counted(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"
