"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Generator[Path]:
    """Give a temporary path in the same folder; what is written there takes the place of `path` at the end, or is removed on any error.

    The temporary name keeps the suffix, for writers that go by it.

    Args:
        path: the file to write; its folder must exist.
        durable: have the disk hold the file before it gets its name, and the name before this returns.

    Raises:
        OSError: if the file cannot be put in its place.
    """
    final = Path(path)
    temporary = final.with_name(f".{secrets.token_hex(8)}{final.suffix}")  # short, so that a name as long as the system allows can be written
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, final)
        if durable:
            _sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Return once the disk holds a file or, where the system can say so, the names in a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
