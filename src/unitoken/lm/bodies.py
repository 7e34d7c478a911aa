"""How the frames of S, or of S and P, lie in a sequence: each way writes ids, reads them again, and says what may follow what.

A frame is `codebooks` ids. The frames of the faster stream that lie in one of the slower make a group; at equal rates a group is one frame of each.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, LayoutError
from ..token_info import TokenizerInfo
from ..tokens import TokenBundle
from .grammar import NO_LIMIT, GrammarBuilder
from .vocabulary import Vocabulary

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Exit:
    """A state in which a body may end, if the counter is at most `most`."""

    state: int
    most: int = NO_LIMIT


@dataclass(frozen=True)
class Body(ABC):
    """One way to write frames. It begins after its marker, with the counter at 0.

    Attributes:
        name: in files.
        marker: the special id before it.
        streams: which it carries, `s` or `sp`.
    """

    name: ClassVar[str]
    marker: ClassVar[str]
    streams: ClassVar[str]

    def needs(self) -> tuple[str, ...]:
        """Return kinds that a vocabulary must have for it, beside the codebooks."""
        return ()

    @abstractmethod
    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """Return ids.

        Args:
            vocabulary: which id means what.
            s: tokens `(frames_s, codebooks)`.
            p: tokens `(frames_p, codebooks)`; of a body without P they do not matter.
        """

    @abstractmethod
    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """Add the ways on from the state after the marker, and return where they may end."""

    def spread(self, vocabulary: Vocabulary, kind: str, token: int, last: int) -> list[int]:
        """Return the tokens of a stream that one more id gives; `last` is the token of the id before it."""
        return [token]

    def lengths(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """Return how many tokens of S each id gives, 0 for ids of other kinds; their order is that of the ids.

        Args:
            vocabulary: which id means what.
            numbers: of the ids' kinds.
            tokens: the ids without their kinds' first ones.
        """
        return np.isin(numbers, numbers_of(vocabulary, "s")).astype(np.int64)

    def tokens_of_s(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """Return the tokens of S of valid ids, in one row; arguments as those of `lengths`."""
        return tokens[np.isin(numbers, numbers_of(vocabulary, "s"))]


def numbers_of(vocabulary: Vocabulary, stream: str) -> list[int]:
    """Return the numbers of the kinds that a stream's codebooks are."""
    return [number for number, kind in enumerate(vocabulary.kinds) if kind.stream == stream]


def books(vocabulary: Vocabulary, stream: str) -> list[str]:
    """Return the names of a stream's codebooks, which one frame has in this order."""
    return [kind.name for kind in vocabulary.kinds if kind.stream == stream]


def frame_ids(vocabulary: Vocabulary, stream: str, tokens: Ids) -> Ids:
    """Return the ids of frames `(frames, codebooks)`, in one row."""
    firsts = np.array([vocabulary.kind(name).first for name in books(vocabulary, stream)], np.int64)
    return (tokens + firsts).reshape(-1)


def frames_of(info: TokenizerInfo, bundle: TokenBundle, streams: str) -> tuple[Ids, Ids]:
    """Return a bundle's tokens `(frames, codebooks)` of S and of P; no frames of P if that is not carried.

    Args:
        info: of the vocabulary.
        bundle: to be written.
        streams: which are carried, `s` or `sp`.

    Raises:
        LayoutError: if the bundle is another tokenizer's, or has no P and that is carried.
    """
    if bundle.info != info:
        raise LayoutError(
            f"the bundle is of {bundle.info.name} ({bundle.info.fingerprint:.12}), the vocabulary of {info.name} ({info.fingerprint:.12}); "
            "build a vocabulary from that tokenizer's info"
        )
    if "p" in streams and bundle.p is None:
        raise LayoutError("the layout carries P, the bundle has none; encode it, or take a layout of S alone")
    p = np.zeros(0, np.int64) if bundle.p is None or "p" not in streams else bundle.p.numpy()
    return bundle.s.numpy().reshape(len(bundle.s), info.s.num_codebooks), p.reshape(len(p), info.p.num_codebooks)


def ratio(info: TokenizerInfo) -> tuple[int, int]:
    """Return how many frames of S and how many of P a group has: one of them is 1."""
    return info.hop // info.s.hop, info.hop // info.p.hop


@dataclass(frozen=True)
class Semantic(Body):
    """S alone."""

    name: ClassVar[str] = "semantic"
    marker: ClassVar[str] = "semantic"
    streams: ClassVar[str] = "s"

    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """See `Body`."""
        return frame_ids(vocabulary, "s", s)

    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """See `Body`."""
        grammar.chain(begin, books(grammar.vocabulary, "s"), begin)
        return [Exit(begin)]


