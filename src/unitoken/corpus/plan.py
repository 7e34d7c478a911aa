"""What is to be encoded, in which order, and which rows make one shard: the same on every machine, whatever works on it."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import CorpusError
from .store import Store

PLAN = "plan.parquet"
ROWS = 2048
"""Utterances of a shard, if nothing else is said: some hours of audio, half a megabyte."""
SOURCE = "audio_source"
"""Column of a plan that says where each row's audio lies."""
LOCATOR = pa.struct(
    [
        ("path", pa.binary()),  # of a file, or of what holds it: names are bytes
        ("offset", pa.int64()),  # of the audio file in it, where it is an archive
        ("size", pa.int64()),  # bytes of the audio file in it
        ("index", pa.int64()),  # of the row in it, where it is a table
        ("column", pa.string()),  # of that table
        ("start", pa.float64()),  # seconds, of a span
        ("end", pa.float64()),
    ]
)
RESERVED = ("g", "s", "p", "samples", "seconds", "source_hash", "margin_s", "margin_p", "margin_g", SOURCE)
"""Columns that shards have of their own."""
_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One utterance to encode.

    Attributes:
        id: its name in the corpus.
        path: of its file, or of the archive or table that holds it.
        offset: where the file begins in an archive; None for a file by itself.
        size: bytes of the file in an archive.
        index: of the row in a table; None for what lies in no table.
        column: of that table, whose values are files or hold their bytes.
        start: seconds at which it begins in its file; None for the beginning.
        end: seconds at which it ends; None for the end.
    """

    id: str
    path: bytes
    offset: int | None = None
    size: int | None = None
    index: int | None = None
    column: str | None = None
    start: float | None = None
    end: float | None = None


def rows_of(table: pa.Table) -> list[Row]:
    """Return the rows of a part of a plan."""
    return [Row(name, **source) for name, source in zip(table["id"].to_pylist(), table[SOURCE].to_pylist(), strict=True)]


def locators(paths: Sequence[bytes] | pa.Array, **parts: Any) -> pa.Array:
    """Return the column `SOURCE` of files, or of what holds them; parts that are not given are null."""
    path = pa.array(paths, pa.binary())
    fields = [path if field.name == "path" else pa.array(parts.get(field.name, pa.nulls(len(path))), field.type) for field in LOCATOR]
    return pa.StructArray.from_arrays(fields, fields=list(LOCATOR))


class Plan:
    """All rows of a corpus in their order, so many to a shard.

    Args:
        table: columns `id`, `SOURCE`, and whatever else travels along.
        rows: of a shard; the last one may have fewer.

    Raises:
        CorpusError: if there is no row, an id is missing or stands twice, or a column has the name of one that shards have of their own.
    """

    def __init__(self, table: pa.Table, rows: int = ROWS) -> None:
        if rows < 1:
            raise CorpusError(f"a shard has 1 row or more, got {rows}")
        _check(table)
        self.table, self.rows = table.combine_chunks(), rows

    @property
    def shards(self) -> int:
        """How many shards the rows make."""
        return -(-len(self.table) // self.rows)

    def part(self, shard: int) -> pa.Table:
        """Return the rows of one shard."""
        return self.table.slice(shard * self.rows, self.rows)

    def digest(self) -> str:
        """Return a hash of all rows and how they are parted."""
        return _hash(" ".join(digest_of(self.part(shard)) for shard in range(self.shards)).encode())

    def save(self, store: Store) -> None:
        """Write the plan into a corpus."""
        buffer = io.BytesIO()
        metadata = {b"rows": str(self.rows).encode(), b"digest": self.digest().encode()}
        pq.write_table(self.table.replace_schema_metadata(metadata), buffer, row_group_size=self.rows, compression="zstd")
        store.put(PLAN, buffer.getvalue())


class StoredPlan:
    """A plan in a corpus, of which only what is asked for is read.

    Args:
        store: of the corpus.

    Raises:
        CorpusError: if there is none, or it cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        try:
            with store.open(PLAN) as file:
                self._metadata = pq.read_metadata(file)
            metadata = self._metadata.metadata
            self.rows, self.digest = int(metadata[b"rows"]), metadata[b"digest"].decode()
        except FileNotFoundError:
            raise CorpusError(f"no corpus was begun in {store}: there is no {PLAN}; make one with: unitoken corpus encode") from None
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{PLAN} in {store} is damaged ({error}); remove it and run again, the same input makes the same plan") from error

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self._metadata.num_row_groups

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._metadata.num_rows

    def part(self, shard: int) -> pa.Table:
        """Return the rows of one shard."""
        with self._store.open(PLAN) as file:
            return pq.ParquetFile(file, metadata=self._metadata).read_row_group(shard).replace_schema_metadata(None)


def digest_of(part: pa.Table) -> str:
    """Return a hash of rows, whatever holds them."""
    rows = part.replace_schema_metadata(None)
    kinds = str(rows.schema).replace("item: ", "element: ")  # Parquet has another name for what a list is of
    return _hash(json.dumps([kinds, rows.to_pylist()], default=repr, ensure_ascii=True).encode())


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _check(table: pa.Table) -> None:
    if not len(table):
        raise CorpusError("the input lists no utterance; give a folder with audio files, a manifest with rows or an archive with audio in it")
    if taken := [name for name in table.column_names if name in RESERVED and name != SOURCE]:
        raise CorpusError(f"the input has columns {taken}, names that the tokens' own columns have; rename them in the manifest")
    ids = table["id"]
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        raise CorpusError(f"{max(1, ids.null_count)} rows have no id; give each its own, or leave the column out to go by path")
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").slice(0, _SHOWN).to_pylist()
        raise CorpusError(f"ids must be unique, {len(ids) - len(counts)} rows have an earlier row's: {', '.join(map(repr, twice))}, ...; rename them")
