"""What can be made a corpus of: folders, manifests, archives, data sets. Each becomes a table of a plan."""

import heapq
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..audio import AUDIO_SUFFIXES
from ..errors import CorpusError
from .archives import find_members, read_archive
from .lhotse import is_cuts, is_shar, read_cuts, read_shar
from .plan import ROWS, SOURCE, Plan, locators
from .tables import is_dataset, read_table, splits_of

TABLES = (".tsv", ".jsonl", ".json", ".parquet")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")  # the compressed ones to say that they must not be


def make_plan(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    archives: Sequence[str | os.PathLike[str]] = (),
    audio: str | None = None,
    id_column: str | None = None,
    rows: int = ROWS,
) -> Plan:
    """Read inputs and return the plan of one corpus of all of them.

    Args:
        inputs: any of: a folder (every audio file in it and in folders that it links to; or what `datasets.save_to_disk` or lhotse's Shar wrote),
            a TSV, JSONL or Parquet manifest, lhotse's manifest of cuts (JSONL, also gzipped), a tar archive as WebDataset has it, an audio file.
        archives: tar files that hold the audio that a TSV, JSONL or Parquet manifest names by path.
        audio: the column of the audio, see `read_table`.
        id_column: the column of ids, see there.
        rows: utterances of a shard.

    Raises:
        CorpusError: if an input cannot be read, ids are not unique, or columns cannot be stored.
    """
    for name, given in ("inputs", inputs), ("archives", archives):
        if isinstance(given, (str, bytes, os.PathLike)):
            raise CorpusError(f"{name} must be a list of paths, got {given!r}; put it in brackets")
    if not inputs:
        raise CorpusError("no input; give a folder, a manifest or an archive")
    tables = [_table(Path(path), [Path(archive) for archive in archives], audio, id_column) for path in inputs]
    try:
        table = pa.concat_tables(tables, promote_options="permissive").replace_schema_metadata(None)
    except pa.ArrowException as error:
        raise CorpusError(f"the inputs have columns of one name and different kinds: {error}; rename them, or make two corpora") from error
    try:
        pq.write_table(table.schema.empty_table(), io.BytesIO())
    except pa.ArrowException as error:
        raise CorpusError(f"the inputs have a column that Parquet cannot hold: {error}; leave it out of them") from error
    return Plan(table, rows)


def _table(path: Path, archives: Sequence[Path], audio: str | None, id_column: str | None) -> pa.Table:
    if not path.exists():
        raise CorpusError(f"no such input: {path}; give a folder, a manifest, an archive or an audio file")
    if path.is_dir():
        if splits := splits_of(path):
            raise CorpusError(f"{path} is a DatasetDict; give what you want of its splits, each a folder: {', '.join(map(str, splits))}")
        return read_shar(path) if is_shar(path) else read_table(path, audio, id_column) if is_dataset(path) else _folder(path)
    if is_cuts(path):
        return read_cuts(path)
    if path.suffix in TABLES:
        table = read_table(path, audio, id_column)
        return find_members(table, path.parent, archives) if archives else table
    if path.name.endswith(TARS):
        return read_archive(path)
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return _files([os.fsencode(path.name)], path.parent)
    raise CorpusError(f"{path} is none of {', '.join(TABLES)}, .tar or an audio file; give a folder, a manifest or an archive")


def _folder(folder: Path) -> pa.Table:
    """Return all audio files of a folder, in the order of their names' bytes; of a folder by several names, under its own or the first link."""
    found, waiting, seen = list[bytes](), [(False, b"")], set[tuple[int, int]]()
    while waiting:
        _, inner = heapq.heappop(waiting)
        try:
            about = os.stat(here := os.path.join(os.fsencode(folder), inner))
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(here) as entries:
                for entry in entries:
                    name = os.path.join(inner, entry.name)
                    if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                        heapq.heappush(waiting, (entry.is_symlink(), name))
                    elif os.path.splitext(entry.name)[1].lower().decode(errors="replace") in AUDIO_SUFFIXES:
                        found.append(name)
        except OSError as error:
            raise CorpusError(f"cannot read the folder {folder / os.fsdecode(inner)}: {error.strerror}; make it readable, or leave it out") from error
    return _files(sorted(found), folder)


def _files(names: Sequence[bytes], folder: Path) -> pa.Table:
    """Return files as a plan's table; ids are their names, in which bytes that are no UTF-8 are written as escapes."""
    root = os.fsencode(folder.resolve())
    ids = [name.decode(errors="backslashreplace") for name in names]
    return pa.table({"id": pa.array(ids, pa.string()), SOURCE: locators([os.path.join(root, name) for name in names])})
