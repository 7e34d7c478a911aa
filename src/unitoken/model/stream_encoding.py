"""Many streams of audio to tokens at once, each with its own beginning and end."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..nn.flow import Flow
from ..nn.pooling import Statistics, merged
from . import windows
from .codec import Codec
from .encoding import ClipEncoder
from .reading import codewords_at, computed_again
from .settling import Span
from .slots import SlotTails, together
from .stage import NO_END, Held


@dataclass
class EncodeSlot:
    """One stream.

    Attributes:
        wave: the samples that are still needed.
        s: tokens of S that are still needed.
        total: samples in all, once that is known.
        done: frames of each stream that are finished.
        found: tokens, int64 `(frames, codebooks)` each, that nobody has taken yet.
        statistics: of G, in float64.
    """

    wave: Held
    s: Held
    total: int | None = None
    done: dict[str, int] = field(default_factory=lambda: {"s": 0, "p": 0, "g": 0})
    found: dict[str, list[Tensor]] = field(default_factory=lambda: {"s": [], "p": []})
    statistics: Statistics | None = None


class Lane:
    """One encoder for many streams; a step takes one frame's samples of each, and finishes one frame of each, later ones at first of none.

    Args:
        codec: in float32 or float64.
        stream: `s`, `p` or `g`.
        slots: how many streams there can be.
    """

    def __init__(self, codec: Codec, stream: str, slots: int) -> None:
        self.codec, self.stream, self.hop, self.lag = codec, stream, codec.hop_of(stream), codec.samples_heard(stream).future
        self.tails, self._start = SlotTails(slots), -(-self.lag % self.hop)  # so that a frame is finished with the last sample that it hears
        self.at = [self._start] * slots

    def clear(self, slot: int) -> None:
        """Begin anew."""
        self.at[slot] = self._start
        self.tails.clear(slot)

    def steps(self, slot: int, state: EncodeSlot) -> int:
        """Return how many steps a stream can take: with the samples that are there, or, at its end, until all its frames are finished."""
        if state.total is None:
            return (state.wave.end - self.at[slot]) // self.hop
        return -(-(-(-state.total // self.hop) * self.hop + self.lag - self.at[slot]) // self.hop)

    def run(self, states: dict[int, EncodeSlot], steps: int) -> tuple[Tensor, list[int]]:
        """Take steps; return latents `(streams, steps, dim)` and the number of each stream's first frame, negative before its beginning."""
        slots, size = list(states), steps * self.hop
        x = torch.stack([state.wave.cut(self.at[slot], size) for slot, state in states.items()])
        lengths = [NO_END if state.total is None else -(-state.total // self.hop) * self.hop for state in states.values()]
        flow = Flow([self.at[slot] for slot in slots], lengths, begins=False, ends=False, tails=self.tails.take(slots), lagging=True)
        hears = self.stream == "p" and self.codec.config.p_hears_s
        heard = codewords_at(self.codec, [state.s for state in states.values()]) if hears else None
        latents = self.codec.encode_stream(self.stream, self.codec.own(x), flow, heard)
        self.tails.put(slots, flow.kept)
        for slot in slots:
            self.at[slot] += size
        return latents, flow.firsts


class StreamEncoder:
    """Encodes streams in the slots of a batch; tokens are those of `ClipEncoder` for the whole of each.

    Args:
        encoder: of the codec.
        slots: how many streams there can be.
    """

    def __init__(self, encoder: ClipEncoder, slots: int) -> None:
        self.encoder, self.codec = encoder, encoder.codec
        self.states = dict[int, EncodeSlot]()
        self._lanes = {"s": Lane(self.codec, "s", slots), "g": Lane(encoder.twin, "g", slots), "p": Lane(self.codec, "p", slots)}

    def open(self, slot: int) -> None:
        """Begin a stream."""
        books = self.codec.config.semantic.quantizer.num_codebooks
        empty = torch.zeros(0, books, dtype=torch.int64)
        self.states[slot] = EncodeSlot(Held(torch.zeros(0, dtype=torch.float32)), Held(empty))
        for lane in self._lanes.values():
            lane.clear(slot)

    def close(self, slot: int) -> None:
        """Let go of a stream."""
        del self.states[slot]

    def push(self, slot: int, samples: Tensor, *, ends: bool = False) -> None:
        """Hand over a stream's next samples, float32 `(samples,)` on the CPU; `ends` says that these are the last."""
        state = self.states[slot]
        state.wave.append(samples)
        if ends:
            state.total = state.wave.end

    def run(self) -> None:
        """Compute all that can be computed."""
        for name, lane in self._lanes.items():
            while True:
                ready = {slot: self._steps(name, slot) for slot, state in self.states.items() if state.total != 0}
                slots, steps = together(ready, windows.CORE)
                if not slots:
                    break
                states = {slot: self.states[slot] for slot in slots}
                self._keep(name, states, *lane.run(states, steps))
        for slot, state in self.states.items():
            self._forget(slot, state)

    def take(self, slot: int) -> tuple[Tensor, Tensor, int]:
        """Return the tokens of S and P that nobody has taken yet, those of the same samples only, and the samples that have come so far.

        Returns:
            int64 `(frames,)` with one codebook, else `(frames, codebooks)`, twice; whole frames of the codec's hop unless the stream has ended.
        """
        state, taken = self.states[slot], list[Tensor]()
        done = min(state.done["s"] * self.codec.hop_of("s"), state.done["p"] * self.codec.hop_of("p")) // self.codec.config.hop
        for name in "sp":
            width = getattr(self.codec, f"quantizer_{name}").config.num_codebooks
            tokens = torch.cat([torch.zeros(0, width, dtype=torch.int64), *state.found[name]])
            count = len(tokens)
            if state.total is None:
                count -= state.done[name] - done * self.codec.config.hop // self.codec.hop_of(name)
            state.found[name] = [tokens[count:]]
            taken.append(tokens[:count, 0] if width == 1 else tokens[:count])
        return taken[0], taken[1], state.wave.end

    @property
    def lookahead(self) -> int:
        """Samples behind a frame's own that must have come before its tokens of S and P are finished."""
        s, p = (self.codec.samples_heard(name).future for name in "sp")
        through = self.codec.residual.side_context.future * self.codec.hop_of("s") + s if self.codec.config.p_hears_s else 0
        return max(s, p, through)

    def voice(self, slot: int) -> Tensor:
        """Return the global tokens of what a stream has brought so far, int64 `(num_g,)`."""
        return self.encoder.exact_global_tokens(self.states[slot].statistics)

    def _steps(self, name: str, slot: int) -> int:
        lane, state = self._lanes[name], self.states[slot]
        steps = lane.steps(slot, state)
        complete = state.total is not None and state.s.end * self.codec.config.hop_s >= state.total
        if name == "p" and self.codec.config.p_hears_s and not complete:
            front_end = self.codec.front_end
            size = front_end.config
            beyond = size.window - size.hop - front_end.reach + self.codec.residual.side_future * size.hop
            steps = min(steps, (state.s.end * lane.hop + beyond - lane.at[slot]) // lane.hop)
        return steps

    def _keep(self, name: str, states: dict[int, EncodeSlot], latents: Tensor, firsts: list[int]) -> None:
        """Keep what a lane found: tokens of S and P, moments of G."""
        hop = self._lanes[name].hop
        for row, (state, first) in enumerate(zip(states.values(), firsts, strict=True)):
            end = first + latents.shape[1] if state.total is None else min(first + latents.shape[1], -(-state.total // hop))
            begin = max(0, first)
            if begin >= end:
                continue
            own = latents[row : row + 1, begin - first : end - first]
            state.done[name] = end
            if name == "g":
                state.statistics = merged([state.statistics, self.encoder.twin.moments(own)])
                continue
            again = computed_again(self.encoder, name, state.wave, state.s, begin, state.total)
            (tokens,) = self.encoder.settle(name, own, [Span(0, 0, own.shape[1])], again)
            state.found[name].append(tokens)
            if name == "s":
                state.s.append(tokens)

    def _forget(self, slot: int, state: EncodeSlot) -> None:
        heard = [(state.done[name] - self.codec.frames_heard(name).past) * self.codec.hop_of(name) for name in "sp"]
        state.wave.forget(min(heard + [lane.at[slot] for lane in self._lanes.values()]))
        state.s.forget((state.done["p"] - self.codec.frames_heard("p").past) * self.codec.hop_of("p") // self.codec.hop_of("s"))
