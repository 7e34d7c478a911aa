"""Streams swapped between clips: does the voice follow G, and keep words and melody; does the melody follow P?"""

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
from .pitch import compare_f0, track_f0
from .speakers import SAMPLE_RATE, SpeakerEmbedder
from .words import NOT_TRANSCRIBED, Errors, Transcriber, count_errors

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
    """One pair's outcome: the source decoded with the target's G, and with its own.

    Attributes:
        pair: the clips.
        to_target: cosine of the converted clip and the target clip.
        to_source: cosine of the converted clip and the source clip.
        melody: correlation of the converted clip's log-F0 with the source's; None where it is not defined.
        own_melody: the same of the clip decoded with its own G.
        words: errors of the converted clip, against the transcript, or without one against what is heard in the source; None without a recogniser.
        own_words: the same of the clip decoded with its own G.
    """

    pair: Pair
    to_target: float
    to_source: float
    melody: float | None = None
    own_melody: float | None = None
    words: Errors | None = None
    own_words: Errors | None = None

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


def measure_swaps(tokenizer: Converter, pairs: Sequence[Pair], embedder: SpeakerEmbedder, asr: Transcriber | None = None) -> list[Swap]:
    """Convert each source into its target's voice; compare speaker embeddings and melodies and, with a recogniser, words."""
    return [_swap(tokenizer, pair, embedder, asr) for pair in pairs]


def _swap(tokenizer: Converter, pair: Pair, embedder: SpeakerEmbedder, asr: Transcriber | None) -> Swap:
    source, target = _clips(pair)
    bundle = tokenizer.encode(source, sample_rate=SAMPLE_RATE)
    own = tokenizer.decode(bundle)
    converted = tokenizer.decode(bundle.replace(g=tokenizer.encode(target, sample_rate=SAMPLE_RATE).g))
    voice = embedder.embed(converted)
    f0 = track_f0(source)
    melody, own_melody = (compare_f0(f0, track_f0(wave)).f0_correlation for wave in (converted, own))
    return Swap(
        pair,
        float(voice @ embedder.embed(target)),
        float(voice @ embedder.embed(source)),
        melody,
        own_melody,
        *_words(pair.source, source, (converted, own), asr),
    )


def _words(clip: Clip, source: Tensor, decoded: Sequence[Tensor], asr: Transcriber | None) -> list[Errors | None]:
    if asr is None or clip.language in NOT_TRANSCRIBED or not asr.knows(clip.language):
        return [None for _ in decoded]
    said = clip.transcript or asr.transcribe(source, clip.language)
    return [count_errors(said, asr.transcribe(wave, clip.language), "word") for wave in decoded]


@dataclass(frozen=True)
class MelodySwap:
    """One pair's outcome: the source's S and G with the target's P.

    Attributes:
        to_target: correlation of its log-F0 with the target's, over the time that both clips last; None where it is not defined.
        to_source: the same with the source's.
    """

    to_target: float | None
    to_source: float | None


def measure_melody_swaps(tokenizer: Converter, pairs: Sequence[Pair]) -> list[MelodySwap]:
    """Decode each source with its target's P, both cut to the shorter clip, and compare melodies."""
    found = list[MelodySwap]()
    for pair in pairs:
        source, target = _clips(pair)
        samples = min(len(source), len(target))
        source, target = source[:samples], target[:samples]
        bundle = tokenizer.encode(source, sample_rate=SAMPLE_RATE)
        f0 = track_f0(tokenizer.decode(bundle.replace(p=tokenizer.encode(target, sample_rate=SAMPLE_RATE).p)))
        found.append(MelodySwap(*(compare_f0(track_f0(wave), f0).f0_correlation for wave in (target, source))))
    return found


def measure_melody(tokenizer: Converter, clips: Sequence[Clip], *, drop_p: bool = False) -> list[float | None]:
    """Return how the log-F0 of each decoded clip correlates with the clip's own, with P or without."""
    found = list[float | None]()
    for clip in clips:
        waveform, _ = load_audio(clip.path, sample_rate=SAMPLE_RATE)
        bundle = tokenizer.encode(waveform, sample_rate=SAMPLE_RATE)
        decoded = tokenizer.decode(bundle.replace(p=None) if drop_p else bundle)
        found.append(compare_f0(track_f0(waveform), track_f0(decoded)).f0_correlation)
    return found


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


def _clips(pair: Pair) -> tuple[Tensor, Tensor]:
    source, target = (load_audio(clip.path, sample_rate=SAMPLE_RATE)[0] for clip in (pair.source, pair.target))
    return source, target


def _convert(tokenizer: Converter, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Return source, target, and what the source says in the target's voice."""
    source, target = _clips(pair)
    bundle = tokenizer.encode(source, sample_rate=SAMPLE_RATE)
    voice = tokenizer.encode(target, sample_rate=SAMPLE_RATE).g
    return source, target, tokenizer.decode(bundle.replace(g=voice))


def _log_median(f0: Tensor) -> float:
    voiced = f0[f0 > 0]
    return float(voiced.median().log()) if len(voiced) else float("nan")
