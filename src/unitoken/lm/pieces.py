"""Pieces of S: frequent sequences of tokens that one id stands for (byte-pair encoding, as in arXiv 2205.01086, by the `tokenizers` library)."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigError, missing_extra
from ..tokens import TokenBundle
from .bodies import Body, Exit, Ids
from .grammar import GrammarBuilder
from .vocabulary import Vocabulary

_FIRST = 0xF0000  # a private plane of Unicode: 65,534 characters that no normalization touches
_MOST = 65534


def train_pieces(vocabulary: Vocabulary, bundles: Iterable[TokenBundle], number: int, *, longest: int = 16, least: int = 2) -> Vocabulary:
    """Return a vocabulary with pieces of the most frequent sequences of S (extra `[lm]`).

    Args:
        vocabulary: to which they are added; those it has are replaced.
        bundles: utterances to learn from.
        number: how many pieces, beside single tokens; fewer are made if there are fewer sequences.
        longest: most tokens in a piece.
        least: how often two pieces have to follow each other to be merged.

    Raises:
        ConfigError: if S has several codebooks or more than 65,534 codewords, or a number is below 1.
        MissingDependencyError: if the extra is not installed.
    """
    for name, value in (("number", number), ("longest", longest), ("least", least)):
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    library = _library()
    alphabet = _characters(range(_size(vocabulary)))
    model = library.Tokenizer(library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=len(alphabet) + number,
        initial_alphabet=list(alphabet),
        max_token_length=longest,
        min_frequency=least,
        show_progress=False,
    )
    model.train_from_iterator((_characters(bundle.s.tolist()) for bundle in bundles), trainer)
    known = {character: token for token, character in enumerate(alphabet)}
    merges: list[tuple[int, int]] = []
    for left, right in _merges_of(model):
        if left + right not in known:  # two pairs can make the same piece
            known[left + right] = len(known)
            merges.append((known[left], known[right]))
    return dataclasses.replace(vocabulary, merges=tuple(merges))


def _merges_of(model: Any) -> list[tuple[str, str]]:
    stored: list[Any] = json.loads(model.to_str())["model"]["merges"]
    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in stored]


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise missing_extra("pieces of S", "lm") from error
    return tokenizers


def _size(vocabulary: Vocabulary) -> int:
    size = vocabulary.info.s.codebook_size
    if size > _MOST or vocabulary.info.s.num_codebooks > 1:
        raise ConfigError(f"pieces are of one codebook of at most {_MOST} codewords, got {vocabulary.info.s}; use another layout")
    return size


def _characters(tokens: Iterable[int]) -> str:
    return "".join(map(chr, (_FIRST + token for token in tokens)))


@functools.lru_cache(8)
def _encoder(vocabulary: Vocabulary) -> Any:
    """Return what turns characters into numbers of pieces; made once for a vocabulary."""
    library = _library()
    names = [_characters(tokens.tolist()) for tokens in vocabulary.expansions]
    numbers = {name: number for number, name in enumerate(names)}
    return library.Tokenizer(library.models.BPE(numbers, [(names[left], names[right]) for left, right in vocabulary.merges]))


@dataclass(frozen=True)
class Pieces(Body):
    """S in pieces; a single token is one, too."""

    name: ClassVar[str] = "pieces"
    marker: ClassVar[str] = "pieces"
    streams: ClassVar[str] = "s"

    def needs(self) -> tuple[str, ...]:
        """See `Body`."""
        return ("piece",)

    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """See `Body`."""
        size = _size(vocabulary)
        numbers = np.array(_encoder(vocabulary).encode(_characters(s[:, 0].tolist())).ids, np.int64)
        return numbers + np.where(numbers < size, vocabulary.kind("s0").first, vocabulary.kind("piece").first - size)

    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """See `Body`."""
        grammar.arc(begin, "s0", begin)
        grammar.arc(begin, "piece", begin)
        return [Exit(begin)]

    def spread(self, vocabulary: Vocabulary, kind: str, token: int, last: int) -> list[int]:
        """See `Body`."""
        return vocabulary.expansions[vocabulary.info.s.codebook_size + token].tolist() if kind == "piece" else [token]

    def lengths(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """See `Body`."""
        lengths = np.array([len(tokens) for tokens in vocabulary.expansions], np.int64)
        spoken, merged = numbers == vocabulary.number("s0"), numbers == vocabulary.number("piece")
        return np.where(spoken, 1, np.where(merged, lengths[np.where(merged, tokens + vocabulary.info.s.codebook_size, 0)], 0))

    def tokens_of_s(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """See `Body`."""
        spoken, merged = numbers == vocabulary.number("s0"), numbers == vocabulary.number("piece")
        indices = (tokens + np.where(merged, vocabulary.info.s.codebook_size, 0))[spoken | merged].tolist()
        return np.concatenate([vocabulary.expansions[index] for index in indices]) if indices else np.zeros(0, np.int64)
