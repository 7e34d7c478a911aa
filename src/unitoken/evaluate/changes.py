"""What happens to recordings before a tokenizer hears them: level, noise, rooms, bands, speed, other codecs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..resample import resample
from .baselines import Opus
from .codecs import SAMPLE_RATE


def _kept(decoded: Tensor, _: Tensor) -> Tensor:
    return decoded


@dataclass(frozen=True)
class Change:
    """One thing that can happen to a clip.

    Attributes:
        title: what a table calls it.
        apply: what is heard, of a clip, float32 `(samples,)` at 16 kHz in [-1, 1], and the source of its chances.
        undo: what was decoded as it is to be compared with the clip: its level and time again; of what was decoded, and the clip.
    """

    title: str
    apply: Callable[[Tensor, torch.Generator], Tensor]
    undo: Callable[[Tensor, Tensor], Tensor] = _kept


def gain(decibel: float) -> Change:
    """Return a change of level; samples beyond full scale are clipped."""
    factor = 10 ** (decibel / 20)
    return Change(f"gain {decibel:+g} dB", lambda waveform, _: (waveform * factor).clamp(-1, 1), lambda decoded, _: decoded / factor)


def peak(decibel: float) -> Change:
    """Return a clip whose loudest sample is so far below full scale."""

    def factor(waveform: Tensor) -> Tensor:
        loudest = waveform.abs().amax() if len(waveform) else torch.zeros(())
        return torch.where(loudest > 0, 10 ** (decibel / 20) / loudest, 1.0)

    return Change(f"peak at {decibel:g} dBFS", lambda waveform, _: waveform * factor(waveform), lambda decoded, waveform: decoded / factor(waveform))


def noise(decibel: float) -> Change:
    """Return white noise at a signal-to-noise ratio, over the whole clip."""

    def apply(waveform: Tensor, generator: torch.Generator) -> Tensor:
        rush = torch.randn(len(waveform), generator=generator)
        level = waveform.square().mean().sqrt() * 10 ** (-decibel / 20)
        return (waveform + level * rush).clamp(-1, 1)

    return Change(f"noise {decibel:g} dB", apply)


def reverb(seconds: float = 0.4) -> Change:
    """Return a room: noise that falls by 60 dB in `seconds` after the direct sound, which is 6 dB louder than all of it."""

    def apply(waveform: Tensor, generator: torch.Generator) -> Tensor:
        time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tail = torch.randn(len(time), generator=generator) * 10 ** (-3 * time / seconds)
        tail = 0.5 * tail / tail.square().sum().sqrt()
        tail[0] = 1.0
        size = len(waveform) + len(tail)
        return torch.fft.irfft(torch.fft.rfft(waveform, size) * torch.fft.rfft(tail, size), size)[: len(waveform)].clamp(-1, 1)

    return Change(f"room of {seconds:g} s", apply)


def band(hertz: int) -> Change:
    """Return the clip sampled at a lower rate, and back."""

    def apply(waveform: Tensor, _: torch.Generator) -> Tensor:
        return resample(resample(waveform, SAMPLE_RATE, hertz), hertz, SAMPLE_RATE)[: len(waveform)]

    return Change(f"{hertz / 1000:g} kHz sampling", apply)


def speed(factor: float) -> Change:
    """Return the clip played faster or slower, pitch and all."""
    rate = round(SAMPLE_RATE * factor)

    def undo(decoded: Tensor, waveform: Tensor) -> Tensor:
        back = resample(decoded, SAMPLE_RATE, rate)[: len(waveform)]
        return F.pad(back, (0, len(waveform) - len(back)))

    return Change(f"speed {factor:g}", lambda waveform, _: resample(waveform, rate, SAMPLE_RATE), undo)


def opus(kilobits: int) -> Change:
    """Return the clip through Opus."""
    codec = Opus(kilobits)
    return Change(codec.name, lambda waveform, _: codec.roundtrip(waveform).waveform)


def later(samples: int) -> Change:
    """Return the clip later by some samples, with zeros before it."""
    title = f"{1000 * samples / SAMPLE_RATE:g} ms later"
    return Change(title, lambda waveform, _: F.pad(waveform, (samples, 0)), lambda decoded, _: decoded[samples:])


CHANGES: Mapping[str, Change] = {
    "gain-12": gain(-12),
    "gain+6": gain(6),
    "peak-40": peak(-40),
    "peak-30": peak(-30),
    "peak-20": peak(-20),
    "peak-0": peak(0),
    "noise-20": noise(20),
    "noise-10": noise(10),
    "noise-5": noise(5),
    "room": reverb(0.4),
    "8-khz": band(8000),
    "speed-0.9": speed(0.9),
    "speed-1.1": speed(1.1),
    "10-ms": later(160),
    "opus-12": opus(12),
}
"""The changes by name."""


def possible_changes() -> tuple[dict[str, Change], list[str]]:
    """Return the changes of `CHANGES` that can be made here, and a line for each that cannot."""
    missing = [name for name in CHANGES if name.startswith("opus") and not Opus.is_installed()]
    lines = [f"{CHANGES[name].title} is left out, it needs opusenc and opusdec; on Debian or Ubuntu: apt install opus-tools" for name in missing]
    return {name: change for name, change in CHANGES.items() if name not in missing}, lines
