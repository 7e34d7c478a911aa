"""A corpus as a job: shards that are not there yet are made, whatever there is stays; `run.py` has many of them made at once.

Nothing is shared but the place where the corpus lies. A shard is there once all of it is; whatever ends a job, the next one goes on.
"""

import functools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from ..errors import CorpusError
from ..tokenizer import Tokenizer
from . import shard as shards
from .encode import Known, Settings, Tell, encode_rows, untold
from .plan import PLAN, Plan, StoredPlan, digest_of, rows_of
from .reader import Corpus
from .shard import Failure, Made, ShardInfo, is_part, name_of
from .store import Store, store_at

MANIFEST, SUCCESS, ERRORS = "manifest.json", "_SUCCESS", "errors.jsonl"


@dataclass(frozen=True)
class Report:
    """What became of one shard.

    Attributes:
        shard: its number.
        rows: utterances in it.
        failures: rows of the plan that are not in it.
        seconds: of audio in it.
        new: whether it was written now.
    """

    shard: int
    rows: int
    failures: int
    seconds: float
    new: bool


def begin(place: str, plan: Plan) -> StoredPlan:
    """Begin a corpus, or find the one that was begun of the same plan.

    Args:
        place: folder or URL.
        plan: of the input.

    Raises:
        CorpusError: if another plan's corpus is there.
    """
    store = store_at(place)
    names = store.names()
    if PLAN not in names:
        if others := [name for name in names if is_part(name) or name in {MANIFEST, SUCCESS}]:
            raise CorpusError(f"{place} has {others[0]} but no {PLAN}: it is no corpus that can be gone on with; give another folder")
        plan.save(store)
    stored = StoredPlan(store)
    if stored.digest != plan.digest():
        raise CorpusError(
            f"{place} was begun with other rows ({len(stored)}, {stored.rows} to a shard) than the input has now ({len(plan.table)}, {plan.rows} "
            "to a shard); give another folder, and this one as --reuse to take from it what stayed the same"
        )
    return stored


def make_shard(place: str, number: int, settings: Settings, tell: Tell = untold, *, retry: bool = True, renew: bool = False) -> Report:
    """Make one shard of a corpus that was begun, unless it is there. It runs anywhere, on any engine.

    Args:
        place: of the corpus.
        number: of the shard.
        settings: how.
        tell: hears how far it is.
        retry: try rows again that failed the last time.
        renew: make a shard again that another tokenizer made, or other numerics.

    Raises:
        CorpusError: if the shard is there but is another tokenizer's.
        OSError: if it cannot be written.
    """
    store, tokenizer = store_at(place), _loaded(settings)
    part, name = StoredPlan(store).part(number), name_of(number)
    wanted = ShardInfo(tokenizer.info, tokenizer.numerics, digest_of(part), 0, 0, "", margins=settings.margins)
    old = _usable(store, name, wanted, renew)
    if old is not None and not (retry and old.failures):
        return Report(number, old.rows, len(old.failures), old.seconds, False)
    failed = None if old is None else {failure.id for failure in old.failures}
    rows = {index: row for index, row in enumerate(rows_of(part)) if failed is None or row.id in failed}
    made, failures = encode_rows(tokenizer, rows, settings, tell, _known(settings.reuse, wanted))
    found = tuple(failures[index] for index in sorted(failures))
    if old is not None and found == old.failures:
        return Report(number, old.rows, len(old.failures), old.seconds, False)
    table = shards.table_of(part, made, tokenizer.info, margins=settings.margins)
    if old is not None:
        table = _merged(part, shards.read_table(store, name), table)
    info = _described(table, wanted, found)
    store.put(name, shards.to_bytes(table, info))
    return Report(number, info.rows, len(found), info.seconds, True)


def finish(place: str) -> ShardInfo | None:
    """Write what a corpus says of itself as a whole, if all shards are there; and in any case which rows failed so far.

    `manifest.json` lists the shards, `_SUCCESS` comes last. Whoever calls this, and how often, the files are the same.

    Returns:
        the sums of all shards; None if some are missing.

    Raises:
        CorpusError: if a shard is damaged, or they are of several tokenizers.
    """
    store = store_at(place)
    plan, names = StoredPlan(store), [name for name in store.names() if is_part(name)]
    infos = {name: shards.read_info(store, name) for name in names}
    failures = [asdict(failure) | {"shard": name} for name in names for failure in infos[name].failures]
    text = "".join(json.dumps(failure, ensure_ascii=False, sort_keys=True) + "\n" for failure in failures)
    if not store.has(ERRORS) or store.get(ERRORS) != text.encode():
        store.put(ERRORS, text.encode())
    if names != [name_of(number) for number in range(plan.shards)]:
        store.remove(SUCCESS)
        return None
    return write_manifest(store, infos, plan.digest)


