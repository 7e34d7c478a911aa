"""Latents to tokens that no rounding decides on.

A token is what float64 arithmetic says. Latents are computed in float32; a frame whose latent is so near the border of its codeword's cell that
float32's errors could take it across is computed again in float64, alone with its context (`docs/design/0002-exactness.md`).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..nn.flow import Flow
from ..nn.quantize import Quantizer
from .codec import Codec
from .encoder import Heard
from .stage import Held
from .windows import few

ROUNDING = 128 * torch.finfo(torch.float32).eps
"""Bound of a latent's error in float32, as a share of its quantizer's scale; what was measured stays below two fifths of it."""
Again = Callable[[int, int, int], Tensor]
"""Gives the float64 latents, `(frames, dim)`, of a span, from one of its frames to another."""


@dataclass(frozen=True)
class Span:
    """Latents of one clip.

    Attributes:
        row: of a batch.
        first: of the frames.
        count: of frames.
    """

    row: int
    first: int
    count: int

    @property
    def frames(self) -> slice:
        """They in their row."""
        return slice(self.first, self.first + self.count)


def piece_latents(
    codec: Codec, stream: str, waves: Sequence[Held], firsts: Sequence[int], count: int, lengths: Sequence[int], heard: Heard | None = None
) -> Tensor:
    """Encode pieces of clips, one a row, each by itself with its context.

    Args:
        codec: in float32 or float64.
        stream: `s`, `p` or `g`.
        waves: of the clips; the pieces' context must be at hand.
        firsts: number of each piece's first frame.
        count: frames of each piece.
        lengths: samples of the clips.
        heard: what gives the codewords that P hears.

    Returns:
        `(batch, count, dim)`.
    """
    hop, context = codec.hop_of(stream), codec.frames_heard(stream)
    starts = [(first - context.past) * hop for first in firsts]
    pieces = [wave.cut(start, (context.past + count + context.future) * hop) for wave, start in zip(waves, starts, strict=True)]
    flow = Flow(starts, [-(-length // hop) * hop for length in lengths], begins=False, ends=False)
    latents = codec.encode_stream(stream, codec.own(torch.stack(pieces)), flow, heard)
    skip = firsts[0] - flow.first
    return latents[:, skip : skip + count]


class Settler:
    """Decides on the tokens of a codec.

    Args:
        codec: in eval mode, on the device where it stays.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec, self._twin = codec, None
        quantizers: dict[str, Quantizer] = {"s": codec.quantizer_s, "p": codec.quantizer_p, "g": codec.quantizer_g}
        self.bounds = {stream: ROUNDING * quantizer.scale for stream, quantizer in quantizers.items()}
        self.bounds["g"] /= 2  # of a mean over frames
        self._books = {stream: quantizer.known_books() for stream, quantizer in quantizers.items()}

    @property
    def twin(self) -> Codec:
        """The codec's encoders in float64, made when they are first needed."""
        if self._twin is None:
            self._twin = copy.deepcopy(self.codec, {id(self.codec.decoder): None}).double()  # without a copy of the decoder
        return self._twin

    def assess(self, stream: str, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return what float32 says the tokens are, and what their margins are not below; see `Quantizer.assess`."""
        return getattr(self.codec, f"quantizer_{stream}").assess(latents, self._books[stream])

    def margins(self, stream: str, tokens: Tensor, latents: Tensor) -> Tensor:
        """Return the margins of tokens `(..., codebooks)` of latents `(..., dim)`, on the CPU; see `Quantizer.margins`."""
        quantizer, device = getattr(self.codec, f"quantizer_{stream}"), self.codec.device
        pairs = zip(latents.view(-1, latents.shape[-1]).split(1000), tokens.view(-1, tokens.shape[-1]).split(1000), strict=True)
        parts = [quantizer.margins(latent.to(device), own.to(device)).cpu() for latent, own in pairs]
        return torch.cat(parts).view(tokens.shape) if parts else tokens.float()

    def settle(self, stream: str, latents: Tensor, spans: Sequence[Span], again: Again) -> list[Tensor]:
        """Return the tokens of spans of latents, int64 `(frames, codebooks)` on the CPU; those that rounding might decide on are computed again.

        Args:
            stream: `s` or `p`.
            latents: float32 `(batch, frames, dim)`.
            spans: frames, each of one clip.
            again: what computes frames of a span again.
        """
        quantizer, bound = getattr(self.codec, f"quantizer_{stream}"), self.bounds[stream]
        frames = latents.shape[1]
        tokens, floor = (found[:, :frames] for found in self.assess(stream, F.pad(latents, (0, 0, 0, few(frames) - frames))))
        found, doubts = tokens.cpu(), (floor < bound).any(-1).cpu()
        settled = [found[span.row, span.frames] for span in spans]
        for number, span in enumerate(spans):
            doubtful = doubts[span.row, span.frames].nonzero()[:, 0]
            if not len(doubtful):
                continue
            own, at = latents[span.row, span.frames], doubtful.to(latents.device)
            doubtful = doubtful[(quantizer.margins(own[at], tokens[span.row, span.frames][at]) < bound).any(-1).cpu()]
            for first, last in _runs(doubtful.tolist()):
                exact = again(number, first, last)
                error = (exact - own[first:last]).norm(dim=-1).max()
                if error > bound / 2:  # float32 is worse here than anywhere it was measured
                    first, last, exact = 0, len(own), again(number, 0, len(own))
                settled[number][first:last] = getattr(self.twin, f"quantizer_{stream}").quantize(exact)[0].cpu()
        return settled


def _runs(frames: Sequence[int], gap: int = 16) -> list[tuple[int, int]]:
    """Return the spans, from a frame up to another, that hold some frames in ascending order; those that are near each other share one."""
    spans: list[tuple[int, int]] = []
    for frame in frames:
        if spans and frame - spans[-1][1] <= gap:
            spans[-1] = spans[-1][0], frame + 1
        else:
            spans.append((frame, frame + 1))
    return spans
