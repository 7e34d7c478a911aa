"""Voice conversion by swapping the global tokens: is the result nearer to the target's voice than to the source's?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..audio import load_audio
from ..errors import ConfigError
from ..tokens import TokenBundle
from .manifest import Clip
from .pitch import track_f0
from .speakers import SAMPLE_RATE, SpeakerEmbedder

LOW_HZ, HIGH_HZ = 155.0, 170.0
"""Where the manifest does not say the sex, a speaker's median F0 below the first counts as male, above the second as female."""


class Converter(Protocol):
    """What a swap needs of a tokenizer."""

    def encode(self, audio: Tensor, /, *, sample_rate: int) -> TokenBundle:
        """Return a bundle of float32 `(samples,)`."""
        ...

    def decode(self, bundle: TokenBundle, /) -> Tensor:
        """Return float32 `(samples,)`."""
        ...


@dataclass(frozen=True)
class Pair:
    """Two clips of different speakers: what is said, and in whose voice."""

    source: Clip
    target: Clip
    across_sex: bool


@dataclass(frozen=True)
class Swap:
    """One pair's outcome.

    Attributes:
        pair: the clips.
        to_target: cosine of the converted clip and the target clip.
        to_source: cosine of the converted clip and the source clip.
    """

    pair: Pair
    to_target: float
    to_source: float

    @property
    def nearer_to_target(self) -> bool:
        """Whether the conversion moved the voice past the middle."""
        return self.to_target > self.to_source


def voice_pairs(clips: Sequence[Clip], count: int, *, seed: int = 0, min_seconds: float = 2.0) -> list[Pair]:
    """Draw pairs of clips of different speakers, every second one across sex, the others within.

    Args:
        clips: of a manifest.
        count: pairs.
        seed: of the draw.
        min_seconds: shorter clips are left out.

    Raises:
        ConfigError: if there are not two speakers of each sex.
    """
    by_speaker = dict[tuple[str, str], list[Clip]]()
    for clip in clips:
        if clip.seconds >= min_seconds:
            by_speaker.setdefault((clip.source, clip.speaker), []).append(clip)
    groups: dict[str, list[list[Clip]]] = {"f": [], "m": []}
    for members in by_speaker.values():
        groups.get(members[0].sex or _sex_by_pitch(members), []).append(members)
    if min(len(speakers) for speakers in groups.values()) < 2:
        raise ConfigError(f"pairs need two speakers of each sex, the manifest has {len(groups['f'])} female and {len(groups['m'])} male ones")
    random, pairs = np.random.default_rng(seed), list[Pair]()
    for number in range(count):
        across = number % 2 == 0
        first, second = ("f", "m") if random.random() < 0.5 else ("m", "f")
        one = int(random.integers(len(groups[first])))
        others = groups[second] if across else [speaker for index, speaker in enumerate(groups[first]) if index != one]
        source, target = groups[first][one], others[int(random.integers(len(others)))]
        pairs.append(Pair(source[int(random.integers(len(source)))], target[int(random.integers(len(target)))], across))
    return pairs


def _sex_by_pitch(clips: Sequence[Clip]) -> str:
    f0 = torch.cat([track_f0(load_audio(clip.path, sample_rate=SAMPLE_RATE)[0]) for clip in clips[:3]])
    voiced = f0[f0 > 0]
    middle = float(voiced.median()) if len(voiced) else 0.0
    return "m" if 0 < middle < LOW_HZ else "f" if middle > HIGH_HZ else ""


def measure_swaps(tokenizer: Converter, pairs: Sequence[Pair], embedder: SpeakerEmbedder) -> list[Swap]:
    """Convert each source into its target's voice and compare speaker embeddings."""
    swaps = list[Swap]()
    for pair in pairs:
        source, target, converted = (embedder.embed(wave) for wave in _convert(tokenizer, pair))
        swaps.append(Swap(pair, float(converted @ target), float(converted @ source)))
    return swaps


def measure_pitch_swaps(tokenizer: Converter, pairs: Sequence[Pair]) -> np.ndarray:
    """Convert each source into its target's voice and measure its median F0.

    Returns:
        float64 `(pairs, 3)`: natural logarithm of the median F0 in Hz of source, target and conversion, NaN where one has no voice.
    """
    rows = [[_log_median(track_f0(wave)) for wave in _convert(tokenizer, pair)] for pair in pairs]
    return np.array(rows).reshape(-1, 3)


def pitch_slope(medians: np.ndarray) -> tuple[float, float]:
    """Return how far the conversions' F0 goes towards the targets': slope and correlation of what it moved by over what lies between the voices.

    Args:
        medians: what `measure_pitch_swaps` returned. A slope of 1 is the target's height, of 0 the source's.

    Raises:
        ConfigError: if fewer than three pairs have a voice in all three clips.
    """
    source, target, converted = medians[np.isfinite(medians).all(1)].T
    if len(source) < 3:
        raise ConfigError(f"a slope needs three pairs with a voice, got {len(source)}; give more clips of speech")
    apart, moved = target - source, converted - source
    still = min(apart.std(), moved.std()) < 1e-6
    return float(np.polyfit(apart, moved, 1)[0]), 0.0 if still else float(np.corrcoef(apart, moved)[0, 1])


def _convert(tokenizer: Converter, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Return source, target, and what the source says in the target's voice."""
    source, target = (load_audio(clip.path, sample_rate=SAMPLE_RATE)[0] for clip in (pair.source, pair.target))
    bundle = tokenizer.encode(source, sample_rate=SAMPLE_RATE)
    voice = tokenizer.encode(target, sample_rate=SAMPLE_RATE).g
    return source, target, tokenizer.decode(bundle.replace(g=voice))


def _log_median(f0: Tensor) -> float:
    voiced = f0[f0 > 0]
    return float(voiced.median().log()) if len(voiced) else float("nan")
