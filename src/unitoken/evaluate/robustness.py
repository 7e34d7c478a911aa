"""Do tokens stay when the recording changes? Unit edit distance between the tokens of a clip and of a changed copy (Gat et al., arXiv 2209.15483)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..resample import resample
from ..tokens import TokenBundle
from .baselines import Opus
from .codecs import SAMPLE_RATE
from .extras import require

Change = Callable[[Tensor, torch.Generator], Tensor]


class Encoder(Protocol):
    """What is measured."""

    def encode(self, audio: Tensor, /, *, sample_rate: int) -> TokenBundle:
        """Return a bundle of float32 `(samples,)`."""
        ...


def gain(decibel: float) -> Change:
    """Return a change of level; samples beyond full scale are clipped."""
    return lambda waveform, _: (waveform * 10 ** (decibel / 20)).clamp(-1, 1)


def noise(decibel: float) -> Change:
    """Return white noise at a signal-to-noise ratio, over the whole clip."""

    def change(waveform: Tensor, generator: torch.Generator) -> Tensor:
        rush = torch.randn(len(waveform), generator=generator)
        level = waveform.square().mean().sqrt() * 10 ** (-decibel / 20)
        return (waveform + level * rush).clamp(-1, 1)

    return change


def reverb(seconds: float = 0.4) -> Change:
    """Return a room: noise that falls by 60 dB in `seconds` after the direct sound, which is 6 dB louder than all of it."""

    def change(waveform: Tensor, generator: torch.Generator) -> Tensor:
        time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tail = torch.randn(len(time), generator=generator) * 10 ** (-3 * time / seconds)
        tail = 0.5 * tail / tail.square().sum().sqrt()
        tail[0] = 1.0
        size = len(waveform) + len(tail)
        return torch.fft.irfft(torch.fft.rfft(waveform, size) * torch.fft.rfft(tail, size), size)[: len(waveform)].clamp(-1, 1)

    return change


def speed(factor: float) -> Change:
    """Return the clip played faster or slower, pitch and all."""
    return lambda waveform, _: resample(waveform, round(SAMPLE_RATE * factor), SAMPLE_RATE)


def opus(kilobits: int) -> Change:
    """Return the clip through Opus."""
    codec = Opus(kilobits)
    return lambda waveform, _: codec.roundtrip(waveform).waveform


def shift(samples: int) -> Change:
    """Return the clip later by some samples, with zeros before it."""
    return lambda waveform, _: F.pad(waveform, (samples, 0))


CHANGES: Mapping[str, Change] = {
    "gain -12 dB": gain(-12),
    "gain +6 dB": gain(6),
    "noise 20 dB": noise(20),
    "noise 10 dB": noise(10),
    "noise 5 dB": noise(5),
    "room of 0.4 s": reverb(0.4),
    "speed 0.9": speed(0.9),
    "speed 1.1": speed(1.1),
    "10 ms later": shift(160),
    "Opus 12k": opus(12),
}


def possible_changes() -> tuple[dict[str, Change], list[str]]:
    """Return the changes of `CHANGES` that can be made here, and a line for each that cannot."""
    missing = [name for name in CHANGES if name.startswith("Opus") and not Opus.is_installed()]
    lines = [f"{name} is left out, it needs the programs opusenc and opusdec; on Debian or Ubuntu: apt install opus-tools" for name in missing]
    return {name: change for name, change in CHANGES.items() if name not in missing}, lines


def unit_edit_distance(before: Sequence[int], after: Sequence[int]) -> float:
    """Return insertions, deletions and substitutions over the tokens before; runs of one token count once.

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
    tokenizer: Encoder, clips: Sequence[Tensor], changes: Mapping[str, Change] = CHANGES, *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return how far a stream's tokens move under each change: the mean of `unit_edit_distance` over clips.

    Args:
        tokenizer: what makes the tokens; streams of one codebook.
        clips: float32 `(samples,)` at 16 kHz each, one sample or more.
        changes: name -> change.
        seed: of the noise.

    Returns:
        change -> `s` and `p` -> distance; 0 for the same tokens, about 1 for others.

    Raises:
        ConfigError: without clips.
        MissingDependencyError: without the extra `[evaluate]`, or the programs of Opus.
    """
    if not clips:
        raise ConfigError("no clips to measure; give one or more")
    before = [tokenizer.encode(clip, sample_rate=SAMPLE_RATE) for clip in clips]
    found = dict[str, dict[str, float]]()
    for name, change in changes.items():
        generator = torch.Generator().manual_seed(seed)
        after = [tokenizer.encode(change(clip, generator), sample_rate=SAMPLE_RATE) for clip in clips]
        streams = {"s": [(one.s, two.s) for one, two in zip(before, after, strict=True)]}
        streams["p"] = [(one.p, two.p) for one, two in zip(before, after, strict=True) if one.p is not None and two.p is not None]
        distances = {stream: [unit_edit_distance(one.tolist(), two.tolist()) for one, two in pairs] for stream, pairs in streams.items()}
        found[name] = {stream: sum(values) / len(values) for stream, values in distances.items() if values}
    return found


def _without_repeats(tokens: Sequence[int]) -> list[int]:
    return [token for index, token in enumerate(tokens) if not index or token != tokens[index - 1]]
