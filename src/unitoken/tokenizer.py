"""The tokenizer: audio in any form to token bundles, and back."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from .audio import Source, load_audio
from .config import CodecConfig
from .errors import AudioError, ModelError, TokenError
from .hub import Stored, load_into, load_stored, save_stored
from .model.codec import Codec
from .model.decoding import Tokens, decode_clips
from .model.encoding import ClipEncoder, Encoded
from .resample import check_rate, resample
from .token_info import StreamInfo, TokenizerInfo
from .tokens import TokenBundle
from .waveform import as_waveform

Audio = Source | np.ndarray[Any, Any] | Tensor
"""One clip: a file (path, bytes or file object), an array or a tensor."""


class Tokenizer:
    """Encodes speech into global, semantic and residual tokens, and decodes them.

    Build one with `Tokenizer.from_pretrained`. A clip's tokens depend on its weights and configuration alone: they are the same alone, in any
    batch, in any order and on any number of threads. Decoding twice gives the same samples.

    Args:
        stored: configuration, weights and fingerprint.
        device: where to compute: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        ModelError: if the weights do not fit the configuration, or the device cannot be used.
    """

    def __init__(self, stored: Stored, device: str | torch.device = "cpu") -> None:
        codec = Codec(stored.config)
        load_into(codec, stored)
        try:
            self._codec = codec.eval().requires_grad_(False).to(device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"cannot use the device {str(device)!r}: {error}; device='cpu' works everywhere") from error
        self._stored = replace(stored, state={})
        self._dtype = torch.float16 if any(value.dtype == torch.float16 for value in stored.state.values()) else torch.float32
        self._device = next(self._codec.parameters()).device
        self._encoder = ClipEncoder(self._codec)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        local_files_only: bool = False,
    ) -> "Tokenizer":
        """Load a tokenizer.

        Args:
            name_or_path: a packaged model (see `available_models`), a folder, or a Hub repository `org/name`; None is the default model,
                which lies inside the package and needs no network.
            revision: branch, tag or commit of a Hub repository.
            device: where to compute.
            local_files_only: take a Hub repository from the local cache, without network.

        Raises:
            ModelError: if there is no such model, a file is missing, its hash is wrong, or the device cannot be used.
            ConfigError: if the stored configuration cannot be built.
        """
        return cls(load_stored(name_or_path, revision=revision, local_files_only=local_files_only), device)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> str:
        """Write the folder that `from_pretrained` reads, and return its fingerprint, which is this tokenizer's own.

        Raises:
            ModelError: if the folder cannot be written.
        """
        return save_stored(folder, self.config, self._codec.state_dict(), dtype=self._dtype, codec=self._stored.codec)

    @overload
    def encode(self, audio: Audio, *, sample_rate: int | None = None, latents: bool = False) -> TokenBundle: ...
    @overload
    def encode(self, audio: Sequence[Audio], *, sample_rate: int | None = None, latents: bool = False) -> list[TokenBundle]: ...

    def encode(self, audio: Audio | Sequence[Audio], *, sample_rate: int | None = None, latents: bool = False) -> TokenBundle | list[TokenBundle]:
        """Encode one clip, or a list of clips of any lengths.

        Args:
            audio: a path, the bytes of an audio file, or a file object; or a NumPy array or torch tensor on any device, `(samples,)` or
                `(channels, samples)` with at most 8 channels, floating in [-1, 1] or PCM (int16, int32, uint8). Channels are averaged:
                clips of a batch belong in a list or tuple, which gives a list.
            sample_rate: Hz; needed with arrays, refused with files, which know their own.
            latents: also keep the continuous frames before quantization in `bundle.latents`: float32 `s` and `p` `(frames, dim)`,
                `g` `(dim,)`.

        Returns:
            A bundle with `num_samples = ceil(samples * tok.sample_rate / sample_rate)` and `ceil(num_samples / hop)` frames, or a list of
            bundles in the order of the input.

        Raises:
            AudioError: if audio is not finite, of the wrong shape or type, cannot be read, or if `sample_rate` is missing or out of place.
        """
        clips = [self._waveform(item, sample_rate) for item in _items(audio)]
        with _one_arithmetic(self._device):
            bundles = [self._bundle(encoded, clip, latents) for encoded, clip in zip(self._encoder.encode(clips), clips, strict=True)]
        return bundles if isinstance(audio, (list, tuple)) else bundles[0]

    def encode_global(self, audio: Audio | Sequence[Audio], *, sample_rate: int | None = None) -> Tensor:
        """Return the global tokens, int64 `(num_g,)`, of one voice from one reference or several.

        Args:
            audio: what `encode` takes; the references of a list are heard one after the other.
            sample_rate: as for `encode`.

        Raises:
            AudioError: as `encode`.
        """
        clips = [self._waveform(item, sample_rate) for item in _items(audio)]
        with _one_arithmetic(self._device):
            parts = [encoded.statistics for encoded in self._encoder.encode(clips)]
            return self._encoder.global_tokens(clips, [part for part in parts if part is not None])[0]

    @overload
    def decode(self, bundle: TokenBundle, *, force: bool = False, quantized_g: bool = True) -> Tensor: ...
    @overload
    def decode(self, bundle: Sequence[TokenBundle], *, force: bool = False, quantized_g: bool = True) -> list[Tensor]: ...

    def decode(self, bundle: TokenBundle | Sequence[TokenBundle], *, force: bool = False, quantized_g: bool = True) -> Tensor | list[Tensor]:
        """Decode one bundle, or a list of bundles.

        Args:
            bundle: tokens; `g` and `p` may be None, then learnt null inputs take their place.
            force: decode bundles of another tokenizer too, if the shapes of their streams are the same.
            quantized_g: False takes the voice from `bundle.latents["g"]` (`encode(..., latents=True)`) instead of `g`: as it is before it is
                quantized.

        Returns:
            float32 `(num_samples,)` on the CPU at `tok.sample_rate`, about [-1, 1], or a list of these in the order of the input.

        Raises:
            TokenError: if a bundle is another tokenizer's, its tokens were changed to some that cannot be, or it lacks the latent asked for.
        """
        bundles: list[TokenBundle] = _items(bundle)
        clips = [self._tokens(item, force) for item in bundles]
        if not quantized_g:
            clips = [replace(clip, g=self._voice(item)) for clip, item in zip(clips, bundles, strict=True)]
        with _one_arithmetic(self._device):
            waveforms = decode_clips(self._codec, clips)
        return waveforms if isinstance(bundle, (list, tuple)) else waveforms[0]

    def codewords(self, stream: str) -> Tensor:
        """Return a stream's codewords, float32 `(codebooks, codebook_size, dim)`: for instance as embeddings for a language model.

        Args:
            stream: `g`, `s` or `p`.

        Raises:
            TokenError: if there is no such stream.
        """
        quantizers = {"g": self._codec.quantizer_g, "s": self._codec.quantizer_s, "p": self._codec.quantizer_p}
        if stream not in quantizers:
            raise TokenError(f"unknown stream {stream!r}; the streams are g, s and p")
        return quantizers[stream].codewords().detach().cpu().clone()

    @property
    def config(self) -> CodecConfig:
        """The codec's configuration."""
        return self._codec.config

    @property
    def sample_rate(self) -> int:
        """Hz, of what `decode` returns."""
        return self.config.sample_rate

    @property
    def hop(self) -> int:
        """Samples of one frame of the bundle: of the slower of S and P."""
        return self.config.hop

    @property
    def frame_rate(self) -> Fraction:
        """Frames of the bundle a second."""
        return Fraction(self.sample_rate, self.hop)

    @property
    def bitrate(self) -> Fraction:
        """Bits a second of S and P; `config.global_bits` come on top, once an utterance."""
        return self.config.bitrate

    @property
    def fingerprint(self) -> str:
        """32 hex digits that stand for weights, configuration and format version: they decide what may be decoded."""
        return self._stored.fingerprint

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._device

    @property
    def encode_context_frames(self) -> tuple[int, int]:
        """Frames before and after a piece of audio that its tokens depend on."""
        context = self._codec.encode_context_frames
        return context.past, context.future

    @property
    def decode_context_frames(self) -> tuple[int, int]:
        """Frames before and after a piece of a bundle that its samples depend on."""
        context = self._codec.decode_context_frames
        return context.past, context.future

    @property
    def info(self) -> TokenizerInfo:
        """What a bundle says of this tokenizer."""
        config = self.config
        s, p, g = config.semantic.quantizer, config.residual.quantizer, config.global_.quantizer
        return TokenizerInfo(
            name=config.name,
            fingerprint=self.fingerprint,
            sample_rate=config.sample_rate,
            s=StreamInfo(config.hop_s, s.num_codebooks, s.codebook_size),
            p=StreamInfo(config.hop_p, p.num_codebooks, p.codebook_size),
            num_g=g.num_codebooks,
            g_size=g.codebook_size,
            code_licence=config.code_licence,
            weights_licence=config.weights_licence,
        )

    def __repr__(self) -> str:
        """Return the model's name, rates and device."""
        return (
            f"Tokenizer({self.config.name}: {self.sample_rate} Hz, {float(self.frame_rate):g} frames/s, {float(self.bitrate):g} b/s, {self._device})"
        )

    def _waveform(self, audio: Any, sample_rate: int | None) -> Tensor:
        """Return float32 `(samples,)` at the codec's rate of any single input."""
        if isinstance(audio, (str, os.PathLike, bytes)) or hasattr(audio, "read"):
            if sample_rate is not None:
                raise AudioError(f"sample_rate={sample_rate} was given with an audio file, which knows its own rate; leave it out")
            return load_audio(audio, sample_rate=self.sample_rate)[0]
        waveform = as_waveform(audio)
        if sample_rate is None:
            raise AudioError(f"an array of {len(waveform)} samples has no sample rate; give it: encode(audio, sample_rate=16000)")
        return resample(waveform, check_rate(sample_rate), self.sample_rate)

    def _bundle(self, encoded: Encoded, clip: Tensor, latents: bool) -> TokenBundle:
        g, g_latent = self._encoder.global_tokens([clip], [] if encoded.statistics is None else [encoded.statistics])
        kept = {"s": encoded.s_latent, "p": encoded.p_latent, "g": g_latent} if latents else None
        s, p = (tokens[:, 0] if tokens.shape[1] == 1 else tokens for tokens in (encoded.s, encoded.p))
        return TokenBundle(s=s, p=p, g=g, num_samples=len(clip), info=self.info, numerics=f"{self._device.type}/float32/torch", latents=kept)

    def _tokens(self, bundle: TokenBundle, force: bool) -> Tokens:
        if not isinstance(bundle, TokenBundle):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenError(f"expected a TokenBundle or a list of them, got {type(bundle).__name__}; a file is read with TokenBundle.load")
        bundle.check()
        ours, theirs = self.info, bundle.info
        if theirs.fingerprint != ours.fingerprint and not force:
            raise TokenError(
                f"this bundle was made by {theirs.name} ({theirs.fingerprint[:8]}), this tokenizer is {ours.name} ({ours.fingerprint[:8]}): "
                "its tokens mean something else here; load the tokenizer that made it, or pass force=True to decode it all the same"
            )
        shapes = [(info.sample_rate, info.s, info.p, info.num_g, info.g_size) for info in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise TokenError(
                f"the streams of this bundle ({theirs.name}) have other rates or sizes than {ours.name}'s; it cannot be decoded even by force"
            )
        s = bundle.s.view(len(bundle.s), ours.s.num_codebooks)
        p = None if bundle.p is None else bundle.p.view(len(bundle.p), ours.p.num_codebooks)
        return Tokens(s, p, bundle.g, bundle.num_samples)

    def _voice(self, bundle: TokenBundle) -> Tensor:
        """Return the vector that a bundle's global tokens stand for, float32 `(dim,)`, from its latents."""
        latent, dim = (bundle.latents or {}).get("g"), self.config.global_.quantizer.dim
        if latent is None or latent.shape != (dim,):
            given = "none" if latent is None else f"one of the shape {tuple(latent.shape)}"
            raise TokenError(f"quantized_g=False needs the bundle's latent of g, ({dim},), got {given}; encode with latents=True")
        with torch.no_grad():
            return self._codec.quantizer_g.unquantized(latent.to(self._device)).cpu()


@contextmanager
def _one_arithmetic(device: torch.device) -> Generator[None]:
    """Compute without gradients in full float32, whatever the caller has set; his settings are back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _items(audio: Any) -> list[Any]:
    return list(audio) if isinstance(audio, (list, tuple)) else [audio]
