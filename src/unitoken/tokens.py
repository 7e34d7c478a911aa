"""The token bundle: three streams of tokens of one utterance, and what is needed to decode them.

The streams have the paper's letters: `g` global (speaker, timbre, channel), `s` semantic (content), `p` residual (pitch, energy, style).
"""

import contextlib
import dataclasses
import io
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from . import utok
from .errors import TokenError, TokenFileError
from .token_info import StreamInfo, TokenizerInfo, as_integers, check_count, check_text
from .units import bits_for, frame_rate, frames_for
from .utok import FileLike

__all__ = ["StreamInfo", "TokenBundle", "TokenizerInfo"]


@dataclass(frozen=True, eq=False)
class TokenBundle:
    """The tokens of one utterance or of a piece of one.

    Tokens may be given as tensors, NumPy arrays or lists of any integer type; the bundle keeps its own int64 CPU copies.
    A bundle compares by value: tokens, `num_samples` and `info`, not `numerics`, `latents` or `margins`. A bundle without samples is false.

    Attributes:
        s: int64 `(frames_s,)` with one codebook, else `(frames_s, codebooks)`; `frames_s = ceil(num_samples / info.s.hop)`.
        p: int64, as `s` with `info.p.hop`; None: decoding uses the learned null input.
        g: int64 `(num_g,)`; None likewise.
        num_samples: length of the audio at `info.sample_rate`.
        info: the tokenizer that made it.
        numerics: device kind, dtype and backend of the encoding; recorded, never refused.
        latents: continuous frames before quantization by stream name, if asked for; not saved to files, not kept by slices and `concat`.
        margins: how far each latent is from changing each of its tokens, by stream name, float32 in the tokens' shape; if asked for, like latents.

    Raises:
        TokenError: if tokens are no integers, out of range, of the wrong shape, or do not fit `num_samples`.
    """

    s: Tensor
    p: Tensor | None
    g: Tensor | None
    num_samples: int
    info: TokenizerInfo
    numerics: str = "cpu/float32/torch"
    latents: Mapping[str, Tensor] | None = None
    margins: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        """Convert and check all fields."""
        with contextlib.suppress(TypeError):  # the check after it refuses what is no integer
            object.__setattr__(self, "num_samples", operator.index(self.num_samples))
        check_count(self.num_samples, "num_samples", least=0)
        check_text(self.numerics, "numerics")
        for name, shape in self.info.shapes(self.num_samples).items():
            value: object = getattr(self, name)
            if value is not None or name == "s":
                tokens = as_integers(name, value)
                object.__setattr__(self, name, tokens.reshape(shape) if tokens.shape == (0,) and shape[0] == 0 else tokens)
                self._check(name, shape, self.info.sizes[name])

    def check(self) -> None:
        """Do nothing if the tokens are some that can be; saving and decoding call this.

        Raises:
            TokenError: if tokens were changed in place and are out of range, or of another shape, now.
        """
        for name in self._tokens:
            self._check(name, self.info.shapes(self.num_samples)[name], self.info.sizes[name])

    def _check(self, name: str, shape: tuple[int, ...], size: int) -> None:
        """Refuse tokens of another shape or out of range."""
        tokens = self._tokens[name]
        if tokens.shape != shape:
            raise TokenError(
                f"{name} must have the shape {shape}, got {tuple(tokens.shape)}: the bundle has {self.num_samples} samples, "
                f"hops of {self.info.s.hop} (s) and {self.info.p.hop} (p); change the tokens or num_samples"
            )
        wrong = tokens[(tokens < 0) | (tokens >= size)]
        if len(wrong):
            raise TokenError(
                f"{name} must hold tokens from 0 to {size - 1}, got {int(wrong[0])}; encode with this tokenizer, or take a vocabulary's offset off"
            )

    @property
    def _tokens(self) -> dict[str, Tensor]:
        """The streams that are there, in the file's order."""
        return {name: tokens for name, tokens in (("g", self.g), ("s", self.s), ("p", self.p)) if tokens is not None}

    @property
    def frame_rates(self) -> dict[str, Fraction]:
        """Frames a second of the streams `s` and `p`."""
        return {"s": frame_rate(self.info.sample_rate, self.info.s.hop), "p": frame_rate(self.info.sample_rate, self.info.p.hop)}

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.num_samples / self.info.sample_rate

    @property
    def num_bits(self) -> int:
        """Bits of all tokens as packed in a file, without padding, header and checksums."""
        return sum(tokens.numel() * bits_for(self.info.sizes[name]) for name, tokens in self._tokens.items())

    def replace(self, **changes: Any) -> "TokenBundle":
        """Return a copy with some fields changed, such as `bundle.replace(g=other.g)`; latents and margins of a changed stream are left out.

        Raises:
            TokenError: if the fields do not fit together.
            TypeError: if there is no field of that name.
        """
        for field, held in (("latents", self.latents), ("margins", self.margins)):
            if held is not None and field not in changes:
                changes[field] = {name: value for name, value in held.items() if name not in changes}
        return dataclasses.replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        """Compare all tokens, `num_samples` and `info`."""
        if not isinstance(other, TokenBundle):
            return NotImplemented
        if self.num_samples != other.num_samples or self.info != other.info or self._tokens.keys() != other._tokens.keys():
            return False
        return all(torch.equal(tokens, other._tokens[name]) for name, tokens in self._tokens.items())

    def __repr__(self) -> str:
        """Return one line without the tokens."""
        p = "no p" if self.p is None else f"p {len(self.p)} frames"
        g = "no g" if self.g is None else f"g {len(self.g)} tokens"
        return f"TokenBundle({self.seconds:.3f} s by {self.info.name}: s {len(self.s)} frames, {p}, {g})"

    def __len__(self) -> int:
        """Return the number of coarse frames, those of the longer hop; the last may be partial."""
        return frames_for(self.num_samples, self.info.hop)

    def __getitem__(self, frames: slice) -> "TokenBundle":
        """Return the bundle of some coarse frames, with the same `g`; latents and margins are left out.

        Raises:
            TokenError: if `frames` is no slice, or has a step other than 1.
        """
        if not isinstance(frames, slice):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenError(f"a bundle is cut with slices of frames, got [{frames!r}]; for one frame write bundle[3:4]")
        if frames.step not in (None, 1):
            raise TokenError(f"a slice of a bundle takes every frame, got step {frames.step}; leave the step out")
        start, stop, _ = frames.indices(len(self))
        num_samples = max(0, min(stop * self.info.hop, self.num_samples) - start * self.info.hop)

        def cut(tokens: Tensor, hop: int) -> Tensor:
            first = start * (self.info.hop // hop)
            return tokens[first : first + frames_for(num_samples, hop)]

        p = None if self.p is None else cut(self.p, self.info.p.hop)
        return dataclasses.replace(self, s=cut(self.s, self.info.s.hop), p=p, num_samples=num_samples, latents=None, margins=None)

    @classmethod
    def concat(cls, parts: Iterable["TokenBundle"]) -> "TokenBundle":
        """Join consecutive pieces, such as those of a stream; `numerics` that differ are listed, latents and margins are left out.

        Args:
            parts: bundles of one tokenizer; only the last that is not empty may end inside a coarse frame; `p` in all or in none;
                those with a `g` must have the same one, and the result has it.

        Raises:
            TokenError: if there are no parts, or if they do not fit together.
        """
        parts = list(parts)
        if not parts:
            raise TokenError("concat needs at least one bundle, got none")
        info = parts[0].info
        _check_joinable(parts)
        residual = [part.p for part in parts if part.p is not None]
        numerics = dict.fromkeys(name for part in parts for name in part.numerics.split("; "))
        return cls(
            s=torch.cat([part.s for part in parts]),
            p=torch.cat(residual) if residual else None,
            g=next((part.g for part in parts if part.g is not None), None),
            num_samples=sum(part.num_samples for part in parts),
            info=info,
            numerics="; ".join(numerics),
        )

    def save(self, path: FileLike) -> None:
        """Write a `.utok` file; an existing file is replaced once the new one is complete.

        Args:
            path: a path, or a file object open for writing bytes.

        Raises:
            TokenError: if tokens were changed in place to some that cannot be.
            TokenFileError: if it cannot be written.
        """
        self.save_many(path, [self])

    @classmethod
    def load(cls, path: FileLike) -> "TokenBundle":
        """Read a `.utok` file that holds one bundle.

        Args:
            path: a path, or a file object open for reading bytes, read to its end.

        Raises:
            TokenFileError: if it cannot be read, is damaged, cut short, of an unknown version, or holds no bundle or several.
        """
        bundles = cls.load_many(path)
        if len(bundles) != 1:
            raise TokenFileError(f"expected a token file with one bundle, got one with {len(bundles)}; use TokenBundle.load_many")
        return bundles[0]

    @staticmethod
    def save_many(path: FileLike, bundles: Iterable["TokenBundle"]) -> None:
        """Write bundles of one tokenizer to one `.utok` file, taking them one at a time; see `save`.

        Raises:
            TokenError: if they are of different tokenizers, or tokens were changed in place to some that cannot be.
            TokenFileError: if it cannot be written.
        """
        iterator = iter(bundles)
        first = next(iterator, None)
        info = None if first is None else first.info

        def records() -> Iterator[utok.Record]:
            for index, bundle in enumerate(itertools.chain([] if first is None else [first], iterator)):
                if info is not None and bundle.info != info:
                    raise TokenError(f"one file holds bundles of one tokenizer; {_other(info, bundle.info, index)}; write another file for it")
                yield bundle._to_record()

        utok.write(path, info, records())

    @classmethod
    def load_many(cls, path: FileLike) -> list["TokenBundle"]:
        """Read all bundles of a `.utok` file, in order; see `load`.

        Raises:
            TokenFileError: if it cannot be read, is damaged, cut short, or of an unknown version.
        """
        info, records = utok.read(path)
        return [] if info is None else [cls._from_record(info, record) for record in records]

    def to_bytes(self) -> bytes:
        """Return the bytes of the `.utok` file of this bundle."""
        stream = io.BytesIO()
        self.save(stream)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "TokenBundle":
        """Read what `to_bytes` gave.

        Raises:
            TokenFileError: as `load`.
        """
        return cls.load(io.BytesIO(data))

    def _to_record(self) -> utok.Record:
        self.check()
        return utok.Record(self.num_samples, self.numerics, {name: tokens.numpy() for name, tokens in self._tokens.items()})

    @classmethod
    def _from_record(cls, info: TokenizerInfo, record: utok.Record) -> "TokenBundle":
        tokens = {name: torch.from_numpy(array) for name, array in record.tokens.items()}
        return cls(tokens["s"], tokens.get("p"), tokens.get("g"), record.num_samples, info, record.numerics)


def _check_joinable(parts: Sequence[TokenBundle]) -> None:
    """Refuse parts that `concat` cannot join without losing or moving something."""
    first, total = parts[0], 0
    voice = next((part.g for part in parts if part.g is not None), None)
    for index, part in enumerate(parts):
        if part.info != first.info:
            raise TokenError(f"concat joins bundles of one tokenizer; {_other(first.info, part.info, index)}; encode them with one")
        if (part.p is None) != (first.p is None):
            raise TokenError(f"concat needs p in all parts or in none; part {index} differs from part 0; drop it with replace(p=None)")
        if part.g is not None and voice is not None and not torch.equal(part.g, voice):
            raise TokenError(f"concat needs one g, part {index} has another than an earlier part; set it with replace(g=...), or to None")
        if part.num_samples and total % first.info.hop:
            raise TokenError(
                f"only the last part may end inside a frame; those before part {index} have {total} samples, no multiple of {first.info.hop}; "
                "cut them to whole frames with a slice"
            )
        total += part.num_samples


def _other(ours: TokenizerInfo, theirs: TokenizerInfo, index: int) -> str:
    return f"bundle {index} is of {theirs.name} ({theirs.fingerprint:.12}), bundle 0 of {ours.name} ({ours.fingerprint:.12})"
