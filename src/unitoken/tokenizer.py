"""The tokenizer: audio in any form to token bundles, and back."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, overload

import torch
from torch import Tensor

from .accept import accepted, info_of, voice_latent
from .arithmetic import one_arithmetic
from .clips import Audio, Blocks, clip_blocks
from .config import CodecConfig
from .errors import ModelError, TokenError
from .hub import Stored, build_codec, load_stored, save_stored
from .model.compiled import compile_parts
from .model.decoding import ClipDecoder, Tokens
from .model.encoding import ClipEncoder, Encoded
from .model.windows import CORE
from .nn.linear import lay_out
from .streams import DecodeBatch, DecodeStream, EncodeBatch, EncodeStream
from .token_info import TokenizerInfo
from .tokens import TokenBundle


class Tokenizer:
    """Encodes speech into global, semantic and residual tokens, and decodes them.

    Build one with `Tokenizer.from_pretrained`. A clip's tokens depend on its weights and configuration alone: they are the same alone, in any
    batch, in any order and on any number of threads. Decoding twice gives the same samples.

    Args:
        stored: configuration, weights and fingerprint.
        device: where to compute: `cpu`, `cuda`, `cuda:1`, ...
        compile: compile what can be, by `torch.compile`: the first calls take minutes, later ones less time. Tokens stay what they are.

    Raises:
        ModelError: if the weights do not fit the configuration, or the device cannot be used.
    """

    def __init__(self, stored: Stored, device: str | torch.device = "cpu", *, compile: bool = False) -> None:
        codec = build_codec(stored)
        try:
            self._codec = codec.eval().requires_grad_(False).to(device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"cannot use the device {str(device)!r}: {error}; device='cpu' works everywhere") from error
        if codec.device.type == "cpu":
            lay_out(codec)
        if compile:
            compile_parts(codec)
        self._stored = replace(stored, state={})
        self._dtype = stored.dtype
        self._device = next(self._codec.parameters()).device
        self._encoder, self._decoder = ClipEncoder(self._codec), ClipDecoder(self._codec)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        local_files_only: bool = False,
        compile: bool = False,
    ) -> "Tokenizer":
        """Load a tokenizer.

        Args:
            name_or_path: a packaged model (see `available_models`), a folder, or a Hub repository `org/name`; None is the default model,
                which lies inside the package and needs no network.
            revision: branch, tag or commit of a Hub repository.
            device: where to compute.
            local_files_only: take a Hub repository from the local cache, without network.
            compile: compile what can be, see the class.

        Raises:
            ModelError: if there is no such model, a file is missing, its hash is wrong, or the device cannot be used.
            ConfigError: if the stored configuration cannot be built.
        """
        return cls(load_stored(name_or_path, revision=revision, local_files_only=local_files_only), device, compile=compile)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> str:
        """Write the folder that `from_pretrained` reads, and return its fingerprint, which is this tokenizer's own.

        Raises:
            ModelError: if the folder cannot be written.
        """
        return save_stored(folder, self.config, self._codec.state_dict(), dtype=self._dtype, codec=self._stored.codec, decodes=self._stored.decodes)

    @overload
    def encode(self, audio: Audio, *, sample_rate: int | None = None, latents: bool = False, margins: bool = False) -> TokenBundle: ...
    @overload
    def encode(
        self, audio: Sequence[Audio], *, sample_rate: int | None = None, latents: bool = False, margins: bool = False
    ) -> list[TokenBundle]: ...

    def encode(
        self, audio: Audio | Sequence[Audio], *, sample_rate: int | None = None, latents: bool = False, margins: bool = False
    ) -> TokenBundle | list[TokenBundle]:
        """Encode one clip, or a list of clips of any lengths.

        Args:
            audio: a path, the bytes of an audio file, a file object, or an `AudioSpan` of one; or a NumPy array or torch tensor on any
                device, `(samples,)` or `(channels, samples)` with at most 8 channels, floating in [-1, 1] or PCM (int16, int32, uint8).
                Channels are averaged: clips of a batch belong in a list or tuple, which gives a list.
            sample_rate: Hz; needed with arrays, refused with files, which know their own.
            latents: also keep the continuous frames before quantization in `bundle.latents`: float32 `s` and `p` `(frames, dim)`,
                `g` `(dim,)`.
            margins: also keep in `bundle.margins`, float32 in the tokens' shape, how long (L2) the shortest move of each latent is that changes
                the token: for codewords `(d_k^2 - d^2) / (2 |c_k - c|)` to the nearest border, for FSQ the way to the nearest rounding border, for
                several codebooks each given those before it.

        Returns:
            A bundle with `num_samples = ceil(samples * tok.sample_rate / sample_rate)` and `ceil(num_samples / hop)` frames, or a list of
            bundles in the order of the input.

        Raises:
            AudioError: if audio is not finite, of the wrong shape or type, cannot be read, or if `sample_rate` is missing or out of place.
        """
        clips = [self._blocks(item, sample_rate) for item in _items(audio)]
        with one_arithmetic(self._device):
            encoded = self._encoder.encode(clips, latents=latents or margins)
            bundles = [self._bundle(one, clip, latents, margins) for one, clip in zip(encoded, clips, strict=True)]
        return bundles if isinstance(audio, (list, tuple)) else bundles[0]

    def encode_global(self, audio: Audio | Sequence[Audio], *, sample_rate: int | None = None) -> Tensor:
        """Return the global tokens, int64 `(num_g,)`, of one voice from one reference or several.

        Args:
            audio: what `encode` takes; the references of a list are heard one after the other.
            sample_rate: as for `encode`.

        Raises:
            AudioError: as `encode`.
        """
        clips = [self._blocks(item, sample_rate) for item in _items(audio)]
        with one_arithmetic(self._device):
            return self._encoder.global_tokens(clips, [self._encoder.statistics(clip) for clip in clips])[0]

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
        clips = [self._clip(item, force, quantized_g) for item in _items(bundle)]
        with one_arithmetic(self._device):
            waveforms = self._decoder.decode(clips)
        return waveforms if isinstance(bundle, (list, tuple)) else waveforms[0]

    def decode_blocks(self, bundle: TokenBundle, *, force: bool = False, quantized_g: bool = True) -> Iterator[Tensor]:
        """Decode one bundle of any length in bounded memory.

        Args:
            bundle: as for `decode`.
            force: as for `decode`.
            quantized_g: as for `decode`.

        Returns:
            An iterator of float32 `(samples,)` on the CPU of about 10 s each; one after another they are what `decode` returns, within 1e-5.

        Raises:
            TokenError: as `decode`.
        """
        clip = self._clip(bundle, force, quantized_g)

        def blocks() -> Iterator[Tensor]:
            pieces = self._decoder.blocks(clip)
            while True:
                with one_arithmetic(self._device):  # not while the caller has the block
                    piece = next(pieces, None)
                if piece is None:
                    return
                yield piece

        return blocks()

    def stream_encode(self, *, sample_rate: int | None = None, g: Any = None) -> EncodeStream:
        """Begin to encode a stream: `push` any number of samples, get the frames that they finish, and at the end `finish`.

        Args:
            sample_rate: Hz of what is pushed; None is `tok.sample_rate`.
            g: global tokens `(num_g,)` of a voice that is known already; None: those of the stream, in its last part.

        Raises:
            AudioError: if the sample rate cannot be resampled.
            TokenError: if `g` is none.
        """
        return EncodeStream(self.stream_encode_batch(1), sample_rate=sample_rate, g=g)

    def stream_encode_batch(self, slots: int) -> EncodeBatch:
        """Begin to encode up to so many streams at once, each with its own beginning and end.

        Raises:
            StreamError: if `slots` is no positive number.
        """
        return EncodeBatch(self._encoder, self.info, slots)

    def stream_decode(self, g: Any = None, *, with_p: bool = True) -> DecodeStream:
        """Begin to decode a stream: `push` tokens as they come, get the samples that they complete, and at the end `finish`.

        Args:
            g: global tokens `(num_g,)` of its voice; None for the learnt null input.
            with_p: whether P comes; without it the learnt null input takes its place.

        Raises:
            TokenError: if `g` is none.
        """
        return DecodeStream(self.stream_decode_batch(1), g, with_p=with_p)

    def stream_decode_batch(self, slots: int) -> DecodeBatch:
        """Begin to decode up to so many streams at once, each with its own beginning, end and voice.

        Raises:
            StreamError: if `slots` is no positive number.
        """
        return DecodeBatch(self._decoder, self.info, slots)

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
    def decodes(self) -> tuple[str, ...]:
        """Fingerprints of the tokenizers whose bundles it decodes: its own, and those that it differs from in nothing but its decoder."""
        return (self.fingerprint, *self._stored.decodes)

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
        return info_of(self.config, self.fingerprint)

    @property
    def numerics(self) -> str:
        """What bundles say of how they were encoded: device kind, dtype and backend."""
        return f"{self._device.type}/float32/torch"

    def __repr__(self) -> str:
        """Return the model's name, rates and device."""
        return (
            f"Tokenizer({self.config.name}: {self.sample_rate} Hz, {float(self.frame_rate):g} frames/s, {float(self.bitrate):g} b/s, {self._device})"
        )

    def _blocks(self, audio: Any, sample_rate: int | None) -> Blocks:
        """Return what gives a single input of any kind in blocks, at the codec's rate."""
        return clip_blocks(audio, sample_rate, self.sample_rate, CORE * self.hop)

    def _bundle(self, encoded: Encoded, clip: Blocks, latents: bool, margins: bool) -> TokenBundle:
        g, g_latent = self._encoder.global_tokens([clip], [encoded.statistics])
        found = {"s": (encoded.s, encoded.s_latent), "p": (encoded.p, encoded.p_latent), "g": (g, g_latent)}
        tokens = {name: own[:, 0] if own.ndim == 2 and own.shape[1] == 1 else own for name, (own, _) in found.items()}
        frames = {name: latent for name, (_, latent) in found.items() if latent is not None}
        ways = {name: self._encoder.margins(name, found[name][0], latent).view(tokens[name].shape) for name, latent in frames.items() if margins}
        return TokenBundle(
            **tokens,
            num_samples=encoded.samples,
            info=self.info,
            numerics=self.numerics,
            latents=frames if latents else None,
            margins=ways if margins else None,
        )

    def _clip(self, bundle: TokenBundle, force: bool, quantized_g: bool) -> Tokens:
        clip = accepted(bundle, self.info, self.decodes, force=force)
        if quantized_g:
            return clip
        latent = voice_latent(bundle, self.config.global_.quantizer.dim).to(self._device)
        with torch.no_grad():
            return replace(clip, g=self._codec.quantizer_g.unquantized(latent).cpu())


def _items(audio: Any) -> list[Any]:
    return list(audio) if isinstance(audio, (list, tuple)) else [audio]
