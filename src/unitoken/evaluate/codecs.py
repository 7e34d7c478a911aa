"""What can be evaluated: a protocol, the identity, this package's tokenizers, and the command-line codec Codec2 as a baseline."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import resample
from ..errors import ConfigError, MissingDependencyError
from ..tokens import TokenBundle
from ..units import bits_for, frames_for

SAMPLE_RATE = 16000


@dataclass(frozen=True, eq=False)
class Roundtrip:
    """One clip, encoded and decoded.

    Attributes:
        waveform: float32 `(samples,)` at 16 kHz, as long as what went in.
        bits: what was sent, without `global_bits`.
        bundle: the tokens that were decoded, if the codec has tokens.
        encode_seconds: wall time of encoding.
        decode_seconds: wall time of decoding.
        global_bits: bits sent once for the whole clip, on top of `bits`.
    """

    waveform: Tensor
    bits: int
    bundle: TokenBundle | None
    encode_seconds: float
    decode_seconds: float
    global_bits: int = 0


class Codec(Protocol):
    """Something that sends speech through few bits; `name` is its row in the table."""

    name: str

    def roundtrip(self, waveform: Tensor) -> Roundtrip:
        """Encode and decode float32 `(samples,)` at 16 kHz in [-1, 1]."""
        ...


class SpeechTokenizer(Protocol):
    """The part of `unitoken.Tokenizer` that evaluation uses."""

    def encode(self, audio: Tensor, /, *, sample_rate: int) -> TokenBundle:
        """Return the tokens of float32 `(samples,)`."""
        ...

    def decode(self, bundle: TokenBundle, /) -> Tensor:
        """Return float32 `(samples,)` at 16 kHz."""
        ...


class Original:
    """The identity at 16 bits a sample: the ceiling of every figure."""

    name = "original"

    def roundtrip(self, waveform: Tensor) -> Roundtrip:
        """Return the samples themselves."""
        return Roundtrip(waveform, 16 * len(waveform), None, 0.0, 0.0)


class TokenizerCodec:
    """A tokenizer as a codec, whole or with a stream taken away, to show what each stream carries.

    Args:
        tokenizer: a `unitoken.Tokenizer`, or anything with its `encode` and `decode`.
        drop_p: decode without the residual stream.
        drop_g: decode without the global tokens.
        shuffle_s_seed: put each clip's semantic frames into a random order before decoding, drawn from this seed; None leaves them.
        name: the row's name; None makes one from the settings.
    """

    def __init__(
        self, tokenizer: SpeechTokenizer, drop_p: bool = False, drop_g: bool = False, shuffle_s_seed: int | None = None, *, name: str | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.drop_p, self.drop_g, self.shuffle_s_seed = drop_p, drop_g, shuffle_s_seed
        streams = ("shuffled S" if shuffle_s_seed is not None else "S") + ("" if drop_g else "+G") + ("" if drop_p else "+P")
        self.name = name or f"unitoken {streams}"

    def roundtrip(self, waveform: Tensor) -> Roundtrip:
        """Encode, take away, decode."""
        start = time.perf_counter()
        bundle = self.tokenizer.encode(waveform, sample_rate=SAMPLE_RATE)
        encoded = time.perf_counter()
        bundle = self._changed(bundle)
        changed = time.perf_counter()
        decoded = self.tokenizer.decode(bundle)
        end = time.perf_counter()
        global_bits = 0 if bundle.g is None else bundle.info.num_g * bits_for(bundle.info.g_size)
        return Roundtrip(decoded, bundle.num_bits - global_bits, bundle, encoded - start, end - changed, global_bits)

    def _changed(self, bundle: TokenBundle) -> TokenBundle:
        if self.drop_p:
            bundle = bundle.replace(p=None)
        if self.drop_g:
            bundle = bundle.replace(g=None)
        if self.shuffle_s_seed is not None:
            order = torch.randperm(len(bundle.s), generator=torch.Generator().manual_seed(self.shuffle_s_seed))
            bundle = bundle.replace(s=bundle.s[order])
        return bundle


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

    def roundtrip(self, waveform: Tensor) -> Roundtrip:
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
        payload = self._run("c2enc", (narrow.clamp(-1, 1) * 32767).round().short().numpy().astype("<i2").tobytes())
        encoded = time.perf_counter()
        pcm = torch.frombuffer(bytearray(self._run("c2dec", payload)), dtype=torch.int16)
        decoded, _ = align(waveform, resample(pcm.float() / 32768, 8000, SAMPLE_RATE))
        return Roundtrip(decoded, frames * frame.bits, None, encoded - start, time.perf_counter() - encoded)

    def _run(self, program: str, data: bytes) -> bytes:
        path = shutil.which(program)
        if path is None:
            raise MissingDependencyError(
                f"Codec2 needs the programs c2enc and c2dec, {program} is not installed; on Debian or Ubuntu: apt install codec2"
            )
        return subprocess.run([path, self.mode, "-", "-"], input=data, capture_output=True, check=True).stdout  # noqa: S603 - a fixed program with a checked mode


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
