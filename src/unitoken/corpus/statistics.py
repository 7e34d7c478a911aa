"""What a corpus is made of: hours, lengths, and how its tokens are spread over the codebooks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import CorpusError
from .reader import Corpus
from .shard import STREAMS

GROUPS = ("source", "language", "speaker", "licence")
"""Columns by which hours are summed, where they are there."""
QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class StreamStatistics:
    """How the tokens of one stream are spread; of several codebooks, means over them.

    Attributes:
        tokens: counted.
        codebook_size: codewords in each codebook.
        used: codewords that were seen at least once.
        entropy: bits of the observed distribution, of one token.
        counts: int64 `(codebooks, codebook_size)`.
    """

    tokens: int
    codebook_size: int
    used: float
    entropy: float
    counts: np.ndarray[Any, Any] = field(repr=False)

    @property
    def perplexity(self) -> float:
        """2 to the power of the entropy: so many equally frequent tokens would be as spread."""
        return 2**self.entropy


@dataclass(frozen=True)
class Statistics:
    """What a corpus is made of.

    Attributes:
        utterances: how many.
        hours: of audio.
        quantiles: of the utterances' lengths in seconds, by percent.
        lengths: float64 `(utterances,)`, seconds.
        streams: by stream, those that there are.
        groups: by column, hours and utterances by value, most hours first.
    """

    utterances: int
    hours: float
    quantiles: dict[int, float]
    lengths: np.ndarray[Any, Any] = field(repr=False)
    streams: dict[str, StreamStatistics]
    groups: dict[str, dict[str, tuple[float, int]]]


def statistics_of(corpus: Corpus) -> Statistics:
    """Count a corpus.

    Raises:
        CorpusError: if it has no utterance.
    """
    if not len(corpus):
        raise CorpusError(f"{corpus!r} has no utterance, there is nothing to count")
    lengths = np.asarray(corpus.column("seconds"), dtype=np.float64)
    info = corpus.info
    shapes = {"g": (info.num_g, info.g_size), "s": (info.s.num_codebooks, info.s.codebook_size), "p": (info.p.num_codebooks, info.p.codebook_size)}
    found = {name: _stream(corpus.column(name), *shapes[name]) for name in STREAMS}
    return Statistics(
        utterances=len(lengths),
        hours=float(lengths.sum()) / 3600,
        quantiles={percent: float(np.percentile(lengths, percent)) for percent in QUANTILES},
        lengths=lengths,
        streams={name: stream for name, stream in found.items() if stream is not None},
        groups={name: _hours(corpus.column(name), lengths) for name in GROUPS if name in corpus.columns},
    )


def _stream(column: pa.ChunkedArray, codebooks: int, size: int) -> StreamStatistics | None:
    counts = np.zeros((codebooks, size), np.int64)
    for chunk in column.chunks:
        tokens = np.asarray(chunk.flatten()).reshape(-1, codebooks)
        for book in range(codebooks):
            counts[book] += np.bincount(tokens[:, book], minlength=size)
    if not counts.sum():
        return None
    share = counts / counts.sum(1, keepdims=True)
    entropy = -(share * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum(1)
    return StreamStatistics(int(counts.sum()), size, float((counts > 0).sum(1).mean()), float(entropy.mean()), counts)


def _hours(column: pa.ChunkedArray, lengths: np.ndarray[Any, Any]) -> dict[str, tuple[float, int]]:
    sums = dict[str, tuple[float, int]]()
    for value, seconds in zip(column.to_pylist(), lengths, strict=True):
        hours, count = sums.get(name := str(value), (0.0, 0))
        sums[name] = hours + float(seconds) / 3600, count + 1
    return dict(sorted(sums.items(), key=lambda item: -item[1][0]))
