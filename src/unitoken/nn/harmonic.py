"""The spectrum of a voice's source, frame by frame: harmonics of F0 whose phases run on from frame to frame.

A decoder whose layers do the same at every frame cannot know how far a voice's phase has advanced between two frames; given the source, it only
has to learn a filter (the source-filter idea of NSF, Wang et al., arXiv 1904.12088, and of HiFTNet, 2309.09493, in the spectrum itself).
"""

import math

import torch
from torch import Tensor

LEAST_HZ, MOST_HZ = 33.0, 660.0
"""F0 outside this range is moved to its ends."""


def running_phase(f0: Tensor, voiced: Tensor, first: Tensor, hop: int, sample_rate: int, memory: int) -> Tensor:
    """Return the phase of the first harmonic at each frame's centre, counted from where the voice sets in.

    Within a voiced run the phase advances by the mean F0 of each two neighbouring frames; before a run it is zero. In a run longer than `memory`
    frames it is counted from the last frame whose number is a multiple of `memory`: so a frame's phase depends on the last `memory` frames only.

    Args:
        f0: float32 `(batch, frames)`, Hz.
        voiced: bool `(batch, frames)`.
        first: int64 `(batch,)`: each row's first frame's number in its clip, may be negative.
        hop: samples between frames.
        sample_rate: Hz.
        memory: frames.

    Returns:
        float64 `(batch, frames)`, radians, in [0, 2 pi). Right from frame `memory` of a row on, or from the clip's start.
    """
    step = f0.double() * (hop / sample_rate)
    turns = torch.cat([torch.zeros_like(step[:, :1]), (step[:, 1:] + step[:, :-1]) / 2], 1).cumsum(1)
    at = torch.arange(f0.shape[1], device=f0.device).expand_as(voiced)
    silent = torch.where(voiced, -1, at).cummax(1).values
    grid = at - torch.remainder(at + first.unsqueeze(1), memory)
    start = torch.where((silent >= 0) & (at - silent <= memory), silent, grid).clamp_min(0)
    return 2 * math.pi * torch.frac(turns - turns.gather(1, start))


def run_through(f0: Tensor, phase: Tensor, voiced: Tensor, hop: int, sample_rate: int, parts: int) -> tuple[Tensor, Tensor]:
    """Return F0 and phase at the middle of each of the equal parts of frames; F0 runs straight from frame to frame, as it does in `running_phase`.

    Args:
        f0: float32 `(batch, frames)`, Hz, at the middle of each frame.
        phase: float64 `(batch, frames)`, radians: what `running_phase` says of them.
        voiced: bool `(batch, frames)`: towards a frame without voice, F0 stays as it is.
        hop: samples of a frame.
        sample_rate: Hz.
        parts: of each frame.

    Returns:
        float32 and float64 `(batch, frames * parts)`: F0, and the phase in [0, 2 pi).
    """
    before, after = (torch.cat(each, 1) for each in ((f0[:, :1], f0[:, :-1]), (f0[:, 1:], f0[:, -1:])))
    spoken = torch.cat([voiced[:, :1], voiced, voiced[:, -1:]], 1)
    before, after = torch.where(spoken[:, :-2], before, f0), torch.where(spoken[:, 2:], after, f0)
    at = (torch.arange(parts, dtype=torch.float64, device=f0.device) + 0.5) / parts - 0.5
    slope = torch.where(at < 0, before.unsqueeze(-1), after.unsqueeze(-1)) - f0.unsqueeze(-1)
    turns = (at * f0.unsqueeze(-1) + at.abs() * at * slope / 2) * (hop / sample_rate)
    ran = torch.remainder(phase.unsqueeze(-1) + 2 * math.pi * turns, 2 * math.pi)
    return (f0.unsqueeze(-1) + at.abs() * slope).float().flatten(1), ran.flatten(1)


def hann_lobe(distance: Tensor) -> Tensor:
    """Return the main lobe of a Hann window's transform, 1 at its centre, 0 from 2 bins on.

    Args:
        distance: bins from the centre.
    """
    below = 1 - distance**2
    near = below.abs() < 1e-3  # sinc(x) / (1 - x^2) has the limit 1/2 at 1
    lobe = torch.sinc(distance).div_(below.masked_fill_(near, 1.0)).masked_fill_(near, 0.5)  # large tensors: nothing new where it can be avoided
    return lobe.masked_fill_(below <= -3, 0.0)


def harmonics(f0: Tensor, phase: Tensor, n_fft: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return the spectrum of frames of equally strong harmonics under a Hann window, F0 constant in each frame.

    A bin holds the harmonic nearest to it, weighted by the window's transform at their distance; harmonics end below half the sample rate.

    Args:
        f0: float32 `(batch, frames)`, Hz, positive.
        phase: float64 `(batch, frames)`, radians: of the first harmonic, at the middle of the frame.
        n_fft: FFT size and window length.
        sample_rate: Hz.

    Returns:
        magnitudes, 1 at a harmonic's centre, and angles in radians, float32 `(batch, frames, n_fft / 2 + 1)` each.
    """
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float32, device=f0.device)
    spacing, pitch = sample_rate / n_fft, f0.unsqueeze(-1)
    number = (bins * spacing / pitch).round_().clamp_min_(1)
    hz = number * pitch
    lobe = hann_lobe(bins - hz / spacing).masked_fill_(hz >= sample_rate / 2, 0.0)
    # Sample n_fft / 2 is the middle: half a turn for every odd bin.
    turns = number.double().mul_((phase / (2 * math.pi)).unsqueeze(-1)).add_((bins % 2) / 2)
    return lobe, turns.frac_().float().mul_(2 * math.pi)
