"""Audio in tar archives: named by a manifest, or as WebDataset has it, the files of an utterance beside each other under one name."""

import json
import os
import tarfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..audio import AUDIO_SUFFIXES
from ..errors import CorpusError
from .plan import SOURCE, locators
from .tables import LENGTHS

TEXTS = {".txt": "text", ".cls": "class", ".lab": "text"}
"""Members that hold one text, and the columns that these become."""


def read_archive(path: Path) -> pa.Table:
    """Read the members of a tar file as WebDataset names them: up to the first dot of its name a member's utterance, behind it what it is.

    An utterance is one audio file, with the fields of a `.json` file and the texts of others (`TEXTS`) as columns. Members whose names begin with
    a dot are no one's.

    Returns:
        A plan's table, in the order of the archive.

    Raises:
        CorpusError: if it is no archive, is compressed, or an utterance has two audio files or a member that cannot be read; or if a field is of
            different kinds or has a name of our own.
    """
    found = dict[str, tuple[int, int]]()
    about = dict[str, dict[str, Any]]()
    with _reading(path):
        for member, read in _members(path):
            folder, _, name = os.fsencode(member.name).decode(errors="backslashreplace").rpartition("/")
            key = f"{folder}/{name.partition('.')[0]}" if folder else name.partition(".")[0]
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):  # what macOS packs beside each file
                continue
            if suffix in AUDIO_SUFFIXES:
                if key in found:
                    raise CorpusError(f"{path} has two audio files named {key}; an utterance has one: rename the other up to its first dot")
                found[key] = member.offset_data, member.size
            elif suffix == ".json":
                about.setdefault(key, {}).update(_object(path, member.name, read()))
            elif suffix in TEXTS:
                about.setdefault(key, {})[TEXTS[suffix]] = read().decode(errors="replace").strip()
    columns = [about.get(key, {}) for key in found]
    names = [name for name in dict.fromkeys(name for row in columns for name in row) if name not in {"id", *LENGTHS}]
    if SOURCE in names:
        raise CorpusError(f"{path} has a field {SOURCE!r}, the name of a column that plans have of their own; rename it")
    offsets, sizes = zip(*found.values(), strict=True) if found else ((), ())
    source = locators([os.fsencode(path.resolve())] * len(found), offset=pa.array(offsets, pa.int64()), size=pa.array(sizes, pa.int64()))
    others = {name: _column(path, name, [row.get(name) for row in columns]) for name in names}
    return pa.table({"id": pa.array(list(found), pa.string()), SOURCE: source, **others})


def find_members(table: pa.Table, folder: Path, archives: Sequence[Path]) -> pa.Table:
    """Say of a plan's rows where in some archives their audio lies, as members named like their paths; rows come in the order of the archives.

    A table that holds its audio itself stays as it is. Rows that are in none of the archives come last, with the path that they have: whatever is not
    there either will be an error of its own.

    Args:
        table: as a manifest was read.
        folder: of the manifest, which its paths were taken to be relative to.
        archives: tar files.

    Raises:
        CorpusError: if none of the rows is there, or an archive cannot be read.
    """
    sources = table[SOURCE].combine_chunks()
    if sources.field("index").null_count < len(sources):
        return table
    paths = sources.field("path").to_pylist()
    rows = dict[str, list[int]]()
    for row, path in enumerate(paths):
        rows.setdefault(os.path.relpath(os.fsdecode(path), os.path.abspath(folder)), []).append(row)
    order, where = list[int](), list[tuple[bytes, int | None, int | None]]()
    for archive in archives:
        held = os.fsencode(archive.resolve())
        with _reading(archive):
            for member, _ in _members(archive):
                for row in rows.pop(os.path.normpath(member.name), ()):
                    order.append(row)
                    where.append((held, member.offset_data, member.size))
    if not order:
        raise CorpusError(
            f"no row of the manifest is a member of {', '.join(map(str, archives))}; name them there as the manifest does, or leave the archives out"
        )
    for row in sorted(row for rest in rows.values() for row in rest):
        order.append(row)
        where.append((paths[row], None, None))
    chosen = table.take(pa.array(order))
    spans = chosen[SOURCE].combine_chunks()
    holders, offsets, sizes = zip(*where, strict=True)
    parts = {"offset": pa.array(offsets, pa.int64()), "size": pa.array(sizes, pa.int64())}
    source = locators(holders, **parts, start=spans.field("start"), end=spans.field("end"))
    return chosen.set_column(chosen.column_names.index(SOURCE), SOURCE, source)


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """Yield the files of an archive, and what reads each."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg():
                yield member, lambda member=member: tar.extractfile(member).read()  # type: ignore[union-attr]


@contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorpusError(f"cannot read {path}: {error}; give a tar file that is whole and not compressed, or its files") from error


def _object(path: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CorpusError(f"{name} in {path} is no JSON: {error}; mend it, or leave it out of the archive") from error
    if not isinstance(value, dict):
        raise CorpusError(f"{name} in {path} is no JSON object but {type(value).__name__}; give an object, whose fields become columns")
    return value


def _column(path: Path, name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise CorpusError(f"{path} has a field {name!r} of different kinds: {error}; give it the same kind everywhere, or rename it") from error
