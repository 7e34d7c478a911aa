"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Give a temporary path in the same folder; what is written there takes the place of `path` at the end, or is removed on any error.

    The temporary name keeps the suffix, for writers that go by it.

    Args:
        path: the file to write; its folder must exist.

    Raises:
        OSError: if the file cannot be put in its place.
    """
    final = Path(path)
    temporary = final.with_name(f".{secrets.token_hex(8)}{final.suffix}")  # short, so that a name as long as the system allows can be written
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
