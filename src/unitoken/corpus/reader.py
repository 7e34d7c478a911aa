"""A corpus to read: utterances in order or by id, parts of it, and what it says of itself."""

import bisect
import functools
import itertools
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import pyarrow as pa

from ..errors import CorpusError
from ..token_info import TokenizerInfo
from ..tokens import TokenBundle
from . import shard as shards
from .shard import is_part
from .store import Store, store_at

_HELD = 8  # shards whose rows are held


class Utterance(Mapping[str, Any]):
    """One row of a corpus: a mapping of its columns, with its tokens as a bundle.

    Args:
        row: its columns.
        info: of the tokenizer.
        numerics: of the encoding.
    """

    def __init__(self, row: Mapping[str, Any], info: TokenizerInfo, numerics: str) -> None:
        self._row, self._info, self._numerics = row, info, numerics

    @property
    def id(self) -> str:
        """Its name in the corpus."""
        return self._row["id"]

    @functools.cached_property
    def bundle(self) -> TokenBundle:
        """Its tokens."""
        return shards.bundle_of(self._row, self._info, self._numerics)

    def __getitem__(self, column: str) -> Any:
        return self._row[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def __repr__(self) -> str:
        return f"Utterance({self.id!r}, {self.bundle!r})"


class Corpus(Sequence[Utterance]):
    """The utterances of a folder that `unitoken corpus encode` wrote.

    A sequence: `len`, iteration, `corpus[7]`, and `corpus[:1000]`, which is a corpus too; and `corpus["id"]`.

    Args:
        place: its folder, or a URL that fsspec knows.

    Raises:
        CorpusError: if there is no shard, one is damaged, or they are of several tokenizers.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        store = store_at(place)
        self._files = _Files(store, [name for name in store.names() if is_part(name)])
        self._chosen: Sequence[int] = range(self._files.rows)

    @property
    def info(self) -> TokenizerInfo:
        """Of the tokenizer that made the tokens."""
        return self._files.info

    @property
    def numerics(self) -> str:
        """Device kind, dtype and backend of the encoding."""
        return self._files.numerics

    @property
    def seconds(self) -> float:
        """Length of all utterances."""
        return sum(self.column("samples").to_pylist()) / self.info.sample_rate

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self._files.table(0).column_names

    @property
    def ids(self) -> list[str]:
        """Names of all utterances, in order."""
        return self.column("id").to_pylist()

    def column(self, name: str) -> pa.Array:
        """Return one column of all utterances.

        Raises:
            CorpusError: if there is none of that name.
        """
        return self._files.column(name).take(pa.array(self._chosen, pa.int64()))

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, key: int | str) -> Utterance: ...
    @overload
    def __getitem__(self, key: slice) -> "Corpus": ...

    def __getitem__(self, key: int | str | slice) -> "Utterance | Corpus":
        """Return an utterance by number or id, or the corpus of a slice.

        Raises:
            IndexError: if there is no such number.
            KeyError: if there is no such id.
        """
        if isinstance(key, slice):
            return self._with(self._chosen[key])
        if isinstance(key, str):
            found = self.get(key)
            if found is None:
                raise KeyError(key)
            return found
        return self._files.row(self._chosen[key])

    def get(self, id_: str) -> Utterance | None:
        """Return an utterance by its id; None if there is none."""
        number = self._numbers.get(id_)
        return None if number is None else self._files.row(number)

    def __iter__(self) -> Iterator[Utterance]:
        return (self._files.row(number) for number in self._chosen)

    def part(self, index: int, count: int) -> "Corpus":
        """Return every `count`-th utterance from number `index` on: one rank's share of `count`.

        Raises:
            CorpusError: if `index` is none of 0 to `count - 1`.
        """
        if not 0 <= index < count:
            raise CorpusError(f"part {index} of {count} is none of 0 to {count - 1}")
        return self._with(self._chosen[index::count])

    def select(self, numbers: Sequence[int]) -> "Corpus":
        """Return some utterances, by their numbers here, in that order.

        Raises:
            CorpusError: if there is no such number.
        """
        if wrong := [number for number in numbers if not 0 <= number < len(self)]:
            raise CorpusError(f"the corpus has utterances 0 to {len(self) - 1}, not {wrong[0]}")
        return self._with([self._chosen[number] for number in numbers])

    def shuffled(self, seed: int, together: int = _HELD) -> "Corpus":
        """Return the utterances in an order that the seed decides: shards in any order, the rows of so many of them mixed.

        Args:
            seed: of the order.
            together: shards; neighbours in a manifest are often of one speaker, so one is few. Up to 8 are held, so that each shard is read once.

        Raises:
            CorpusError: if `together` is below 1.
        """
        if together < 1:
            raise CorpusError(f"together must be 1 shard or more, got {together}")
        groups = dict[int, list[int]]()
        for number in self._chosen:
            groups.setdefault(self._files.shard_of(number), []).append(number)
        rng = random.Random(seed)  # noqa: S311, an order is no secret
        shards = list(groups.values())
        rng.shuffle(shards)
        order: list[int] = []
        for start in range(0, len(shards), together):
            mixed = list(itertools.chain(*shards[start : start + together]))
            rng.shuffle(mixed)
            order += mixed
        return self._with(order)

    def crops(self, frames: int, seed: int) -> Iterator[TokenBundle]:
        """Yield one random piece of so many coarse frames of each utterance that has as many, in order: for training."""
        rng = random.Random(seed)  # noqa: S311
        for utterance in self:
            if len(utterance.bundle) >= frames:
                start = rng.randrange(len(utterance.bundle) - frames + 1)
                yield utterance.bundle[start : start + frames]

    def __repr__(self) -> str:
        return f"Corpus({self._files.store}: {len(self)} utterances, {self.seconds / 3600:.2f} h by {self.info.name})"

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return dict(zip(self.ids, self._chosen, strict=True))

    def _with(self, chosen: Sequence[int]) -> "Corpus":
        other = object.__new__(Corpus)
        other._files, other._chosen = self._files, chosen
        return other


class _Files:
    """The shards of a corpus, some of them held."""

    def __init__(self, store: Store, names: list[str]) -> None:
        if not names:
            raise CorpusError(f"no corpus in {store}: it has no file part-*.parquet; make one with: unitoken corpus encode")
        infos = [shards.read_info(store, name) for name in names]
        self.store, self.names, self.info, self.numerics = store, names, infos[0].tokenizer, infos[0].numerics
        if other := [name for name, one in zip(names, infos, strict=True) if (one.tokenizer, one.numerics) != (self.info, self.numerics)]:
            raise CorpusError(f"{store} has tokens of several tokenizers or numerics, {names[0]} and {other[0]}; remove one kind and encode again")
        self.ends = [0]
        for one in infos:
            self.ends.append(self.ends[-1] + one.rows)
        self.table = functools.lru_cache(maxsize=_HELD)(self._table)
        self.column = functools.lru_cache(maxsize=_HELD)(self._column)

    @property
    def rows(self) -> int:
        return self.ends[-1]

    def shard_of(self, number: int) -> int:
        return bisect.bisect_right(self.ends, number) - 1

    def row(self, number: int) -> Utterance:
        shard = self.shard_of(number)
        at = number - self.ends[shard]
        (row,) = self.table(shard).slice(at, 1).to_pylist()
        return Utterance(row, self.info, self.numerics)

    def _table(self, shard: int) -> pa.Table:
        return shards.read_table(self.store, self.names[shard])

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in (known := self.table(0).column_names):
            raise CorpusError(f"{self.store} has no column {name!r}, its columns are {known}")
        return pa.chunked_array([chunk for file in self.names for chunk in shards.read_table(self.store, file, [name])[name].chunks])
