"""One shard: a Parquet file of tokens, a row an utterance, that says by itself which tokenizer made it, of what and how."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .._version import __version__
from ..errors import CorpusError, TokenError
from ..tokens import StreamInfo, TokenBundle, TokenizerInfo
from .plan import SOURCE
from .store import Store

KEY = b"unitoken"
"""Of the metadata of a shard: JSON of `ShardInfo`."""
VERSION = 1
STREAMS = ("g", "s", "p")


@dataclass(frozen=True)
class Failure:
    """An utterance without tokens.

    Attributes:
        id: of its row.
        path: of its audio.
        reason: why.
    """

    id: str
    path: str
    reason: str


@dataclass(frozen=True)
class ShardInfo:
    """What a shard says of itself.

    Attributes:
        tokenizer: that made the tokens.
        numerics: device kind, dtype and backend of the encoding.
        plan: hash of the rows that it was made of, empty for shards made of other shards.
        rows: utterances.
        samples: of all of them.
        content: hash of all rows.
        failures: the rows that have no tokens, in the plan's order.
        margins: whether the least margins are there.
        version: of the format.
        code: version of unitoken that wrote it.
    """

    tokenizer: TokenizerInfo
    numerics: str
    plan: str
    rows: int
    samples: int
    content: str
    failures: tuple[Failure, ...] = ()
    margins: bool = False
    version: int = VERSION
    code: str = __version__

    @property
    def seconds(self) -> float:
        """Length of all utterances."""
        return self.samples / self.tokenizer.sample_rate


@dataclass(frozen=True)
class Made:
    """What became of one row: a bundle with the hash of its source."""

    bundle: TokenBundle
    source_hash: bytes


def name_of(shard: int) -> str:
    """Return a shard's file name.

    >>> name_of(12)
    'part-00012.parquet'
    """
    return f"part-{shard:05}.parquet"


def is_part(name: str) -> bool:
    """Return whether a file of a corpus is one of its shards."""
    return name.startswith("part-") and name.endswith(".parquet")


def table_of(part: pa.Table, made: Mapping[int, Made], info: TokenizerInfo, *, margins: bool) -> pa.Table:
    """Return the columns of a shard.

    Args:
        part: its rows of the plan.
        made: what became of them, by their numbers in `part`; those that failed are not there.
        info: of the tokenizer.
        margins: whether to keep the least margin of each stream.
    """
    order = sorted(made)
    bundles = [made[row].bundle for row in order]
    chosen = part.take(pa.array(order, pa.int64()))
    columns: dict[str, Any] = {"id": chosen["id"]}
    for name in STREAMS:
        kind = pa.uint16() if info.sizes[name] <= 1 << 16 else pa.uint32()
        columns[name] = _lists([getattr(bundle, name) for bundle in bundles], kind)
    samples = [bundle.num_samples for bundle in bundles]
    columns["samples"] = pa.array(samples, pa.int64())
    columns["seconds"] = pa.array([count / info.sample_rate for count in samples], pa.float64())
    columns["source_hash"] = pa.array([made[row].source_hash for row in order], pa.binary())
    if margins:
        for name in STREAMS:
            least = [None if bundle.margins is None else _least(bundle.margins[name]) for bundle in bundles]
            columns[f"margin_{name}"] = pa.array(least, pa.float32())
    others = {name: chosen[name] for name in part.column_names if name not in {"id", SOURCE}}
    return pa.table({**columns, **others})


def _lists(tokens: Sequence[torch.Tensor | None], kind: pa.DataType) -> pa.Array:
    """Return one list for each row: tokens of frame after frame, those of one frame beside each other; null where there is no stream."""
    return pa.array([None if own is None else own.flatten().numpy() for own in tokens], pa.list_(pa.field("element", kind)))  # as in Parquet


def _least(margins: torch.Tensor) -> float | None:
    return float(margins.min()) if margins.numel() else None


def content_of(table: pa.Table) -> str:
    """Return a hash of all values and columns of a shard."""
    digest = hashlib.blake2b(digest_size=16)
    for name in table.column_names:
        digest.update(json.dumps([name, table[name].to_pylist()], default=repr).encode())
    return digest.hexdigest()


def to_bytes(table: pa.Table, info: ShardInfo) -> bytes:
    """Return the bytes of a shard's file, the same for the same table."""
    buffer = io.BytesIO()
    text = json.dumps(dataclasses.asdict(info), sort_keys=True, ensure_ascii=False).encode()
    pq.write_table(
        table.combine_chunks().replace_schema_metadata({KEY: text}),
        buffer,
        compression="zstd",
        compression_level=9,
        row_group_size=max(1, len(table)),
    )
    return buffer.getvalue()


def read_info(store: Store, name: str) -> ShardInfo:
    """Read what a shard says of itself, and nothing else of it.

    Raises:
        CorpusError: if it is no shard, damaged, or of a version that is not known.
    """
    try:
        with store.open(name) as file:
            metadata = pq.read_metadata(file).metadata or {}
        return _info(json.loads(metadata[KEY]))
    except (pa.ArrowException, KeyError, TypeError, ValueError, TokenError) as error:
        raise CorpusError(f"{name} in {store} is no shard, or damaged ({error}); remove it, and run again") from error


def _info(values: dict[str, Any]) -> ShardInfo:
    if values["version"] != VERSION:
        raise CorpusError(f"its version is {values['version']}, this release reads {VERSION}; upgrade with pip install -U unitoken-speech")
    own = values["tokenizer"]
    tokenizer = TokenizerInfo(**own | {name: StreamInfo(**own[name]) for name in ("s", "p")})
    made: dict[str, Any] = {"tokenizer": tokenizer, "failures": tuple(Failure(**failure) for failure in values["failures"])}
    return ShardInfo(**values | made)


def read_table(store: Store, name: str, columns: Iterable[str] | None = None) -> pa.Table:
    """Read a shard's rows, or some of its columns.

    Raises:
        CorpusError: if it cannot be read.
    """
    try:
        with store.open(name) as file:
            return pq.read_table(file, columns=None if columns is None else list(columns)).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name} in {store} cannot be read: {error}; take another copy, or remove it and encode again") from error


def bundle_of(row: Mapping[str, Any], info: TokenizerInfo, numerics: str) -> TokenBundle:
    """Return the bundle of one row of a shard.

    Raises:
        TokenError: if the tokens are not those of so many samples, or out of range.
    """
    books = {"g": 0, "s": info.s.num_codebooks, "p": info.p.num_codebooks}
    held = {name: torch.tensor(row[name], dtype=torch.int64) for name in STREAMS if row[name] is not None}
    tokens = {name: own.reshape(-1, books[name]) if books[name] > 1 and len(own) % books[name] == 0 else own for name, own in held.items()}
    return TokenBundle(tokens["s"], tokens.get("p"), tokens.get("g"), row["samples"], info, numerics)
