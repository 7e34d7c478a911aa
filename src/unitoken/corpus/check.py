"""Is a corpus what it says: all shards, all rows, no bit changed, and the tokens those that the audio gives?"""

import os
import random
from dataclasses import dataclass
from typing import Any

from ..errors import CorpusError, TokenError
from ..tokenizer import Tokenizer
from . import shard as shards
from .encode import Settings, encode_rows
from .job import MANIFEST, SUCCESS
from .plan import PLAN, Row, StoredPlan, digest_of, rows_of
from .reader import Utterance
from .shard import ShardInfo, is_part, name_of
from .store import Store, store_at


@dataclass
class Checked:
    """What was looked at.

    Attributes:
        shards: that are there.
        rows: in them.
        failures: rows of the plan that have no tokens.
        again: utterances that were encoded again.
        problems: what is wrong, a line each.
    """

    shards: int
    rows: int
    failures: int
    again: int
    problems: list[str]


def verify_corpus(place: str | os.PathLike[str], *, sample: int = 20, settings: Settings | None = None, seed: int = 0) -> Checked:
    """Check a corpus.

    Every shard must be there, hold the rows of the plan but those that failed, each once, with the hash that it says, and tokens that can be.
    Some utterances are encoded again and compared.

    Args:
        place: folder or fsspec URL.
        sample: how many are encoded again, if the audio is known, chosen by the seed; 0 for none.
        settings: with what; None for the packaged model on the CPU.
        seed: of the choice.

    Raises:
        CorpusError: if there is no corpus.
    """
    store = store_at(place)
    names = store.names()
    parts = [name for name in names if is_part(name)]
    if not parts:
        raise CorpusError(f"no corpus in {place}: it has no file part-*.parquet")
    checked, seen = Checked(len(parts), 0, 0, 0, []), dict[str, str]()
    plan = StoredPlan(store) if PLAN in names else None
    _check_names(parts, names, plan, checked.problems)
    audio = list[tuple[Row, str]]()
    for number, name in enumerate(parts):
        try:
            info, table = shards.read_info(store, name), shards.read_table(store, name)
        except CorpusError as error:
            checked.problems.append(str(error))
            continue
        checked.rows, checked.failures = checked.rows + info.rows, checked.failures + len(info.failures)
        ids = table["id"].to_pylist()
        if len(ids) != info.rows or shards.content_of(table) != info.content:
            checked.problems.append(f"{name} is damaged: its rows are not those that it was written with")
        for id_ in ids:
            if id_ in seen:
                checked.problems.append(f"{id_!r} is in {seen[id_]} and in {name}")
            seen[id_] = name
        wrong = _wrong_tokens(table.to_pylist(), info)
        checked.problems += [f"{id_!r} in {name}: {problem}" for id_, problem in wrong.items()]
        if plan is not None and number < plan.shards:
            rows = plan.part(number)
            if info.plan != digest_of(rows) or ids != [id_ for id_ in rows["id"].to_pylist() if id_ not in {one.id for one in info.failures}]:
                checked.problems.append(f"{name} does not hold the rows of the plan")
            audio += [(row, name) for row in rows_of(rows) if row.id in seen and row.id not in wrong]
    chosen = random.Random(seed).sample(audio, min(sample, len(audio)))  # noqa: S311, no secret
    if chosen:
        checked.again = len(chosen)
        checked.problems += _again(store, chosen, settings or Settings())
    return checked


def _check_names(parts: list[str], names: list[str], plan: StoredPlan | None, problems: list[str]) -> None:
    if plan is not None and (missing := sorted({name_of(number) for number in range(plan.shards)} - set(parts))):
        problems.append(f"{len(missing)} shards are missing, {missing[0]} for one; run the job again")
    if plan is not None and (more := sorted(set(parts) - {name_of(number) for number in range(plan.shards)})):
        problems.append(f"{len(more)} shards are in no plan, {more[0]} for one; remove them")
    problems += [f"{name} is missing; run the job again" for name in (MANIFEST, SUCCESS) if name not in names]


def _wrong_tokens(rows: list[dict[str, Any]], info: ShardInfo) -> dict[str, str]:
    """Return what is wrong with rows, by their ids."""
    found = {row["id"]: _wrong(row, info) for row in rows}
    return {id_: problem for id_, problem in found.items() if problem}


def _wrong(row: dict[str, Any], info: ShardInfo) -> str:
    """Return what is wrong with a row's tokens; nothing if they can be."""
    try:
        shards.bundle_of(row, info.tokenizer, info.numerics)
    except (TokenError, TypeError) as error:
        return str(error)
    return ""


def _again(store: Store, chosen: list[tuple[Row, str]], settings: Settings) -> list[str]:
    """Encode utterances again, and return how they differ."""
    tokenizer: Tokenizer = settings.load()
    made, failures = encode_rows(tokenizer, {number: row for number, (row, _) in enumerate(chosen)}, settings)
    problems = [f"{failure.id!r} cannot be encoded again: {failure.reason}" for failure in failures.values()]
    for number, found in made.items():
        row, name = chosen[number]
        info, table = shards.read_info(store, name), shards.read_table(store, name)
        held = Utterance(table.slice(table["id"].to_pylist().index(row.id), 1).to_pylist()[0], info.tokenizer, info.numerics)
        if info.tokenizer != tokenizer.info:
            return [f"the tokens are of {info.tokenizer.name}, not of {tokenizer.config.name}: name its model with --model to compare tokens"]
        if held["source_hash"] != found.source_hash:
            problems.append(f"the audio of {row.id!r} is not what it was")
        elif held.bundle != found.bundle:
            same = "" if info.numerics == tokenizer.numerics else f", which was encoded on {info.numerics}, and now on {tokenizer.numerics}"
            problems.append(f"{row.id!r} has other tokens than its audio gives{same}")
    return problems
