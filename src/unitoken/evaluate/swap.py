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
        source, target = (load_audio(clip.path, sample_rate=SAMPLE_RATE)[0] for clip in (pair.source, pair.target))
        bundle = tokenizer.encode(source, sample_rate=SAMPLE_RATE)
        voice = tokenizer.encode(target, sample_rate=SAMPLE_RATE).g
        converted = embedder.embed(tokenizer.decode(bundle.replace(g=voice)))
        to_target, to_source = (float(converted @ embedder.embed(clip)) for clip in (target, source))
        swaps.append(Swap(pair, to_target, to_source))
    return swaps
