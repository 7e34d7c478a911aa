"""Baselines that are programs: Codec2 and Opus."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import resample
from ..errors import ConfigError, MissingDependencyError
from ..units import frames_for
from .codecs import SAMPLE_RATE, Roundtrip

CODEC2, OPUS = ("Codec2", "c2enc and c2dec", "codec2"), ("Opus", "opusenc and opusdec", "opus-tools")
"""Name, programs and Debian package."""


@dataclass(frozen=True)
class _Mode:
    samples: int  # of a frame, at 8 kHz
    bits: int  # of a frame


CODEC2_MODES = {"700C": _Mode(320, 28), "1300": _Mode(320, 52), "2400": _Mode(160, 48)}
CODEC2_MAX_DELAY = 800
"""Samples at 16 kHz."""


class Codec2:
    """Codec2 through its command-line programs `c2enc` and `c2dec`: narrow-band speech at 700 to 2400 b/s.

    The clip goes in and comes out at 8 kHz and is resampled; silence is added behind it so that its end gets through, and the delay
    is taken out with `align`. Bits are counted as the codec defines its frames, for the frames that cover the clip. Times include
    starting the programs.

    Args:
        mode: `700C`, `1300` or `2400`.

    Raises:
        ConfigError: for another mode.
    """

    def __init__(self, mode: Literal["700C", "1300", "2400"]) -> None:
        if mode not in CODEC2_MODES:
            raise ConfigError(f"unknown Codec2 mode {mode!r}; there are: {', '.join(CODEC2_MODES)}")
        self.mode = mode
        self.name = f"Codec2 {mode}"

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Encode and decode one clip.

        Raises:
            MissingDependencyError: if the programs are not installed.
        """
        frame = CODEC2_MODES[self.mode]
        start = time.perf_counter()
        narrow = resample(waveform, SAMPLE_RATE, 8000)
        frames = frames_for(len(narrow), frame.samples)
        sent_frames = frames_for(len(narrow) + CODEC2_MAX_DELAY // 2, frame.samples)
        narrow = F.pad(narrow, (0, sent_frames * frame.samples - len(narrow)))
        payload = _run(CODEC2, "c2enc", [self.mode, "-", "-"], to_pcm(narrow))
        encoded = time.perf_counter()
        pcm = _run(CODEC2, "c2dec", [self.mode, "-", "-"], payload)
        decoded, _ = align(waveform, resample(from_pcm(pcm), 8000, SAMPLE_RATE))
        return Roundtrip(decoded, frames * frame.bits, None, encoded - start, time.perf_counter() - encoded)


class Opus:
    """Opus through its command-line programs `opusenc` and `opusdec`, at a constant rate.

    Frames of 60 ms below 8 kb/s and of 20 ms above, as the rate wants them. Bits are those of the packets that cover the clip; what the Ogg
    container adds is not counted. The decoder takes the codec's delay out itself. Times include starting the programs.

    Args:
        kilobits: a second, 6 to 64.

    Raises:
        ConfigError: for another rate.
    """

    def __init__(self, kilobits: int) -> None:
        if not 6 <= kilobits <= 64:
            raise ConfigError(f"Opus takes 6 to 64 kilobits a second here, got {kilobits}")
        self.kilobits = kilobits
        self.name = f"Opus {kilobits}k"

    @staticmethod
    def is_installed() -> bool:
        """Say whether both programs are there."""
        return all(shutil.which(program) for program in ("opusenc", "opusdec"))

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Encode and decode one clip.

        Raises:
            MissingDependencyError: if the programs are not installed.
        """
        if not len(waveform):
            return Roundtrip(waveform, 0, None, 0.0, 0.0)
        start = time.perf_counter()
        audio = ["--raw", "--raw-rate", str(SAMPLE_RATE), "--raw-chan", "1", "--raw-bits", "16"]
        rate = ["--speech", "--hard-cbr", "--bitrate", str(self.kilobits), "--framesize", "60" if self.kilobits < 8 else "20"]
        payload = _run(OPUS, "opusenc", ["--quiet", *audio, *rate, "-", "-"], to_pcm(waveform))
        encoded = time.perf_counter()
        pcm = _run(OPUS, "opusdec", ["--quiet", "--rate", str(SAMPLE_RATE), "-", "-"], payload)
        decoded = from_pcm(pcm)[: len(waveform)]
        decoded = F.pad(decoded, (0, len(waveform) - len(decoded)))
        return Roundtrip(decoded, 8 * ogg_payload(payload), None, encoded - start, time.perf_counter() - encoded)


def ogg_payload(data: bytes) -> int:
    """Return the bytes of the audio packets in an Ogg Opus stream: all pages but the two of its header (RFC 3533, RFC 7845)."""
    sizes, at = list[int](), 0
    while at < len(data):
        segments = data[at + 26]
        body = sum(data[at + 27 : at + 27 + segments])
        sizes.append(body)
        at += 27 + segments + body
    return sum(sizes[2:])


def to_pcm(waveform: Tensor) -> bytes:
    """Return little-endian 16-bit samples of a waveform in [-1, 1]."""
    return (waveform.clamp(-1, 1) * 32767).round().short().numpy().astype("<i2").tobytes()


def from_pcm(data: bytes) -> Tensor:
    """Return float32 `(samples,)` in [-1, 1] of little-endian 16-bit samples."""
    return torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32)) / 32768


def _run(codec: tuple[str, str, str], program: str, arguments: list[str], data: bytes) -> bytes:
    name, programs, package = codec
    path = shutil.which(program)
    if path is None:
        raise MissingDependencyError(f"{name} needs the programs {programs}, {program} is not installed; on Debian or Ubuntu: apt install {package}")
    return subprocess.run([path, *arguments], input=data, capture_output=True, check=True).stdout  # noqa: S603 - fixed programs, checked arguments


def _envelope(waveform: Tensor) -> Tensor:
    kernel = torch.hann_window(161, periodic=False, dtype=torch.float64)[None, None]
    power = F.conv1d(waveform.double().square()[None, None], kernel / kernel.sum(), padding=80)[0, 0]
    return power.clamp_min(0).sqrt()


def align(reference: Tensor, delayed: Tensor, max_delay: int = CODEC2_MAX_DELAY) -> tuple[Tensor, int]:
    """Take a codec's delay out, so that the two energy envelopes (10 ms) correlate best; parametric codecs do not keep the waveform.

    Args:
        reference: float32 `(samples,)`, what went in.
        delayed: float32 `(samples,)`, what came out, of any length.
        max_delay: largest delay that is looked for, in samples.

    Returns:
        The output cut or padded with zeros to the reference's length, and the delay in samples.
    """
    samples = len(reference)
    delayed = F.pad(delayed, (0, max(0, samples + max_delay - len(delayed))))[: samples + max_delay]
    if not samples:
        return delayed[:0], 0
    ours, theirs = _envelope(reference), _envelope(delayed)
    size = samples + len(theirs)
    spectrum = torch.fft.rfft(theirs, size) * torch.fft.rfft(ours - ours.mean(), size).conj()
    products = torch.fft.irfft(spectrum, size)[: max_delay + 1]
    sums, squares = (F.pad(track.cumsum(0), (1, 0)) for track in (theirs, theirs.square()))
    window = sums[samples:] - sums[: max_delay + 1]
    spread = squares[samples:] - squares[: max_delay + 1] - window.square() / samples  # of the envelope behind each delay
    delay = int((products / spread.clamp_min(1e-12).sqrt()).argmax())
    return delayed[delay : delay + samples], delay
