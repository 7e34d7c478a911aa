"""How sure error rates are: the clips drawn again and again, as Bisani and Ney do for words (2004, doi:10.1109/ICASSP.2004.1326009)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .words import Errors

DRAWS = 2000
LEAST_CLIPS = 10
"""With fewer clips nothing is said: what was not measured on them cannot be drawn from them."""


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the draws lie.

    Attributes:
        rate: of the errors of one codec: lowest and highest.
        difference: of its rate less the base's, on the same draws; None for the base.
    """

    rate: tuple[float, float]
    difference: tuple[float, float] | None


def draws(clips: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Return how often each clip is drawn, float64 `(DRAWS, clips)`; each draw has as many as there are, with replacement."""
    return np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), DRAWS).astype(np.float64)


def intervals(counts: Mapping[str, Sequence[Errors | None]], base: str, *, seed: int = 0) -> dict[str, Interval]:
    """Return how sure the error rate of each codec is, and its difference from that of one of them.

    Clips are drawn with replacement, as many as there are; a draw has the same clips for all codecs, so that clips which are hard for every codec
    do not blur differences.

    Args:
        counts: codec -> errors of the same clips in the same order; None where there is nothing to compare with.
        base: the codec that others are compared with.
        seed: of the draws.

    Returns:
        codec -> interval; nothing with fewer than `LEAST_CLIPS` clips that have words.
    """
    known = [found for found in zip(*counts.values(), strict=True) if all(each is not None and each.length for each in found)]
    if len(known) < LEAST_CLIPS:
        return {}
    errors, lengths = (np.array([[getattr(each, part) for each in found] for found in known], np.float64) for part in ("errors", "length"))
    drawn = draws(len(known), seed=seed)
    rates = dict(zip(counts, ((drawn @ errors) / (drawn @ lengths)).T, strict=True))
    return {name: Interval(_middle(own), None if name == base else _middle(own - rates[base])) for name, own in rates.items()}


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
