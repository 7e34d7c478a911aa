"""Where a corpus lies: a folder, or a place that fsspec knows (`s3://bucket/name`, `memory://name`). Files are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import CorpusError
from ..files import replacing


class Store(Protocol):
    """Named files in one place."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file; it takes the place of an older one when it is complete, and stays when the machine fails right after."""
        ...

    def get(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: if there is none.
        """
        ...

    def open(self, name: str) -> Any:
        """Return a file opened for reading bytes, with `seek`."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        ...


class Folder:
    """A store on this machine's file system.

    Args:
        path: the folder; made when something is put there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def put(self, name: str, data: bytes) -> None:
        """See `Store.put`."""
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.path / name, durable=True) as temporary:
            temporary.write_bytes(data)

    def get(self, name: str) -> bytes:
        """See `Store.get`."""
        return (self.path / name).read_bytes()

    def open(self, name: str) -> Any:
        """See `Store.open`."""
        return (self.path / name).open("rb")

    def has(self, name: str) -> bool:
        """See `Store.has`."""
        return (self.path / name).exists()

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        (self.path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `Store.names`; without those being written."""
        return sorted(entry.name for entry in self._entries() if not entry.name.startswith("."))

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        if self.path.is_dir():
            with os.scandir(self.path) as entries:
                yield from entries
        elif self.path.exists():
            raise CorpusError(f"{self.path} is a file; give the folder of a corpus")


class Remote:
    """A store behind fsspec, whose object stores make a file visible when it is complete.

    Args:
        url: such as `s3://bucket/name`.

    Raises:
        CorpusError: if fsspec does not know such URLs, or lacks a package for them.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = filesystem_of(self.url)

    def __str__(self) -> str:
        return self.url

    def put(self, name: str, data: bytes) -> None:
        """See `Store.put`; a bucket is not made, a folder is.

        Raises:
            CorpusError: if there is no such bucket.
        """
        try:
            self._fs.pipe_file(self._path(name), data)
        except FileNotFoundError:
            bucket = self._root.partition("/")[0]
            if bucket and not self._fs.exists(bucket):
                raise CorpusError(f"cannot write to {self.url}: there is no {bucket}; make it first, or give another URL") from None
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(self._path(name), data)

    def get(self, name: str) -> bytes:
        """See `Store.get`."""
        return self._fs.cat_file(self._path(name))

    def open(self, name: str) -> Any:
        """See `Store.open`."""
        return self._fs.open(self._path(name), "rb")

    def has(self, name: str) -> bool:
        """See `Store.has`; not by a listing that was kept."""
        self._fs.invalidate_cache(self._root)
        return self._fs.exists(self._path(name))

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        with contextlib.suppress(FileNotFoundError):  # some say so, some do not; what a cache says counts for nothing
            self._fs.rm_file(self._path(name))

    def names(self) -> list[str]:
        """See `Store.names`; those that are there now, whatever fsspec listed before.

        Raises:
            CorpusError: if the place is a file, or cannot be listed, for want of credentials for instance.
        """
        self._fs.invalidate_cache(self._root)
        try:
            found: list[str] = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        except OSError:
            raise
        except Exception as error:  # of whatever package is behind fsspec
            raise CorpusError(f"cannot list {self.url}: {error}; check the URL, the endpoint and the credentials") from error
        if self._root in found:
            raise CorpusError(f"{self.url} is a file; give the folder of a corpus")
        return sorted(name for name in (path.rsplit("/", 1)[-1] for path in found) if name and not name.startswith("."))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        CorpusError: if fsspec does not know it, or lacks a package for it.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise CorpusError(f"cannot reach {url}: {error}") from error


def is_url(path: str) -> bool:
    """Return whether a path is one for fsspec.

    >>> is_url("s3://bucket/talk.wav"), is_url("talks/talk.wav")
    (True, False)
    """
    return "://" in path


def store_at(place: str | os.PathLike[str]) -> Folder | Remote:
    """Return the store at a path or URL; `file://` is a path."""
    if not isinstance(place, str) or not is_url(place):
        return Folder(place)
    return Folder(filesystem_of(place)[1]) if place.startswith("file://") else Remote(place)
