"""What is known about the corpora of a pool: how often each is drawn, and up to which frequency its recordings hold anything."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainError


@dataclass(frozen=True)
class Source:
    """One corpus.

    Attributes:
        weight: how much more (or less) often than its number of speakers says it is drawn.
        people: as how many speakers its clips of nobody known (`unk`) count.
        band_hz: above it the recordings hold nothing that a decoder should learn; infinite where they fill the band.
    """

    weight: float = 1.0
    people: int = 1
    band_hz: float = math.inf


def read_sources(path: Path) -> dict[str, Source]:
    """Return the corpora of a TSV with the column source and any of weight, people and band_hz; an empty field is the default.

    Raises:
        TrainError: if a row cannot be read, or a corpus stands twice.
    """
    found = dict[str, Source]()
    kinds: dict[str, Callable[[str], Any]] = {"weight": float, "people": int, "band_hz": float}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            name = row.pop("source", "")
            try:
                made = Source(**{column: kinds[column](text) for column, text in row.items() if text})
            except (KeyError, ValueError, TypeError) as error:
                raise TrainError(f"{path}: cannot read {name or row!r} ({error}); the columns are source, {', '.join(kinds)}") from error
            if not name or name in found or made.weight < 0 or made.people < 1 or not made.band_hz > 0:
                raise TrainError(f"{path}: {name or row!r} must stand there once, with weight >= 0, people >= 1 and band_hz > 0, got {made}")
            found[name] = made
    return found


def band_limits(sources: Mapping[str, Source], names: Sequence[str], speeds: Sequence[float], nyquist: float) -> Tensor:
    """Return the highest frequency that counts for utterances of these corpora, played at these speeds.

    Args:
        sources: what is known.
        names: of the corpora, one an utterance.
        speeds: one an utterance; at half the speed a recording ends at half the frequency.
        nyquist: half the sample rate of the recordings, in Hz.

    Returns:
        float32 `(batch,)`, Hz; `nyquist` and more is no limit.
    """
    return torch.tensor([min(sources.get(name, Source()).band_hz, nyquist) * speed for name, speed in zip(names, speeds, strict=True)])
