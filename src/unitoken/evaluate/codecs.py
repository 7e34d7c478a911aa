"""What can be evaluated: a protocol, the identity, this package's tokenizers, whole or without a stream, and the files of others."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..audio import load_audio
from ..errors import AudioError, ConfigError
from ..tokens import TokenBundle
from ..units import bits_for

SAMPLE_RATE = 16000


@dataclass(frozen=True, eq=False)
class Roundtrip:
    """One clip, encoded and decoded.

    Attributes:
        waveform: float32 `(samples,)` at 16 kHz, as long as what went in.
        bits: what was sent, without `global_bits`; None where nobody knows.
        bundle: the tokens that were decoded, if the codec has tokens.
        encode_seconds: wall time of encoding.
        decode_seconds: wall time of decoding.
        global_bits: bits sent once for the whole clip, on top of `bits`.
    """

    waveform: Tensor
    bits: int | None
    bundle: TokenBundle | None
    encode_seconds: float
    decode_seconds: float
    global_bits: int = 0


class Codec(Protocol):
    """Something that sends speech through few bits; `name` is its row in the table."""

    name: str

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Encode and decode float32 `(samples,)` at 16 kHz in [-1, 1]; `clip` is its name in the manifest."""
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

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
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

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
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


class Decoded:
    """What a codec that does not run here made of the clips: files in a folder, each named as its clip, with any suffix.

    Args:
        folder: the files; `a/b.wav` of the manifest is `a/b.*` in it.
        bitrate: bits a second, if somebody knows.
        name: the row's name; None takes the folder's.

    Raises:
        ConfigError: if there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], *, bitrate: float | None = None, name: str | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigError(f"no folder of decoded clips at {self.folder}")
        self.bitrate = bitrate
        self.name = name or self.folder.resolve().name
        self.files = {path.relative_to(self.folder).with_suffix(""): path for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Read the decoded clip, cut or filled up with zeros to the original's length; a delay is not taken out.

        Raises:
            AudioError: if there is no file for the clip, or it is more than a quarter of a second longer or shorter.
        """
        path = self.files.get(Path(clip).with_suffix(""))
        if path is None:
            raise AudioError(f"{self.folder} has no decoded version of {clip}; name each file as its clip")
        decoded, _ = load_audio(path, sample_rate=SAMPLE_RATE)
        if abs(len(decoded) - len(waveform)) > SAMPLE_RATE // 4:
            raise AudioError(f"{path} has {len(decoded)} samples at 16 kHz, {clip} has {len(waveform)}; is it another clip?")
        decoded = F.pad(decoded, (0, max(0, len(waveform) - len(decoded))))[: len(waveform)]
        bits = None if self.bitrate is None else round(self.bitrate * len(waveform) / SAMPLE_RATE)
        return Roundtrip(decoded, bits, None, 0.0, 0.0)
