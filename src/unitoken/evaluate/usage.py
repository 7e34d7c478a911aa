"""How much of a codebook is used: tokens seen, and perplexity of their distribution."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import TokenError
from ..tokens import TokenBundle


@dataclass(frozen=True)
class CodebookUsage:
    """Use of one stream's codebooks; with several, the mean over them.

    Attributes:
        tokens: tokens counted, all codebooks.
        codebook_size: codewords in each codebook.
        used: how many different tokens were seen.
        perplexity: exp of the entropy of the observed distribution: `codebook_size` where all are equally frequent, 1 where only one
            is seen. It cannot exceed the tokens counted, so a small sample lowers it.
    """

    tokens: int
    codebook_size: int
    used: float
    perplexity: float

    @property
    def fraction(self) -> float:
        """Perplexity over codebook size, 0 to 1."""
        return self.perplexity / self.codebook_size


@dataclass(frozen=True)
class StreamTokens:
    """The tokens of one stream of one clip.

    Attributes:
        num_codebooks: codebooks of the stream.
        codebook_size: codewords in each.
        tokens: one row a frame; with one codebook a number, else a list.
    """

    num_codebooks: int
    codebook_size: int
    tokens: list[Any]


def stream_tokens(bundle: TokenBundle) -> dict[str, StreamTokens]:
    """Return the tokens of a bundle by stream: `s`, `p` and `g`, those that it has."""
    info = bundle.info
    streams = {
        "s": (bundle.s, info.s.num_codebooks, info.s.codebook_size),
        "p": (bundle.p, info.p.num_codebooks, info.p.codebook_size),
        "g": (None if bundle.g is None else bundle.g[None], info.num_g, info.g_size),
    }
    return {stream: StreamTokens(books, size, tokens.tolist()) for stream, (tokens, books, size) in streams.items() if tokens is not None}


def count_codebooks(clips: Iterable[Mapping[str, StreamTokens]]) -> dict[str, CodebookUsage]:
    """Return the use of each stream's codebooks over many clips."""
    counters = dict[str, CodebookCounter]()
    for clip in clips:
        for stream, found in clip.items():
            shape = (-1,) if found.num_codebooks == 1 else (-1, found.num_codebooks)
            counter = counters.setdefault(stream, CodebookCounter(found.num_codebooks, found.codebook_size))
            counter.add(torch.tensor(found.tokens, dtype=torch.int64).reshape(shape))
    return {stream: found for stream, counter in counters.items() if (found := counter.usage()) is not None}


class CodebookCounter:
    """Counts the tokens of one stream over many bundles.

    Args:
        num_codebooks: codebooks of the stream.
        codebook_size: codewords in each.
    """

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self.counts = torch.zeros(num_codebooks, codebook_size, dtype=torch.int64)

    def add(self, tokens: Tensor) -> None:
        """Count int64 tokens: `(frames,)` with one codebook, else `(frames, codebooks)`.

        Raises:
            TokenError: if the shape or a value does not fit the codebooks.
        """
        books, size = self.counts.shape
        columns = tokens[:, None] if tokens.ndim == 1 else tokens
        if columns.ndim != 2 or columns.shape[1] != books:
            raise TokenError(f"expected tokens of {books} codebooks, got shape {tuple(tokens.shape)}; count each stream with its own CodebookCounter")
        if columns.numel() and not 0 <= int(columns.min()) <= int(columns.max()) < size:
            raise TokenError(f"tokens must be 0 to {size - 1}, got {int(columns.min())} to {int(columns.max())}; is codebook_size right?")
        for book in range(books):
            self.counts[book] += torch.bincount(columns[:, book], minlength=size)

    def usage(self) -> CodebookUsage | None:
        """Return the figures over everything added, or None if that is nothing."""
        total = int(self.counts.sum())
        if not total:
            return None
        share = self.counts.double() / self.counts.sum(1, keepdim=True)
        entropy = -torch.special.xlogy(share, share).sum(1)
        used = float((self.counts > 0).double().sum(1).mean())
        perplexity = sum(math.exp(value) for value in entropy.tolist()) / len(entropy)
        return CodebookUsage(total, self.counts.shape[1], used, perplexity)
