"""Short clips on a CPU: many in one row, one after another, so that weights are fetched once for all and rows have few shapes."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..nn.flow import Packed
from ..units import frames_for
from .codec import Codec
from .encoded import Encoded
from .reading import computed_again
from .settling import Settler, Span
from .stage import Held
from .windows import WHOLE, few

ROW = WHOLE
"""Frames of the codec's hop in a row, about."""
HELD = 8 * ROW
"""Frames that are collected before they are encoded; the more there are, the fuller are the rows."""


def rows_of(counts: Sequence[int], apart: int) -> Iterator[list[int]]:
    """Yield the numbers of clips that share a row: in their order, in as few rows as there must be, about as much in each.

    Args:
        counts: frames of each clip, `ROW` at most.
        apart: frames between two of them.
    """
    rows = max(1, -(-sum(count + apart for count in counts) // ROW))
    most = sum(count + apart for count in counts) / rows
    row, filled = list[int](), 0
    for number, count in enumerate(counts):
        if row and filled + (count + apart) / 2 > most:
            yield row
            row, filled = [], 0
        row.append(number)
        filled += count + apart
    if row:
        yield row


def encode_row(settler: Settler, waves: Sequence[Tensor], latents: bool) -> list[Encoded]:
    """Encode whole clips of one row.

    Args:
        settler: decides on tokens.
        waves: float32 `(samples,)`, one sample or more each.
        latents: whether to keep latents.
    """
    codec, config = settler.codec, settler.codec.config
    counts = [frames_for(len(wave), config.hop) + codec.frames_apart for wave in waves]
    firsts, frames = list(accumulate(counts[:-1], initial=0)), few(sum(counts) - codec.frames_apart)
    waveform = torch.zeros(frames * config.hop)
    for wave, first in zip(waves, firsts, strict=True):
        waveform[first * config.hop : first * config.hop + len(wave)] = wave
    x = codec.own(waveform[None])

    def spans(hop: int) -> list[Span]:
        return [Span(0, first * (config.hop // hop), frames_for(len(wave), hop)) for wave, first in zip(waves, firsts, strict=True)]

    def row(hop: int) -> Packed:
        return Packed([span.first for span in spans(hop)], [span.count for span in spans(hop)], frames * (config.hop // hop))

    def settled(stream: str, latents: Tensor, s: Sequence[Tensor]) -> list[Tensor]:
        def again(clip: int, first: int, last: int) -> Tensor:
            return computed_again(settler, stream, Held(waves[clip]), Held(s[clip]), 0, len(waves[clip]))(clip, first, last)

        return settler.settle(stream, latents, spans(codec.hop_of(stream)), again)

    s_latents = codec.encode_stream("s", x, row(config.hop_s))
    s = settled("s", s_latents, [torch.zeros(0)] * len(waves))
    features = codec.front_end(x, row(config.hop))
    side = _codewords(codec, s, spans(config.hop_s), s_latents.shape[1]) if config.p_hears_s else None
    p_latents = codec.residual(features, row(config.hop_p), side)
    p = settled("p", p_latents, s)
    hop_g = codec.hop_of("g")
    statistics = codec.moments_of(codec.global_encoder(features, row(hop_g)), [span.frames for span in spans(hop_g)])
    kept = [[found[0, span.frames].cpu() for span in spans(hop)] for found, hop in ((s_latents, config.hop_s), (p_latents, config.hop_p))]
    return [
        Encoded(s[clip], p[clip], len(wave), statistics[clip], *((kept[0][clip], kept[1][clip]) if latents else ()))
        for clip, wave in enumerate(waves)
    ]


def _codewords(codec: Codec, tokens: Sequence[Tensor], spans: Sequence[Span], frames: int) -> Tensor:
    """Return the codewords of S of all clips in their row, any between them, `(1, frames, dim)`."""
    row = torch.zeros(1, frames, tokens[0].shape[1], dtype=torch.int64)
    for span, own in zip(spans, tokens, strict=True):
        row[0, span.frames] = own
    return codec.quantizer_s.dequantize(row.to(codec.device))
