"""Manifests: TSV, JSONL and Parquet files, and Hugging Face datasets on disk. One row an utterance; whatever else the columns hold travels along."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
_BLOCK = 1 << 24  # bytes of a text file read at once; a line must fit


def read_table(path: Path, audio: str | None = None, id_column: str | None = None) -> pa.Table:
    """Read a manifest.

    Args:
        path: a TSV, JSONL or Parquet file, or a folder that `datasets` saved.
        audio: the column of the audio: paths, relative to the manifest's folder; or, in Parquet and Arrow files, bytes or the audio struct of
            `datasets`. None takes the first of `AUDIO_COLUMNS` that there is.
        id_column: the column of ids; None takes `id`, or without one the paths, with start and end if there are any.

    Columns `start` and `end` hold seconds; without an end it is the start plus `duration`, without a start it is `offset`.

    Returns:
        A plan's table.

    Raises:
        CorpusError: if it cannot be read, or lacks the columns.
    """
    try:
        parts = [_planned(file, table, audio, id_column) for file, table in _read(path, audio)]
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"cannot read the manifest {path}: {error}; TSV with a header, JSONL and Parquet are read, as UTF-8") from error


def is_dataset(path: Path) -> bool:
    """Return whether a folder is one that `save_to_disk` of `datasets` wrote."""
    return (path / "dataset_info.json").is_file()


def splits_of(path: Path) -> list[Path]:
    """Return the data sets in a folder that `save_to_disk` of a `DatasetDict` wrote; none of any other folder."""
    return sorted(info.parent for info in path.glob("*/dataset_info.json")) if (path / "dataset_dict.json").is_file() else []


def _read(path: Path, audio: str | None) -> Iterator[tuple[Path, pa.Table]]:
    """Yield files with their rows, of the audio's bytes none but where they lie."""
    if path.is_dir():
        for file in _arrow_files(path):
            yield file, arrow_table(os.fspath(file))
    elif path.suffix == PARQUET:
        schema = pq.read_schema(path)
        held = _audio_column(path, schema.names, audio)
        names = [name for name in schema.names if name != held]
        yield path, _with_bytes(pq.read_table(path, columns=names), pq.read_metadata(path).num_rows, schema.field(held), path)
    elif path.suffix in {".jsonl", ".json"}:
        yield path, _jsonl(path)
    else:
        yield path, _tsv(path)


def _arrow_files(folder: Path) -> list[Path]:
    """Return the files of a data set in their order: what `datasets` may have cached beside them is not of it."""
    state = folder / "state.json"
    listed = json.loads(state.read_bytes()).get("_data_files") if state.is_file() else None
    files = [folder / str(entry["filename"]) for entry in listed] if listed else sorted(folder.glob(f"*{ARROW}"))
    if not files:
        raise CorpusError(f"{folder} has a dataset_info.json but no {ARROW} file; give a folder that save_to_disk of datasets wrote")
    return files


def _with_bytes(table: pa.Table, rows: int, field: pa.Field, path: Path) -> pa.Table:
    """Return a table with the audio's column: paths as they are, nulls of its type in the place of bytes."""
    held = pq.read_table(path, columns=[field.name])[field.name] if _is_text(field.type) else pa.nulls(rows, field.type)
    return table.append_column(field, held)


def _tsv(path: Path) -> pa.Table:
    """Read a TSV file without quoting; every column is text but those of times."""
    with path.open(encoding="utf-8-sig") as file:
        names = file.readline().rstrip("\r\n").split("\t")
    times = {"start" if "start" in names else "offset", "end", *LENGTHS}
    types = {name: pa.float64() if name in times else pa.string() for name in names}
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    )


def _jsonl(path: Path) -> pa.Table:
    """Read a JSONL file; texts stay texts where all of them are dates."""
    options = pyarrow.json.ReadOptions(block_size=_BLOCK)
    table = pyarrow.json.read_json(path, read_options=options)
    if (schema := pa.schema([(field.name, _undated(field.type)) for field in table.schema])) == table.schema:
        return table
    return pyarrow.json.read_json(path, read_options=options, parse_options=pyarrow.json.ParseOptions(explicit_schema=schema))


