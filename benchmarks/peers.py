"""Other codecs and tokenizers at their published configurations, with random weights: what they compute does not depend on them.

    pip install snac s3tokenizer vocos einops

EnCodec, DAC, Mimi and X-codec come with transformers. A package that cannot be imported is left out, and why is printed.
"""

import importlib.machinery
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass
class System:
    """What encodes and decodes, one batch of clips of one length at a time.

    Attributes:
        sample_rate: Hz.
        modules: all of it, to count parameters.
        encode: takes float32 `(batch, samples)`.
        decode: takes what `encode` returned, or, without an encoder, seconds and a batch; None decodes nothing.
    """

    sample_rate: int
    modules: list
    encode: Callable | None
    decode: Callable | None


class _Absent(types.ModuleType):
    """A module whose every attribute is another one: for imports of torchaudio whose functions are never called here."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")


class _Finder:
    """Finds torchaudio and what is in it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, _Finder, is_package=True) if name.partition(".")[0] in ("torchaudio", "encodec") else None

    @staticmethod
    def create_module(spec):
        return _Absent(spec.name)

    @staticmethod
    def exec_module(module):
        pass


def without_torchaudio():
    """Let packages import torchaudio (and vocos EnCodec's package) where they cannot be installed: torchaudio has builds for CUDA only here."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)  # last: asked for what nobody else finds


def encodec():
    """EnCodec, 24 kHz, 6 kb/s (Défossez et al., arXiv 2210.13438)."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig()).eval()

    def encode(waves):
        found = model.encode(waves[:, None], bandwidth=6.0)
        return found.audio_codes, found.audio_scales

    return System(24000, [model], encode, lambda codes: model.decode(*codes).audio_values)


def dac():
    """DAC, 16 kHz, 6 kb/s (Kumar et al., arXiv 2306.06546)."""
    from transformers import DacConfig, DacModel

    model = DacModel(DacConfig(downsampling_ratios=[2, 4, 5, 8], n_codebooks=12, sampling_rate=16000)).eval()
    return System(16000, [model], lambda waves: model.encode(waves[:, None]).audio_codes, lambda codes: model.decode(audio_codes=codes).audio_values)


def mimi():
    """Mimi, 24 kHz, 1.1 kb/s (Défossez et al., arXiv 2410.00037)."""
    from transformers import MimiConfig, MimiModel

    model = MimiModel(MimiConfig()).eval()
    return System(
        24000, [model], lambda waves: model.encode(waves[:, None], num_quantizers=8).audio_codes, lambda codes: model.decode(codes).audio_values
    )


def xcodec():
    """X-codec, 16 kHz, 2 kb/s (Ye et al., arXiv 2408.17175)."""
    from transformers import XcodecConfig, XcodecModel

    model = XcodecModel(XcodecConfig()).eval()
    return System(
        16000, [model], lambda waves: model.encode(waves[:, None], bandwidth=2.0).audio_codes, lambda codes: model.decode(codes).audio_values
    )


def snac():
    """SNAC, 24 kHz, 1 kb/s (Siuzdak et al., arXiv 2410.14411)."""
    from snac import SNAC

    model = SNAC(
        sampling_rate=24000,
        encoder_dim=48,
        encoder_rates=[2, 4, 8, 8],
        decoder_dim=1024,
        decoder_rates=[8, 8, 4, 2],
        attn_window_size=None,
        codebook_size=4096,
        codebook_dim=8,
        vq_strides=[4, 2, 1],
        noise=True,
        depthwise=True,
    ).eval()
    return System(24000, [model], lambda waves: model.encode(waves[:, None]), model.decode)


def s3tokenizer():
    """S3 tokenizer v2 of CosyVoice 2, 25 Hz (Du et al., arXiv 2412.10117): an encoder without a decoder."""
    without_torchaudio()
    from s3tokenizer import log_mel_spectrogram
    from s3tokenizer.model_v2 import S3TokenizerV2

    model = S3TokenizerV2("speech_tokenizer_v2_25hz").eval()

    def encode(waves):
        mel = torch.stack([log_mel_spectrogram(wave) for wave in waves])
        return model.quantize(mel, torch.full((len(waves),), mel.shape[2]))

    return System(16000, [model], encode, None)


def vocos():
    """Vocos, 24 kHz (Siuzdak, arXiv 2306.00814): from mel spectra to samples, without an encoder."""
    without_torchaudio()
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8).eval()
    head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center").eval()
    return System(24000, [backbone, head], None, lambda seconds, batch: head(backbone(torch.randn(batch, 100, round(seconds * 24000 / 256)))))


PEERS = {"EnCodec": encodec, "DAC": dac, "Mimi": mimi, "X-codec": xcodec, "SNAC": snac, "S3 tokenizer v2": s3tokenizer, "Vocos": vocos}
