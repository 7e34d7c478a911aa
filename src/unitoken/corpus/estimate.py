"""What a corpus will take, before it is made: hours, bytes and time, from some of its rows."""

import random
import time
from dataclasses import dataclass

from ..audio import audio_info
from ..errors import UnitokenError
from ..units import bits_for
from .encode import Settings, encode_rows
from .media import fetch
from .plan import Plan, Row, rows_of

SAMPLE = 200
"""Rows of which the length is looked up."""
MORE = 1.15
"""Bytes of a shard over those of its tokens packed: ids, hashes, and the file's own."""


@dataclass(frozen=True)
class Estimate:
    """What was found.

    Attributes:
        rows: utterances.
        shards: of these.
        unreadable: share of the rows looked at that cannot be read.
        hours: of audio, from the mean length of the rows looked at.
        hours_error: standard error of that.
        bytes: of the shards.
        rate: hours of audio an hour of one process, with reading and decoding; 0 if nothing was encoded.
    """

    rows: int
    shards: int
    unreadable: float
    hours: float
    hours_error: float
    bytes: float
    rate: float

    def hours_needed(self, workers: int) -> float | None:
        """Return how long so many processes take, in hours; None if it was not measured."""
        return self.hours / (self.rate * workers) if self.rate else None


def estimate(plan: Plan, settings: Settings, *, probe_seconds: float = 20.0, seed: int = 0) -> Estimate:
    """Estimate what a plan takes: the length of some rows is looked up, and some are encoded for a while.

    Args:
        plan: of the input.
        settings: how it is to be encoded.
        probe_seconds: how long to encode; 0 leaves it out.
        seed: of the choice of rows.
    """
    tokenizer = settings.load()
    chosen = random.Random(seed).sample(range(len(plan.table)), min(SAMPLE, len(plan.table)))  # noqa: S311, no secret
    rows = rows_of(plan.table.take(sorted(chosen)))
    lengths = [length for row in rows if (length := _seconds(row)) is not None]
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    spread = (sum((length - mean) ** 2 for length in lengths) / max(1, len(lengths) - 1)) ** 0.5
    readable = len(lengths) / len(rows)
    hours = mean * readable * len(plan.table) / 3600
    info = tokenizer.info
    bits = float(tokenizer.bitrate) * hours * 3600 + len(plan.table) * (info.num_g * bits_for(info.g_size) + 128)
    error = hours * spread / mean / len(lengths) ** 0.5 if mean else 0.0
    rate = _rate(rows, settings, probe_seconds) if probe_seconds and lengths else 0.0
    return Estimate(len(plan.table), plan.shards, 1 - readable, hours, error, MORE * bits / 8, rate)


def _seconds(row: Row) -> float | None:
    try:
        return audio_info(fetch(row).source).seconds
    except (UnitokenError, OSError, ValueError):
        return None


def _rate(rows: list[Row], settings: Settings, limit: float) -> float:
    """Return how many hours of audio an hour are encoded."""
    tokenizer, seconds = settings.load(), 0.0
    encode_rows(tokenizer, {0: rows[0]}, settings)  # what happens at first only is left out
    began = time.monotonic()
    while time.monotonic() - began < limit and rows:
        batch, rows = rows[:8], rows[8:]
        made, _ = encode_rows(tokenizer, dict(enumerate(batch)), settings)
        seconds += sum(one.bundle.seconds for one in made.values())
    return seconds / max(time.monotonic() - began, 1e-9)
