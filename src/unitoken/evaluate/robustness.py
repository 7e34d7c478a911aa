"""Do tokens stay when the recording changes? Unit edit distance between the tokens of a clip and of a changed copy (Gat et al., arXiv 2209.15483)."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..tokens import TokenBundle
from .changes import CHANGES, Change
from .codecs import SAMPLE_RATE
from .extras import require


class Encoder(Protocol):
    """What is measured."""

    def encode(self, audio: Tensor, /, *, sample_rate: int) -> TokenBundle:
        """Return a bundle of float32 `(samples,)`."""
        ...


def unit_edit_distance(before: Sequence[Any], after: Sequence[Any]) -> float:
    """Return insertions, deletions and substitutions over the tokens before; runs of one token count once.

    Args:
        before: tokens; of several codebooks a tuple for each frame.
        after: the same of the changed clip.

    Raises:
        ConfigError: if there are no tokens before.
        MissingDependencyError: without the extra `[evaluate]`.
    """
    if not len(before):
        raise ConfigError("no tokens to compare with; give a clip of one frame or more")
    distance = require("rapidfuzz.distance", "edit distances").Levenshtein.distance
    first, second = (_without_repeats(tokens) for tokens in (before, after))
    return distance(first, second) / len(first)


def token_distances(
    tokenizer: Encoder, clips: Sequence[Tensor], changes: Iterable[Change] = tuple(CHANGES.values()), *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return how far a stream's tokens move under each change: the mean of `unit_edit_distance` over clips.

    Args:
        tokenizer: what makes the tokens; streams of one codebook.
        clips: float32 `(samples,)` at 16 kHz each, one sample or more.
        changes: what happens to each of them.
        seed: of the noise.

    Returns:
        title of a change -> `s` and `p` -> distance; 0 for the same tokens, about 1 for others.

    Raises:
        ConfigError: without clips.
        MissingDependencyError: without the extra `[evaluate]`, or the programs of Opus.
    """
    if not clips:
        raise ConfigError("no clips to measure; give one or more")
    before = [tokenizer.encode(clip, sample_rate=SAMPLE_RATE) for clip in clips]
    found = dict[str, dict[str, float]]()
    for change in changes:
        generator = torch.Generator().manual_seed(seed)
        after = [tokenizer.encode(change.apply(clip, generator), sample_rate=SAMPLE_RATE) for clip in clips]
        streams = {"s": [(one.s, two.s) for one, two in zip(before, after, strict=True)]}
        streams["p"] = [(one.p, two.p) for one, two in zip(before, after, strict=True) if one.p is not None and two.p is not None]
        distances = {stream: [unit_edit_distance(one.tolist(), two.tolist()) for one, two in pairs] for stream, pairs in streams.items()}
        found[change.title] = {stream: sum(values) / len(values) for stream, values in distances.items() if values}
    return found


def _without_repeats(tokens: Sequence[Any]) -> list[Any]:
    return [token for index, token in enumerate(tokens) if not index or token != tokens[index - 1]]
