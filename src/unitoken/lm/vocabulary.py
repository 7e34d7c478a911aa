"""The ids of a language model: special ones, a range for each codebook, and text beside them."""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, TokenError
from ..files import replacing
from ..strict_json import build
from ..token_info import TokenizerInfo

SPECIALS = ("pad", "bos", "eos", "global", "semantic", "residual", "frames", "runs", "pieces", "transcript")
_FORMAT = 1


@dataclass(frozen=True)
class Kind:
    """A range of ids that mean the same sort of thing.

    Attributes:
        name: `text`, one of `SPECIALS`, a codebook such as `s0` or `g7`, `run`, or `piece`.
        first: its first id.
        size: how many ids it has.
        stream: `g`, `s` or `p` for a codebook, else None.
        codebook: which of the stream's.
    """

    name: str
    first: int
    size: int
    stream: str | None = None
    codebook: int = 0

    @property
    def stop(self) -> int:
        """The first id after it."""
        return self.first + self.size


@dataclass(frozen=True)
class Vocabulary:
    """Which id means what. Ids are sums: a range's first id and a token; nothing is looked up by name.

    In this order: text (unless it comes last), the specials `PAD, BOS, EOS` and the markers of the parts of a sequence, each codebook of G, S and P,
    the lengths of runs, the pieces that are no single tokens. Two vocabularies that are equal mean the same by every id.

    >>> from unitoken import Tokenizer
    >>> vocabulary = Vocabulary(Tokenizer.from_pretrained().info, text_size=32000)
    >>> vocabulary.size, vocabulary.bos, vocabulary.kind("s0").first, vocabulary.describe(48400)
    (56586, 32001, 48394, 's0 6')

    Attributes:
        info: of the tokenizer whose tokens these are.
        text_size: ids of the text tokenizer, 0 for none.
        text_first: whether text has the ids from 0 on, so that a text model's ids stay; else it comes after everything.
        longest_run: of equal tokens of S that one id can stand for, in the layout of runs; 0 if there is none.
        merges: pairs of ids of S's codebook or of earlier pieces that make a piece, see `train_pieces`; none for no pieces.

    Raises:
        ConfigError: if a number is negative, or runs or pieces are asked for of an S with several codebooks.
    """

    info: TokenizerInfo
    text_size: int = 0
    text_first: bool = True
    longest_run: int = 0
    merges: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("text_size", "longest_run"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}; 0 is for none")
        if (self.longest_run or self.merges) and self.info.s.num_codebooks > 1:
            raise ConfigError(f"runs and pieces are of one codebook, S has {self.info.s.num_codebooks}; leave longest_run and merges out")
        for index, pair in enumerate(self.merges):
            known = self.info.s.codebook_size + index
            if len(pair) != 2 or not all(0 <= part < known for part in pair):
                raise ConfigError(f"merge {index} must be a pair of numbers from 0 to {known - 1}, got {pair}; train_pieces gives such")

    @functools.cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """All ranges, by their first ids."""
        info = self.info
        parts: list[tuple[str, int, str | None, int]] = [(name, 1, None, 0) for name in SPECIALS]
        books = {"g": info.num_g, "s": info.s.num_codebooks, "p": info.p.num_codebooks}
        parts += [(f"{stream}{book}", info.sizes[stream], stream, book) for stream, count in books.items() for book in range(count)]
        parts += [("run", self.longest_run, None, 0), ("piece", len(self.merges), None, 0)]
        text = [("text", self.text_size, None, 0)]
        kinds: list[Kind] = []
        first = 0
        for name, size, stream, book in [*text, *parts] if self.text_first else [*parts, *text]:
            if size:
                kinds.append(Kind(name, first, size, stream, book))
                first += size
        return tuple(kinds)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {kind.name: number for number, kind in enumerate(self.kinds)}

    @functools.cached_property
    def firsts(self) -> NDArray[np.int64]:
        """The first id of each kind, in order."""
        return np.array([kind.first for kind in self.kinds], np.int64)

    @property
    def size(self) -> int:
        """How many ids there are, text included: rows of an embedding."""
        return self.kinds[-1].stop

    @functools.cached_property
    def expansions(self) -> tuple[NDArray[np.int64], ...]:
        """The tokens of S that each number of a merge stands for: a token, from `codebook_size` on the pieces."""
        grown = [np.array([token], np.int64) for token in range(self.info.s.codebook_size)]
        for left, right in self.merges:
            grown.append(np.concatenate([grown[left], grown[right]]))
        return tuple(grown)

    def kind(self, name: str) -> Kind:
        """Return the range of a name, such as `s0`.

        Raises:
            ConfigError: if the vocabulary has none of that name.
        """
        return self.kinds[self.number(name)]

    def number(self, name: str) -> int:
        """Return which of `kinds` has a name; see `kind`."""
        if name not in self._numbers:
            raise ConfigError(
                f"the vocabulary has no ids of kind {name!r} (it has: {', '.join(self._numbers)}); build it with {_NEEDS.get(name, 'them')}"
            )
        return self._numbers[name]

    @property
    def pad(self) -> int:
        """The id that fills up a batch."""
        return self.kind("pad").first

    @property
    def bos(self) -> int:
        """The id that begins every sequence."""
        return self.kind("bos").first

    @property
    def eos(self) -> int:
        """The id that ends every sequence."""
        return self.kind("eos").first

    def numbers_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of `kinds` each id is of, -1 where it is of none."""
        found = np.searchsorted(self.firsts, ids, "right") - 1
        found[(ids < 0) | (ids >= self.size)] = -1
        return found

    def describe(self, id: int) -> str:
        """Return a kind and a number in it, such as `s0 17`; the name alone for special ids."""
        number = int(self.numbers_of(np.array([id]))[0])
        if number < 0:
            return f"{id}, which is outside 0 to {self.size - 1}"
        kind = self.kinds[number]
        return kind.name if kind.size == 1 else f"{kind.name} {id - kind.first}"

    def strings(self) -> list[str]:
        """Return a string for each id but text's, in order, such as `<|s0_17|>`: for a text tokenizer that has to know each by name."""
        spoken = (kind for kind in self.kinds if kind.name != "text")
        return [f"<|{kind.name}|>" if kind.name in SPECIALS else f"<|{kind.name}_{token}|>" for kind in spoken for token in range(kind.size)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, the tokenizer's fingerprint in it."""
        return {"format": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> "Vocabulary":
        """Build what `to_json` gave.

        Raises:
            ConfigError: if it is of another format, or a value is missing or wrong.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ConfigError(f"expected a vocabulary of format {_FORMAT}, got {data!s:.80}; write it again with save")
        try:
            return build(cls, {key: value for key, value in data.items() if key != "format"}, "vocabulary")
        except (TypeError, TokenError) as error:  # a field without a default is missing, or one is none of a tokenizer's
            raise ConfigError(f"the vocabulary is incomplete: {error}; write it again with save") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file; an existing one is replaced once the new one is complete."""
        save_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
            ConfigError: if it is no vocabulary, or of another format.
            OSError: if it cannot be read.
        """
        return cls.from_json(load_json(path))


_NEEDS = {"text": "text_size=", "run": "longest_run=", "piece": "merges="}


def save_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; ConfigError if it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}; write it again with save") from error


def as_ids(ids: Sequence[int] | Iterable[int] | Any) -> NDArray[np.int64]:
    """Return ids, a sequence, array or tensor of one axis, as an int64 array.

    Raises:
        ConfigError: if they are no integers, or of several axes.
    """
    array = np.asarray(ids if hasattr(ids, "__array__") or isinstance(ids, Sequence) else list(ids))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ConfigError(f"ids must be integers in one row, got {array.dtype} of the shape {array.shape}; give one sequence at a time")
    return array.astype(np.int64)