def _undated(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _undated(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_undated(kind.value_type))
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _planned(file: Path, table: pa.Table, audio: str | None, id_column: str | None) -> pa.Table:
    """Return rows as a plan has them."""
    held = _audio_column(file, table.column_names, audio)
    if id_column is not None and id_column not in table.column_names:
        raise CorpusError(f"{file} has no column {id_column!r} for the ids, its columns are {table.column_names}; name another")
    if SOURCE in table.column_names:
        raise CorpusError(f"{file} has a column {SOURCE!r}, the name of one that plans have of their own; rename it")
    spans = _spans(file, table)
    named = id_column or ("id" if "id" in table.column_names else None)
    paths = _paths(file, table, held)
    ids = _cast(file, table, named, pa.string(), "ids") if named else _made_ids(file, len(table), paths, spans)
    if paths is None:
        where = {"index": pa.array(range(len(table))), "column": pa.array([held]).take(pa.array([0] * len(table)))}
        source = locators(pa.repeat(os.fsencode(file.resolve()), len(table)), **where, **_flat(spans))
    else:
        root = os.path.abspath(file.parent)
        source = locators([_resolved(root, text) for text in paths.to_pylist()], **_flat(spans))
    gone = {named, "id", *LENGTHS, *([] if paths is not None and named else [held])}
    others = {name: table[name] for name in table.column_names if name not in gone}
    return pa.table({"id": ids, SOURCE: source, **others})


def _spans(file: Path, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Return where rows start and end, as far as columns say it."""
    first = "start" if "start" in table.column_names else "offset"  # as NeMo calls it
    names = {"start": first, "end": "end"}
    spans = {part: _cast(file, table, name, pa.float64(), "seconds") for part, name in names.items() if name in table.column_names}
    if "start" in spans and "end" not in spans and "duration" in table.column_names:
        spans["end"] = pc.add(spans["start"], _cast(file, table, "duration", pa.float64(), "seconds"))
    return spans


def _paths(file: Path, table: pa.Table, held: str) -> pa.ChunkedArray | None:
    """Return the paths of a column of audio; None if it holds the audio itself."""
    kind = table.schema.field(held).type
    if file.suffix in {ARROW, PARQUET} and _is_audio(kind):
        return None
    if not _is_text(kind):
        raise CorpusError(
            f"{file}: the column {held!r} holds {kind} and no audio; TSV and JSONL name files by path, Parquet and Arrow files may also hold "
            "their bytes or the audio struct of datasets; name another column"
        )
    paths = table[held].cast(pa.string())
    if missing := paths.null_count + (pc.sum(pc.equal(paths, "")).as_py() or 0):
        raise CorpusError(f"{file} has {missing} rows without a path in the column {held!r}; fill them in or leave the rows out")
    return paths


def _cast(file: Path, table: pa.Table, name: str, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise CorpusError(
            f"{file}: the column {name!r} should hold {what}, got {table.schema.field(name).type}: {error}; rename or mend it"
        ) from error


def _audio_column(file: Path, names: list[str], audio: str | None) -> str:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CorpusError(f"{file} has several columns named {' and '.join(map(repr, twice))}; rename all but one")
    wanted = AUDIO_COLUMNS if audio is None else (audio,)
    if found := [name for name in wanted if name in names]:
        return found[0]
    raise CorpusError(f"{file} has no column of audio: expected {' or '.join(wanted)}, its columns are {names}; name the column, or rename it")


def _made_ids(file: Path, rows: int, paths: pa.ChunkedArray | None, spans: dict[str, pa.ChunkedArray]) -> pa.Array:
    """Return ids of rows that have none: paths as they are written, with the span if it is one; or the table's name and the row's number."""
    if paths is None:
        return pa.array([f"{file.stem}-{index}" for index in range(rows)], pa.string())
    if not spans:
        return paths
    times = zip(*(values.to_pylist() for values in spans.values()), strict=True)
    spoken = ("-".join("" if time is None else f"{time:.10g}" for time in row) for row in times)
    return pa.array([f"{path}#{span}" if span.strip("-") else path for path, span in zip(paths.to_pylist(), spoken, strict=True)], pa.string())


def _flat(spans: dict[str, pa.ChunkedArray]) -> dict[str, pa.Array]:
    return {name: values.combine_chunks() for name, values in spans.items()}


def _resolved(folder: str, text: str) -> bytes:
    """Return a manifest's path as it can be opened from anywhere."""
    return text.encode() if is_url(text) else os.fsencode(os.path.abspath(os.path.join(folder, text)))


def _is_text(kind: pa.DataType) -> bool:
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in {"string", "large_string", "string_view"}


def _is_audio(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name in {"bytes", "path"} for field in kind)
    return str(kind) in {"binary", "large_binary", "binary_view"}


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
    try:
        value = (arrow_table(path)[column][index] if path.endswith(ARROW) else _parquet_value(path, column, index)).as_py()
    except (IndexError, KeyError) as error:
        raise CorpusError(f"{path} has no row {index} with a column {column!r}; put back the file that the plan was made of") from error
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, (bytes, str)):
        raise CorpusError(f"row {index} of {path} has no audio in its column {column!r}; fill it in, or leave the row out")
    return value


def _parquet_value(path: str, column: str, index: int) -> Any:
    group = 0
    while index >= (rows := _groups(path)[group]):
        index, group = index - rows, group + 1
    return _parquet_group(path, group, column)[index]
