"""Many streams of tokens to audio at once, each with its own beginning, end and voice."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..units import frames_for
from . import windows
from .decoding import ClipDecoder, whole_frames
from .slots import SlotTails, together
from .stage import NO_END, Held
from .synthesis import Synthesis


@dataclass
class DecodeSlot:
    """One stream.

    Attributes:
        s: tokens of S that are not decoded yet.
        p: those of P; None without.
        at: the sample up to which tokens were decoded, negative at first.
        total: samples in all, once that is known.
        found: float32 `(samples,)` each, that nobody has taken yet.
    """

    s: Held
    p: Held | None
    at: int
    total: int | None
    found: list[Tensor]


class StreamDecoder:
    """Decodes streams in the slots of a batch; samples are those of `ClipDecoder` for the whole of each, up to the rounding of float32.

    Args:
        decoder: of the codec.
        slots: how many streams there can be.
    """

    def __init__(self, decoder: ClipDecoder, slots: int) -> None:
        self.decoder, self.codec = decoder, decoder.codec
        self.states = dict[int, DecodeSlot]()
        self._tails = {part: SlotTails(slots) for part in ("f0", "source", "blocks", "wave")}
        self._conditions = {part: value.clone() for part, value in self._synthesis(None, slots).conditions.items()}

    def _synthesis(self, g: Tensor | None, rows: int) -> Synthesis:
        return Synthesis(self.codec, self.decoder.exact, g, rows, "stream")

    def open(self, slot: int, g: Tensor | None, *, with_p: bool) -> None:
        """Begin a stream with global tokens, int64 `(num_g,)`, the vector that they stand for, or None."""
        config = self.codec.config
        s, p = (Held(torch.zeros(0, q.num_codebooks, dtype=torch.int64)) for q in (config.semantic.quantizer, config.residual.quantizer))
        voice = self._synthesis(None if g is None else g[None].to(self.codec.device), 1)
        self.states[slot] = DecodeSlot(s, p if with_p else None, -voice.lead * config.hop, None, [])
        for part, value in voice.conditions.items():
            self._conditions[part][slot] = value[0]
            self._tails[part].clear(slot)
        for part in ("source", "wave"):
            self._tails[part].clear(slot)

    def close(self, slot: int) -> None:
        """Let go of a stream."""
        del self.states[slot]

    def push(self, slot: int, s: Tensor, p: Tensor | None) -> None:
        """Hand over a stream's next tokens, int64 `(frames, codebooks)` each, of the same samples; P for a stream that has it."""
        state = self.states[slot]
        state.s.append(s)
        if state.p is not None and p is not None:
            state.p.append(p)

    def finish(self, slot: int, samples: int) -> None:
        """Say how many samples a stream has in all."""
        self.states[slot].total = samples

    def take(self, slot: int) -> Tensor:
        """Return the samples that nobody has taken yet, float32 `(samples,)`."""
        state = self.states[slot]
        found, state.found = state.found, []
        return torch.cat([torch.zeros(0, dtype=torch.float32), *found])

    @property
    def lag(self) -> int:
        """Samples that the tokens handed over reach beyond those that come back."""
        size = self.codec.config.decoder
        return self.codec.decoder.lag * size.hop + 2 * size.stft_hop

    def run(self) -> None:
        """Compute all that can be computed."""
        while True:
            slots, steps = together({slot: self._steps(state) for slot, state in self.states.items() if state.total != 0}, windows.CORE)
            if not slots:
                return
            self._run({slot: self.states[slot] for slot in slots}, steps)

    def _steps(self, state: DecodeSlot) -> int:
        """Return how many frames of the codec's hop a stream can take: those that are there, or, at its end, until all its samples are found."""
        config = self.codec.config
        if state.total is not None:
            return frames_for(state.total + self.lag - state.at, config.hop)
        come = [held.end * hop for held, hop in ((state.s, config.hop_s), (state.p, config.hop_p)) if held is not None]
        return (min(come) - state.at) // config.hop if min(come) else 0

    def _run(self, states: dict[int, DecodeSlot], steps: int) -> None:
        codec, config, slots = self.codec, self.codec.config, list(states)
        synthesis = self._synthesis(None, len(slots))
        synthesis.conditions = {part: value[slots] for part, value in self._conditions.items()}
        synthesis.tails = {part: tails.take(slots) for part, tails in self._tails.items()}
        tokens = {}
        for name, hop, width in (("s", config.hop_s, config.semantic.quantizer), ("p", config.hop_p, config.residual.quantizer)):
            fine, none = config.hop // hop, Held(torch.zeros(0, width.num_codebooks, dtype=torch.int64))
            held = [getattr(state, name) or none for state in states.values()]
            tokens[name] = torch.stack([one.cut(state.at // hop, steps * fine) for one, state in zip(held, states.values(), strict=True)])
        s, p = synthesis.codewords(tokens["s"].to(codec.device), tokens["p"].to(codec.device))
        with_p = torch.tensor([state.p is not None for state in states.values()], device=codec.device)
        p = torch.where(with_p[:, None, None], p, codec.decoder.null_p)
        lengths = [NO_END if state.total is None else whole_frames(config, state.total, with_p=state.p is not None) for state in states.values()]
        wave, first = synthesis.push(s, p, [state.at for state in states.values()], lengths, ends=False)
        for part, tails in self._tails.items():
            tails.put(slots, synthesis.tails[part])
        wave, origin = wave.cpu(), states[slots[0]].at
        for row, state in enumerate(states.values()):
            begin = first + state.at - origin
            end = begin + wave.shape[1] if state.total is None else min(begin + wave.shape[1], state.total)
            if max(0, begin) < end:
                state.found.append(wave[row, max(0, -begin) : end - begin])
        for state in states.values():
            state.at += steps * config.hop
            state.s.forget(min(state.s.end, state.at // config.hop_s))
            if state.p is not None:
                state.p.forget(min(state.p.end, state.at // config.hop_p))
