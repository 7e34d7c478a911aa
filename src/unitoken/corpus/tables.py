"""Manifests: TSV, JSONL and Parquet files, and Hugging Face datasets on disk. One row an utterance; whatever else the columns hold travels along."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ..errors import CorpusError
from .plan import SOURCE, locators
from .store import is_url

AUDIO_COLUMNS = ("audio", "path", "audio_filepath", "audio_path", "file", "wav")
"""Where the audio is looked for, in this order, if no column is named."""
LENGTHS = ("seconds", "duration")
"""Columns that say how long an utterance is; shards say what was found instead."""
ARROW, PARQUET = ".arrow", ".parquet"


def read_table(path: Path, audio: str | None = None, id_column: str | None = None) -> pa.Table:
    """Read a manifest.

    Args:
        path: a TSV, JSONL or Parquet file, or a folder that `datasets` saved.
        audio: the column of the audio: paths, relative to the manifest's folder; or, in Parquet and Arrow files, bytes or the audio struct of
            `datasets`. None takes the first of `AUDIO_COLUMNS` that there is.
        id_column: the column of ids; None takes `id`, or without one the paths, with start and end if there are any.

    Returns:
        A plan's table.

    Raises:
        CorpusError: if it cannot be read, or lacks the columns.
    """
    parts = [_planned(file, table, audio, id_column) for file, table in _read(path, audio)]
    return pa.concat_tables(parts, promote_options="permissive")


def is_dataset(path: Path) -> bool:
    """Return whether a folder is one that `save_to_disk` of `datasets` wrote."""
    return (path / "dataset_info.json").is_file()


def _read(path: Path, audio: str | None) -> Iterator[tuple[Path, pa.Table]]:
    """Yield files with their rows, of the audio's bytes none but where they lie."""
    try:
        if path.is_dir():
            for file in sorted(path.glob(f"*{ARROW}")):
                yield file, arrow_table(os.fspath(file))
        elif path.suffix == PARQUET:
            schema = pq.read_schema(path)
            held = _audio_column(path, schema.names, audio)
            names = [name for name in schema.names if name != held]
            yield path, _with_bytes(pq.read_table(path, columns=names), pq.read_metadata(path).num_rows, schema.field(held), path)
        elif path.suffix in {".jsonl", ".json"}:
            yield path, pyarrow.json.read_json(path)
        else:
            yield path, _tsv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read the manifest {path}: {error}; TSV with a header, JSONL and Parquet are read, as UTF-8") from error


def _with_bytes(table: pa.Table, rows: int, field: pa.Field, path: Path) -> pa.Table:
    """Return a table with the audio's column: paths as they are, nulls of its type in the place of bytes."""
    held = pq.read_table(path, columns=[field.name])[field.name] if _is_text(field.type) else pa.nulls(rows, field.type)
    return table.append_column(field, held)


def _tsv(path: Path) -> pa.Table:
    """Read a TSV file without quoting; every column is text but those of times."""
    with path.open(encoding="utf-8") as file:
        names = file.readline().rstrip("\r\n").split("\t")
    types = {name: pa.float64() if name in {"start", "end", *LENGTHS} else pa.string() for name in names}
    parse = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
    return pyarrow.csv.read_csv(path, parse_options=parse, convert_options=pyarrow.csv.ConvertOptions(column_types=types))


def _planned(file: Path, table: pa.Table, audio: str | None, id_column: str | None) -> pa.Table:
    """Return rows as a plan has them."""
    held = _audio_column(file, table.column_names, audio)
    if id_column is not None and id_column not in table.column_names:
        raise CorpusError(f"{file} has no column {id_column!r} for the ids, its columns are {table.column_names}; name another")
    spans = {name: table[name].cast(pa.float64()) for name in ("start", "end") if name in table.column_names}
    if "start" in spans and "end" not in spans and "duration" in table.column_names:
        spans["end"] = pc.add(spans["start"], table["duration"].cast(pa.float64()))
    named = id_column or ("id" if "id" in table.column_names else None)
    paths = table[held] if _is_text(table.schema.field(held).type) else None
    if paths is not None and paths.null_count:
        raise CorpusError(f"{file} has {paths.null_count} rows without a path in the column {held!r}; fill them in or leave the rows out")
    ids = table[named].cast(pa.string()) if named else _made_ids(file, len(table), paths, spans)
    if paths is None:
        where = {"index": pa.array(range(len(table))), "column": pa.array([held]).take(pa.array([0] * len(table)))}
        source = locators(pa.repeat(os.fsencode(file.resolve()), len(table)), **where, **_flat(spans))
    else:
        source = locators([_resolved(file.parent, text) for text in paths.to_pylist()], **_flat(spans))
    gone = {named, *LENGTHS, *([] if paths is not None and named else [held])}
    others = {name: table[name] for name in table.column_names if name not in gone}
    return pa.table({"id": ids, SOURCE: source, **others})


def _audio_column(file: Path, names: list[str], audio: str | None) -> str:
    wanted = AUDIO_COLUMNS if audio is None else (audio,)
    if found := [name for name in wanted if name in names]:
        return found[0]
    raise CorpusError(f"{file} has no column of audio: expected {' or '.join(wanted)}, its columns are {names}; name the column, or rename it")


def _made_ids(file: Path, rows: int, paths: pa.ChunkedArray | None, spans: dict[str, pa.ChunkedArray]) -> pa.Array:
    """Return ids of rows that have none: paths as they are written, with the span; or the table's name and the row's number."""
    if paths is None:
        return pa.array([f"{file.stem}-{index}" for index in range(rows)], pa.string())
    if not spans:
        return paths.cast(pa.string())
    times = [values.to_pylist() for values in spans.values()]
    spoken = ("-".join("" if time is None else f"{time:g}" for time in row) for row in zip(*times, strict=True))
    return pa.array([f"{path}#{span}" for path, span in zip(paths.to_pylist(), spoken, strict=True)], pa.string())


def _flat(spans: dict[str, pa.ChunkedArray]) -> dict[str, pa.Array]:
    return {name: values.combine_chunks() for name, values in spans.items()}


def _resolved(folder: Path, text: str) -> bytes:
    """Return a manifest's path as it can be opened from anywhere."""
    return text.encode() if is_url(text) else os.fsencode(os.path.abspath(folder / text))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@functools.lru_cache(maxsize=4)
def arrow_table(path: str) -> pa.Table:
    """Return the rows of an Arrow file, of the stream format that `datasets` writes, mapped into memory."""
    return pa.ipc.open_stream(pa.memory_map(path)).read_all()


@functools.lru_cache(maxsize=4)
def _parquet_group(path: str, group: int, column: str) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read_row_group(group, [column])[column]


@functools.lru_cache(maxsize=64)
def _groups(path: str) -> list[int]:
    """Return how many rows each row group of a Parquet file has."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def audio_in(path: str, column: str, index: int) -> bytes | str:
    """Return the audio of one row of a Parquet or Arrow file: its bytes, or the path that stands there.

    Raises:
        CorpusError: if there is neither.
    """
    if path.endswith(ARROW):
        value = arrow_table(path)[column][index].as_py()
    else:
        group = 0
        while index >= (rows := _groups(path)[group]):
            index, group = index - rows, group + 1
        value = _parquet_group(path, group, column)[index].as_py()
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, (bytes, str)):
        raise CorpusError(f"row {index} of {path} has no audio in its column {column!r}")
    return value
