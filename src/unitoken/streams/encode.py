"""Audio in, tokens out, as they come."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arithmetic import one_arithmetic
from ..model.encoding import ClipEncoder
from ..model.stream_encoding import StreamEncoder
from ..resample import Resampler, check_rate
from ..token_info import TokenizerInfo
from ..tokens import TokenBundle
from ..waveform import as_waveform
from .slots import Batch, Single


@dataclass
class _Stream:
    resampler: Resampler
    g: Tensor | None
    frames: int = 0  # given back so far


class EncodeBatch(Batch[_Stream]):
    """Encodes many streams at once, each with its own beginning and end; `Tokenizer.stream_encode_batch` makes one.

    The tokens of a stream are those that `Tokenizer.encode` gives for all of its audio, however it was cut and whatever the others are.

    Args:
        encoder: of the codec.
        info: what bundles say of it.
        slots: how many streams there can be at once.
    """

    def __init__(self, encoder: ClipEncoder, info: TokenizerInfo, slots: int) -> None:
        super().__init__(slots)
        self._encoder, self._info, self._config = StreamEncoder(encoder, slots), info, encoder.codec.config

    @property
    def lookahead_samples(self) -> int:
        """Samples at the codec's rate behind a frame's own that must have come before its tokens are finished."""
        return self._encoder.lookahead

    def open(self, *, sample_rate: int | None = None, g: Any = None) -> int:
        """Begin a stream.

        Args:
            sample_rate: Hz of what is pushed; None is the codec's.
            g: global tokens `(num_g,)` of a voice that is known already, for every part; None for those of the stream, in its last part.

        Returns:
            the number of its slot.

        Raises:
            StreamError: if all slots are taken, or the batch is closed.
            AudioError: if the sample rate cannot be resampled.
            TokenError: if `g` is none.
        """
        slot = self._free_slot()
        resampler = Resampler(self._config.sample_rate if sample_rate is None else check_rate(sample_rate), self._config.sample_rate)
        known = None if g is None else self._part(torch.zeros(0), torch.zeros(0), 0, g).g
        self._encoder.open(slot)
        self._open[slot] = _Stream(resampler, known)
        return slot

    def push(self, audio: Mapping[int, Any]) -> dict[int, TokenBundle]:
        """Take the next samples of some streams.

        Args:
            audio: by slot, arrays or tensors of any number of samples, as `Tokenizer.encode` takes them.

        Returns:
            by slot, a bundle of the frames that were finished, maybe none; `g` is None unless it was given.

        Raises:
            AudioError: if samples cannot be used; then none of them was taken.
            StreamError: if there is no such stream.
        """
        states = self._states(audio)
        waves = {slot: as_waveform(samples) for slot, samples in audio.items()}
        for slot, state in states.items():
            self._encoder.push(slot, state.resampler.push(waves[slot]))
        self._run()
        return {slot: self._taken(slot, ends=False) for slot in states}

    def finish(self, slots: Iterable[int]) -> dict[int, TokenBundle]:
        """End some streams and free their slots.

        Returns:
            by slot, a bundle of the frames that were left, with `g`. `TokenBundle.concat` joins it with the parts before.

        Raises:
            StreamError: if there is no such stream.
        """
        states = self._states(slots)
        for slot, state in states.items():
            self._encoder.push(slot, state.resampler.finish(), ends=True)
        self._run()
        parts = {slot: self._taken(slot, ends=True) for slot in states}
        for slot in states:
            self.cancel(slot)
        return parts

    def voice(self, slot: int) -> Tensor:
        """Return the global tokens, int64 `(num_g,)`, of what a stream has brought so far.

        Raises:
            StreamError: if there is no such stream.
        """
        self._state(slot)
        with one_arithmetic(self._encoder.codec.device):
            return self._encoder.voice(slot)

    def _release(self, slot: int) -> None:
        self._encoder.close(slot)

    def _run(self) -> None:
        with one_arithmetic(self._encoder.codec.device):
            self._encoder.run()

    def _taken(self, slot: int, *, ends: bool) -> TokenBundle:
        """Return the whole frames of S and P that are finished, or all that is left."""
        state, coarse = self._open[slot], self._config.hop
        s, p, samples = self._encoder.take(slot)
        if ends:
            g = self.voice(slot) if state.g is None else state.g
            return self._part(s, p, samples - state.frames * coarse, g)
        frames = len(p) * self._config.hop_p // coarse
        state.frames += frames
        return self._part(s, p, frames * coarse, state.g)

    def _part(self, s: Tensor, p: Tensor, samples: int, g: Any) -> TokenBundle:
        numerics = f"{self._encoder.codec.device.type}/float32/torch"
        return TokenBundle(s=s.long(), p=p.long(), g=g, num_samples=samples, info=self._info, numerics=numerics)


class EncodeStream(Single):
    """Encodes one stream; `Tokenizer.stream_encode` makes one. See `EncodeBatch`.

    Args:
        batch: with one slot.
        sample_rate: Hz of what is pushed; None is the codec's.
        g: global tokens of a voice that is known already.
    """

    def __init__(self, batch: EncodeBatch, *, sample_rate: int | None = None, g: Any = None) -> None:
        super().__init__(batch, lambda: batch.open(sample_rate=sample_rate, g=g))
        self._batch = batch

    @property
    def lookahead_samples(self) -> int:
        """See `EncodeBatch.lookahead_samples`."""
        return self._batch.lookahead_samples

    def push(self, audio: Any) -> TokenBundle:
        """Take the next samples, any number of them; return the frames that were finished, maybe none. See `EncodeBatch.push`."""
        slot = self._running()
        return self._batch.push({slot: audio})[slot]

    def finish(self) -> TokenBundle:
        """End the stream; return the frames that were left, with `g`."""
        slot, self._slot = self._running(), None
        return self._batch.finish([slot])[slot]

    def voice(self) -> Tensor:
        """Return the global tokens, int64 `(num_g,)`, of what has come so far."""
        return self._batch.voice(self._running())
