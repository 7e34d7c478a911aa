"""Rows of tokens to waveforms, run after run: F0 and phases in float64, the decoder's blocks, the inverse STFT."""

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..nn.flow import Flow
from ..nn.spectral import overlap_add
from ..units import frames_for
from .codec import Codec
from .decoder import EDGE
from .pitch import make_source

Start = Literal["clip", "piece", "stream"]
"""Where the first run begins: with its clip; anywhere, and what lacks context is left out; or with a stream, and as much comes out as goes in."""


class Pitch64:
    """The decoder's predictor of F0 and voicing in float64: phases add up over seconds, and must not follow the rounding of a layer.

    Args:
        codec: in eval mode.
    """

    def __init__(self, codec: Codec) -> None:
        decoder = codec.decoder
        self.pitch, self.condition = (copy.deepcopy(module).double() for module in (decoder.pitch, decoder.condition))
        self.null_g = decoder.null_g.double()


class Synthesis:
    """Decodes rows of tokens with one voice each; rows of one run have one length.

    Args:
        codec: in eval mode.
        exact: its predictor of F0.
        g: int64 `(batch, num_g)`, or the vectors that they stand for, `(batch, dim)`; None for the learnt null condition.
        batch: rows.
        start: where the first run begins.
    """

    def __init__(self, codec: Codec, exact: Pitch64, g: Tensor | None, batch: int, start: Start = "clip") -> None:
        self.codec, self.exact, self.start = codec, exact, start
        if g is not None and not g.is_floating_point():
            g = codec.quantizer_g.dequantize(g)
        self.conditions = {
            "f0": exact.null_g.expand(batch, -1) if g is None else exact.condition(g.double()),
            "blocks": codec.decoder.conditioning(g, batch),
        }
        self.tails: Mapping[str, Sequence[Tensor]] = {}

    @property
    def lead(self) -> int:
        """Frames of the codec's hop that hold the edge of a clip: frames that sound into it, and that it sounds into."""
        return frames_for(EDGE * self.codec.config.decoder.hop, self.codec.config.hop)

    def codewords(self, s: Tensor, p: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what `push` takes of int64 tokens `(batch, frames, codebooks)`; without P its learnt null input."""
        codec = self.codec
        if p is not None:
            return codec.quantizer_s.dequantize(s), codec.quantizer_p.dequantize(p)
        frames = -(-s.shape[1] * codec.config.hop_s // codec.config.hop_p)
        return codec.quantizer_s.dequantize(s), codec.decoder.null_p.expand(len(s), frames, -1)

    def push(self, s: Tensor, p: Tensor, at: Sequence[int], lengths: Sequence[int], *, ends: bool = True, skip: int = 0) -> tuple[Tensor, int]:
        """Decode the next tokens.

        Args:
            s: codewords `(batch, frames of S, dim)`, any outside the clips.
            p: codewords `(batch, frames of P, dim)`, of the same samples.
            at: the sample at which each row's tokens begin, a multiple of the codec's hop.
            lengths: samples of each row's clip, made up to whole frames of the codec: where in the last one it ends is known at its end only.
            ends: these are the last tokens of all rows. The first and last ones of a clip, or a stream, are `lead` frames beyond it: its edges.
            skip: frames of S at the beginning of pieces that are there for the phase only.

        Returns:
            float32 `(batch, samples)` that are complete, and the number of the first row's first one; before and behind the clip too.
        """
        decoder, size = self.codec.decoder, self.codec.config.decoder
        shifts, tails = [start - at[0] for start in at], dict[str, Sequence[Tensor]]()
        wider = [length + 2 * EDGE * size.hop for length in lengths]  # a clip with its edges, counted from the first edge
        spoken, first = self._spoken(s, p, at, lengths, wider, ends, tails)
        heads, begin = self._heads(s, p, at, lengths, wider, ends, skip, tails)
        before = size.phase_memory + self._near
        last = min(first + max(0, spoken.shape[1] - before - self._near), begin + heads.shape[1])
        start, self.tails = max(first, begin), {**self.tails, **tails}
        if last <= start:
            return heads.new_zeros(len(s), 0), 0
        numbers = torch.tensor([first - before - EDGE + shift // size.hop for shift in shifts], device=s.device)
        source = make_source(self.codec.config, spoken[..., 0], spoken[..., 1], numbers)
        source = source.cut((start - first + before) * size.subframes, (last - start) * size.subframes)
        starts = [start * size.hop + shift for shift in shifts]
        spectrum = decoder.spectrum(heads[:, start - begin : last - begin], Flow(starts, wider, hop=size.hop), source)
        rows = self._flow("wave", starts, wider, size.stft_hop, False)
        pieces = rows.extend(decoder.inverse.pieces(spectrum), EDGE, EDGE)
        self.tails = {**self.tails, "wave": rows.kept}
        wave = overlap_add(pieces, rows.hop) if pieces.shape[1] else heads.new_zeros(len(s), 0)
        return wave, rows.first * rows.hop - EDGE * size.hop

    @property
    def _near(self) -> int:
        """Frames on both sides of a frame that F0 runs through, from frame to frame."""
        return int(self.codec.config.decoder.subframes > 1)

    def _spoken(
        self, s: Tensor, p: Tensor, at: Sequence[int], lengths: Sequence[int], wider: Sequence[int], ends: bool, tails: dict[str, Sequence[Tensor]]
    ) -> tuple[Tensor, int]:
        """Return log-F0 and voice, float64 `(batch, frames, 2)`, of the frames whose source can be made, and of those around them that it takes.

        Returns:
            with it the number of the first frame whose source can be made.
        """
        decoder, size = self.codec.decoder, self.codec.config.decoder
        rows = self._flow("f0", at, lengths, size.hop, ends)
        log_f0, voice = self.exact.pitch(s.double(), p.double(), rows, self.conditions["f0"])
        spoken = rows.cut(torch.stack([log_f0, torch.sigmoid(voice)], -1))
        tails["f0"] = rows.kept
        wait = decoder.lag - decoder.pitch.context.future - self._near  # for the blocks
        rows = self._flow("source", [(rows.first + EDGE) * size.hop + start - at[0] for start in at], wider, size.hop, ends)
        spoken = rows.extend(spoken, size.phase_memory + self._near, self._near + wait)
        tails["source"] = rows.kept
        return spoken[:, : max(0, spoken.shape[1] - wait)], rows.first

    def _heads(
        self,
        s: Tensor,
        p: Tensor,
        at: Sequence[int],
        lengths: Sequence[int],
        wider: Sequence[int],
        ends: bool,
        skip: int,
        tails: dict[str, Sequence[Tensor]],
    ) -> tuple[Tensor, int]:
        """Return what the decoder's blocks say, and the number of the first of these frames."""
        config, decoder = self.codec.config, self.codec.decoder
        rows = Flow([start + skip * config.hop_s for start in at], lengths, hop=config.decoder.hop)
        local = decoder.local(s[:, skip:], p[:, skip * config.hop_s // config.hop_p :], rows)
        rows = self._flow("blocks", [(rows.first + EDGE) * rows.hop + start - at[0] for start in at], wider, rows.hop, ends)
        wait = decoder.lag - decoder.block_future  # for the source
        local = rows.extend(local, 0, wait)
        heads = decoder.heads(local[:, : max(0, local.shape[1] - wait)], rows, self.conditions["blocks"])
        tails["blocks"] = rows.kept
        return heads, rows.first

    def _flow(self, part: str, at: Sequence[int], lengths: Sequence[int], hop: int, ends: bool) -> Flow:
        begins = self.start == "clip" and part != "wave"  # there the edges are what stands before
        return Flow(at, lengths, hop=hop, begins=begins, ends=ends and begins, tails=self.tails.get(part, ()), lagging=self.start == "stream")
