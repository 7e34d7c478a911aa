"""Corpora made of corpora: several joined, some rows of one, and how two differ."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from ..errors import CorpusError, missing_extra
from . import shard as shards
from .job import MANIFEST, write_manifest
from .plan import ROWS
from .reader import Corpus, Utterance
from .shard import STREAMS, ShardInfo, is_part, name_of
from .store import Store, store_at

Place = str | os.PathLike[str]


def merge_corpora(places: Sequence[Place], target: Place, *, rows: int = ROWS) -> ShardInfo:
    """Write the utterances of corpora of one tokenizer as one corpus, in their order.

    Args:
        places: two or more.
        target: an empty folder or fsspec URL.
        rows: of a shard.

    Returns:
        the sums of all shards.

    Raises:
        CorpusError: if they are of several tokenizers, an id is in two of them, or there is something at the target.
    """
    tables = [(info, table) for place in places for info, table in _tables(store_at(place))]
    counts = Counter(id_ for _, table in tables for id_ in table["id"].to_pylist())
    if twice := [id_ for id_, count in counts.items() if count > 1]:
        raise CorpusError(f"{len(twice)} ids are in several of the corpora, {twice[0]!r} for one; leave them out of one with: unitoken corpus filter")
    return _write(target, tables, rows)


def filter_corpus(place: Place, target: Place, where: str, *, rows: int = ROWS) -> ShardInfo:
    """Write the utterances of a corpus for which an expression holds as a corpus, in their order.

    Args:
        place: of the corpus.
        target: an empty folder or fsspec URL.
        where: a condition in SQL on the corpus's columns, as DuckDB reads it: `seconds < 20 and language = 'de'`.
        rows: of a shard.

    Returns:
        the sums of all shards.

    Raises:
        CorpusError: if the expression cannot be read, holds for no utterance, or there is something at the target.
        MissingDependencyError: without DuckDB.
    """
    return _write(target, ((info, _chosen(table, where)) for info, table in _tables(store_at(place))), rows)


@dataclass
class Difference:
    """How two corpora differ.

    Attributes:
        only_first: ids that are in the first only.
        only_second: ids that are in the second only.
        same: utterances that are equal in both.
        audio: ids whose audio is another.
        changed: ids whose tokens are others, of the same audio.
        differing: tokens that differ, by stream, of utterances of the same audio and as many tokens.
        compared: tokens of these utterances, by stream.
    """

    only_first: list[str] = field(default_factory=list[str])
    only_second: list[str] = field(default_factory=list[str])
    same: int = 0
    audio: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    differing: Counter[str] = field(default_factory=Counter[str])
    compared: Counter[str] = field(default_factory=Counter[str])


def diff_corpora(first: Corpus, second: Corpus) -> Difference:
    """Compare the utterances of two corpora, such as those of two versions of a tokenizer, by their ids."""
    found, seen = Difference(), set[str]()
    for own in first:
        other = second.get(own.id)
        seen.add(own.id)
        if other is None:
            found.only_first.append(own.id)
        elif own["source_hash"] != other["source_hash"]:
            found.audio.append(own.id)
        else:
            _compare(own, other, found)
    found.only_second = [id_ for id_ in second.ids if id_ not in seen]
    return found


def _compare(own: Utterance, other: Utterance, found: Difference) -> None:
    """Count the tokens of two encodings of one audio."""
    if all(own[name] == other[name] for name in STREAMS):
        found.same += 1
    else:
        found.changed.append(own.id)
    for name in STREAMS:
        mine, theirs = own[name] or [], other[name] or []
        if len(mine) == len(theirs):
            found.differing[name] += sum(a != b for a, b in zip(mine, theirs, strict=True))
            found.compared[name] += len(mine)


def _tables(store: Store) -> Iterator[tuple[ShardInfo, pa.Table]]:
    names = [name for name in store.names() if is_part(name)]
    if not names:
        raise CorpusError(f"no corpus in {store}: it has no file part-*.parquet")
    for name in names:
        yield shards.read_info(store, name), shards.read_table(store, name)


def _chosen(table: pa.Table, where: str) -> pa.Table:
    """Return the rows for which an SQL condition holds."""
    try:
        import duckdb
    except ImportError as error:
        raise missing_extra("unitoken corpus filter", "corpus") from error
    numbered = table.append_column("_row", pa.array(range(len(table)), pa.int64()))
    try:
        with duckdb.connect() as connection:
            connection.register("utterances", numbered)
            kept: Any = connection.execute(f"SELECT _row FROM utterances WHERE ({where}) ORDER BY _row").fetchnumpy()["_row"]  # noqa: S608, the user's own
    except duckdb.Error as error:
        raise CorpusError(f"cannot read the condition {where!r}: {error}; columns are {', '.join(table.column_names)}") from error
    return table.take(pa.array(kept, pa.int64()))


def _write(target: Place, tables: Iterable[tuple[ShardInfo, pa.Table]], rows: int) -> ShardInfo:
    """Write tables of one tokenizer as a corpus, so many rows to a shard."""
    store = store_at(target)
    if there := [name for name in store.names() if is_part(name) or name == MANIFEST]:
        raise CorpusError(f"{target} has {there[0]} already; give an empty folder")
    infos, held, first = dict[str, ShardInfo](), list[pa.Table](), None

    def flush(least: int) -> None:
        nonlocal held
        whole = pa.concat_tables(held, promote_options="permissive") if held else None
        while whole is not None and first is not None and len(whole) >= least:
            part, whole = whole.slice(0, rows).combine_chunks(), whole.slice(rows)
            samples = sum(part["samples"].to_pylist())
            info = replace(first, plan="", rows=len(part), samples=samples, content=shards.content_of(part), failures=())
            store.put(name := name_of(len(infos)), shards.to_bytes(part, info))
            infos[name] = info
        held = [] if whole is None else [whole]

    for info, table in tables:
        first = info if first is None else first
        if (info.tokenizer, info.numerics, info.margins) != (first.tokenizer, first.numerics, first.margins):
            raise CorpusError(
                f"the corpora are of {first.tokenizer.name} on {first.numerics} and of {info.tokenizer.name} on {info.numerics}; join those of one"
            )
        held.append(table)
        flush(rows)
    flush(1)
    if not infos:
        raise CorpusError("no utterance is left, so nothing was written; change the condition")
    return write_manifest(store, infos)
