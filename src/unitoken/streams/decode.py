"""Tokens in, audio out, as they come."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arithmetic import one_arithmetic
from ..errors import StreamError, TokenError
from ..model.decoding import ClipDecoder
from ..model.stream_decoding import StreamDecoder
from ..token_info import StreamInfo, TokenizerInfo, as_integers
from ..tokens import TokenBundle
from ..units import frames_for
from .slots import Batch, Single


@dataclass
class _Stream:
    with_p: bool
    s: int = 0  # frames that have come
    p: int = 0


class DecodeBatch(Batch[_Stream]):
    """Decodes many streams at once, each with its own beginning, end and voice; `Tokenizer.stream_decode_batch` makes one.

    The samples of a stream are those that `Tokenizer.decode` gives for all of its tokens, within 1e-5.

    Args:
        decoder: of the codec.
        info: of its streams.
        slots: how many streams there can be at once.
    """

    def __init__(self, decoder: ClipDecoder, info: TokenizerInfo, slots: int) -> None:
        super().__init__(slots)
        with one_arithmetic(decoder.codec.device):
            self._decoder = StreamDecoder(decoder, slots)
        self._info = info

    @property
    def lag_samples(self) -> int:
        """Samples by which what comes back ends before the tokens that have come."""
        return self._decoder.lag

    def open(self, g: Any = None, *, with_p: bool = True) -> int:
        """Begin a stream.

        Args:
            g: global tokens `(num_g,)` of its voice; None for the learnt null input.
            with_p: whether P comes; without it the learnt null input takes its place.

        Returns:
            the number of its slot.

        Raises:
            StreamError: if all slots are taken, or the batch is closed.
            TokenError: if `g` is none.
        """
        slot = self._free_slot()
        empty = torch.zeros(0, dtype=torch.int64)
        voice = TokenBundle(s=empty, p=None, g=g, num_samples=0, info=self._info).g
        with one_arithmetic(self._decoder.codec.device):
            self._decoder.open(slot, voice, with_p=with_p)
        self._open[slot] = _Stream(with_p)
        return slot

    def push(self, tokens: Mapping[int, tuple[Any, Any]]) -> dict[int, Tensor]:
        """Take the next tokens of some streams.

        Args:
            tokens: by slot, `s` and `p`, integers `(frames,)` with one codebook, else `(frames, codebooks)`, of any number of frames each; one of
                them may be ahead of the other. `p` is None in a stream without it.

        Returns:
            by slot, float32 `(samples,)` on the CPU: what is complete, maybe nothing.

        Raises:
            TokenError: if tokens are no integers, out of range or of the wrong shape; then none of them was taken.
            StreamError: if there is no such stream, or P is missing or out of place.
        """
        states = self._states(tokens)
        ready = {slot: self._checked(states[slot], *pair) for slot, pair in tokens.items()}
        for slot, (s, p) in ready.items():
            states[slot].s += len(s)
            states[slot].p += 0 if p is None else len(p)
            self._decoder.push(slot, s, p)
        self._run()
        return {slot: self._decoder.take(slot) for slot in states}

    def finish(self, slots: Iterable[int], num_samples: Mapping[int, int] | None = None) -> dict[int, Tensor]:
        """End some streams and free their slots.

        Args:
            slots: of the streams.
            num_samples: length of a whole stream, if its last frame is a partial one; without it all frames are whole.

        Returns:
            by slot, float32 `(samples,)`: what is left.

        Raises:
            StreamError: if there is no such stream, S and P do not end together, or a length does not fit the frames; then none was ended.
        """
        states = self._states(slots)
        totals = {slot: self._total(state, (num_samples or {}).get(slot)) for slot, state in states.items()}
        for slot, total in totals.items():
            self._decoder.finish(slot, total)
        self._run()
        waves = {slot: self._decoder.take(slot) for slot in states}
        for slot in states:
            self.cancel(slot)
        return waves

    def _release(self, slot: int) -> None:
        self._decoder.close(slot)

    def _run(self) -> None:
        with one_arithmetic(self._decoder.codec.device):
            self._decoder.run()

    def _checked(self, state: _Stream, s: Any, p: Any) -> tuple[Tensor, Tensor | None]:
        if (p is not None) != state.with_p:
            raise StreamError(
                "this stream has no P, but some came; open it with with_p=True"
                if p is not None
                else "P is missing; open the stream with with_p=False"
            )
        return self._tokens("s", s, self._info.s), None if p is None else self._tokens("p", p, self._info.p)

    @staticmethod
    def _tokens(name: str, value: Any, info: StreamInfo) -> Tensor:
        """Return int64 `(frames, codebooks)`."""
        tokens, books = as_integers(name, value), info.num_codebooks
        if tokens.shape[1:] != (() if books == 1 else (books,)) or not tokens.ndim:
            raise TokenError(f"{name} must have the shape {'(frames,)' if books == 1 else f'(frames, {books})'}, got {tuple(tokens.shape)}")
        wrong = tokens[(tokens < 0) | (tokens >= info.codebook_size)]
        if len(wrong):
            raise TokenError(
                f"{name} must hold tokens from 0 to {info.codebook_size - 1}, got {int(wrong[0])}; take a vocabulary's offset off, or let the model "
                "choose among these only"
            )
        return tokens.view(len(tokens), books)

    def _total(self, state: _Stream, num_samples: int | None) -> int:
        """Return the samples of a stream that ends."""
        samples = state.s * self._info.s.hop if num_samples is None else num_samples
        if state.with_p and num_samples is None:
            samples = min(samples, state.p * self._info.p.hop)  # the slower stream's last frame may be a partial one
        frames = {"s": frames_for(samples, self._info.s.hop), "p": frames_for(samples, self._info.p.hop) if state.with_p else 0}
        if (state.s, state.p) != (frames["s"], frames["p"]):
            raise StreamError(
                f"the stream has {state.s} frames of S and {state.p} of P, {samples} samples have {frames['s']} and {frames['p']}; push what is "
                "missing first, or give the num_samples that the frames have"
            )
        return samples


class DecodeStream(Single):
    """Decodes one stream; `Tokenizer.stream_decode` makes one. See `DecodeBatch`.

    Args:
        batch: with one slot.
        g: global tokens of its voice, or None.
        with_p: whether P comes.
    """

    def __init__(self, batch: DecodeBatch, g: Any = None, *, with_p: bool = True) -> None:
        super().__init__(batch, lambda: batch.open(g, with_p=with_p))
        self._batch = batch

    @property
    def lag_samples(self) -> int:
        """See `DecodeBatch.lag_samples`."""
        return self._batch.lag_samples

    def push(self, s: Any, p: Any = None) -> Tensor:
        """Take the next tokens; return float32 `(samples,)`: what is complete, maybe nothing. See `DecodeBatch.push`."""
        slot = self._running()
        return self._batch.push({slot: (s, p)})[slot]

    def finish(self, num_samples: int | None = None) -> Tensor:
        """End the stream; return what is left. See `DecodeBatch.finish`."""
        slot = self._running()
        wave = self._batch.finish([slot], None if num_samples is None else {slot: num_samples})[slot]
        self._slot = None
        return wave