def write_manifest(store: Store, infos: Mapping[str, ShardInfo], plan: str = "") -> ShardInfo:
    """Write `manifest.json`, which lists shards, and then `_SUCCESS`; return the sums of all shards.

    Args:
        store: of the corpus.
        infos: what the shards say, by their names.
        plan: hash of the plan that they were made of, if they were.

    Raises:
        CorpusError: if they are of several tokenizers.
    """
    whole = sum_of(infos)
    listed = [{"file": name, "rows": info.rows, "samples": info.samples, "content": info.content} for name, info in infos.items()]
    values = asdict(whole) | {"failures": len(whole.failures), "plan": plan, "seconds": whole.seconds, "shards": listed}
    del values["content"]
    store.put(MANIFEST, (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    store.put(SUCCESS, b"")
    return whole


def sum_of(infos: Mapping[str, ShardInfo]) -> ShardInfo:
    """Return what shards of one tokenizer are together.

    Raises:
        CorpusError: if they are of several.
    """
    first = next(iter(infos.values()))
    for name, info in infos.items():
        if (info.tokenizer, info.numerics, info.margins) != (first.tokenizer, first.numerics, first.margins):
            raise CorpusError(f"{name} is of {_maker(info)}, other shards of {_maker(first)}; run again with --renew, or remove those of one of them")
    codes = Counter(info.code for info in infos.values())
    return replace(
        first,
        plan="",
        rows=sum(info.rows for info in infos.values()),
        samples=sum(info.samples for info in infos.values()),
        content="",
        failures=tuple(failure for info in infos.values() for failure in info.failures),
        code=", ".join(sorted(codes)),
    )


@functools.lru_cache(maxsize=1)
def _loaded(settings: Settings) -> Tokenizer:
    """Return the tokenizer of this process."""
    return settings.load()


def _usable(store: Store, name: str, wanted: ShardInfo, renew: bool) -> ShardInfo | None:
    """Return what a shard that is there says of itself; None if there is none, or one that is to be made again."""
    if not store.has(name):
        return None
    old = shards.read_info(store, name)
    if old.plan == wanted.plan and (old.tokenizer, old.numerics, old.margins) == (wanted.tokenizer, wanted.numerics, wanted.margins):
        return old
    if renew:
        return None
    reason = "of other rows" if old.plan != wanted.plan else f"of {_maker(old)}, not of {_maker(wanted)}"
    raise CorpusError(f"{name} in {store} is there, but {reason}; give another folder, or --renew to make such shards again")


def _maker(info: ShardInfo) -> str:
    return f"{info.tokenizer.name} ({info.tokenizer.fingerprint:.8}) on {info.numerics}, {'with' if info.margins else 'without'} margins"


@functools.lru_cache(maxsize=1)
def _earlier(place: str) -> Corpus:
    return Corpus(place)


def _known(place: str | None, wanted: ShardInfo) -> Known | None:
    """Return what gives rows of an earlier corpus; only one of the same tokenizer has any."""
    if place is None:
        return None
    earlier = _earlier(place)
    if (earlier.info, earlier.numerics) != (wanted.tokenizer, wanted.numerics) or wanted.margins:
        raise CorpusError(f"{place} cannot be reused: it is of another tokenizer or of other numerics, or margins are asked for; leave --reuse out")

    def known(id_: str, source_hash: bytes) -> Made | None:
        found = earlier.get(id_)
        return None if found is None or found["source_hash"] != source_hash else Made(found.bundle, source_hash)

    return known


def _merged(part: pa.Table, old: pa.Table, new: pa.Table) -> pa.Table:
    """Return the rows of two tables in the plan's order."""
    table = pa.concat_tables([old, new.select(old.column_names).cast(old.schema)])
    place = {id_: index for index, id_ in enumerate(part["id"].to_pylist())}
    ids = table["id"].to_pylist()
    return table.take(pa.array(sorted(range(len(ids)), key=lambda row: place[ids[row]]), pa.int64()))


def _described(table: pa.Table, wanted: ShardInfo, failures: tuple[Failure, ...]) -> ShardInfo:
    samples: Any = sum(table["samples"].to_pylist())
    return replace(wanted, rows=len(table), samples=samples, content=shards.content_of(table), failures=failures)