@dataclass(frozen=True)
class Sequential(Body):
    """All of S, a marker, all of P, as AudioLM's stages (arXiv 2209.03143). The counter holds how much of P is missing, so P ends where S does."""

    name: ClassVar[str] = "sequential"
    marker: ClassVar[str] = "semantic"
    streams: ClassVar[str] = "sp"

    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """See `Body`."""
        return np.concatenate([frame_ids(vocabulary, "s", s), [vocabulary.kind("residual").first], frame_ids(vocabulary, "p", p)])

    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """See `Body`."""
        of_s, of_p = ratio(grammar.vocabulary.info)
        residual = grammar.state()
        grammar.chain(begin, books(grammar.vocabulary, "s"), begin, add=of_p)
        grammar.arc(begin, "residual", residual)
        grammar.chain(residual, books(grammar.vocabulary, "p"), residual, add=-of_s, least=1)
        return [Exit(residual, most=of_p - 1)]


@dataclass(frozen=True)
class Interleaved(Body):
    """S and P of each frame in turn, P `delay` groups later than S (the delay pattern of arXiv 2306.05284, in one row).

    The first `delay` groups have S alone, the last ones P alone, so no id fills gaps. The counter holds the groups whose P is missing.

    Attributes:
        delay: in groups.
    """

    name: ClassVar[str] = "interleaved"
    marker: ClassVar[str] = "frames"
    streams: ClassVar[str] = "sp"
    delay: int = 0

    def __post_init__(self) -> None:
        """Check the delay."""
        if self.delay < 0:
            raise ConfigError(f"delay must be 0 or more groups, got {self.delay}; P follows S")

    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """See `Body`."""
        of_s, of_p = (count * length for count, length in zip(ratio(vocabulary.info), (s.shape[1], p.shape[1]), strict=True))
        if not self.delay and s.size * of_p == p.size * of_s:  # whole groups
            parts = [(s, "s", of_s), (p, "p", of_p)]
            return np.concatenate([frame_ids(vocabulary, name, tokens).reshape(-1, size) for tokens, name, size in parts], 1).reshape(-1)
        ids = np.empty(s.size + p.size, np.int64)
        at_s, at_p = np.arange(s.size), np.arange(p.size)
        ids[at_s + np.minimum(np.maximum(at_s // of_s - self.delay, 0) * of_p, p.size)] = frame_ids(vocabulary, "s", s)
        ids[at_p + np.minimum((at_p // of_p + self.delay + 1) * of_s, s.size)] = frame_ids(vocabulary, "p", p)
        return ids

    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """See `Body`."""
        s, p = (books(grammar.vocabulary, name) for name in "sp")
        of_s, of_p = ratio(grammar.vocabulary.info)
        tail = grammar.state()
        part_s = grammar.chain(begin, s * of_s, begin, add=1, most=self.delay)
        body = grammar.chain(begin, p * of_p, begin, add=-1, least=self.delay + 1, most=self.delay + 1)
        end = grammar.chain(begin, p * of_p, tail, add=-1, least=1, most=self.delay)
        if of_p * len(p) == 1:
            grammar.arc(tail, p[0], tail, add=-1, least=1)
        else:  # after its first id a group goes on as the one that the tail began with
            grammar.arc(tail, p[0], end[0], add=-1, least=1)
        for index in range(len(s) - 1, len(part_s), len(s)):  # the last group may have fewer frames of S than others
            grammar.chain(part_s[index], p * of_p, tail, add=-1, least=1)
        partial = [chain[index] for chain in (body, end) for index in range(len(p) - 1, len(chain), len(p))]
        return [Exit(state, most=0) for state in (begin, tail, *partial)]


@dataclass(frozen=True)
class Runs(Body):
    """S without repetitions: a token, and for how many frames it stays."""

    name: ClassVar[str] = "runs"
    marker: ClassVar[str] = "runs"
    streams: ClassVar[str] = "s"

    def needs(self) -> tuple[str, ...]:
        """See `Body`."""
        return ("run",)

    def write(self, vocabulary: Vocabulary, s: Ids, p: Ids) -> Ids:
        """See `Body`; a run that is longer than the longest that has an id is cut."""
        run, s = vocabulary.kind("run"), s[:, 0]
        starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(s)), bool), s[1:] != s[:-1]]))
        lengths = np.diff(np.append(starts, len(s)))
        parts = -(-lengths // run.size)
        ids = np.empty((parts.sum(), 2), np.int64)
        ids[:, 0] = np.repeat(s[starts], parts) + vocabulary.kind("s0").first
        ids[:, 1] = run.stop - 1
        ids[np.cumsum(parts) - 1, 1] = run.first - 1 + lengths - (parts - 1) * run.size
        return ids.reshape(-1)

    def build(self, grammar: GrammarBuilder, begin: int) -> list[Exit]:
        """See `Body`."""
        grammar.chain(begin, ["s0", "run"], begin)
        return [Exit(begin)]

    def spread(self, vocabulary: Vocabulary, kind: str, token: int, last: int) -> list[int]:
        """See `Body`."""
        return [last] * (token + 1) if kind == "run" else []

    def lengths(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """See `Body`; the id of the length gives the tokens."""
        return np.where(numbers == vocabulary.number("run"), tokens + 1, 0)

    def tokens_of_s(self, vocabulary: Vocabulary, numbers: Ids, tokens: Ids) -> Ids:
        """See `Body`."""
        return np.repeat(tokens[numbers == vocabulary.number("s0")], tokens[numbers == vocabulary.number("run")] + 1)
