"""Clips of any length through the codec, window by window on the canonical grid (see `windows`)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import CodecConfig
from ..nn.pooling import Statistics
from ..units import frames_for
from .codec import Codec
from .decoder import EDGE
from .windows import Window, windows


@dataclass(frozen=True)
class Encoded:
    """One clip's tokens, on the CPU.

    Attributes:
        s: int64 `(frames of S, codebooks)`.
        p: int64 `(frames of P, codebooks)`.
        statistics: what the global tokens are made of, of the whole clip; None without a sample.
        s_latent: float32 `(frames of S, dim)`.
        p_latent: float32 `(frames of P, dim)`.
    """

    s: Tensor
    p: Tensor
    statistics: Statistics | None
    s_latent: Tensor
    p_latent: Tensor


@dataclass(frozen=True)
class _Piece:
    """One window's results: tokens and latents of the valid frames, moments of the global frames, all on the CPU."""

    s: Tensor
    p: Tensor
    s_latent: Tensor
    p_latent: Tensor
    statistics: Statistics


def _batches(lengths: Sequence[int], config: CodecConfig, size: int) -> Iterator[list[tuple[int, Window]]]:
    """Yield (clip, window) pairs in batches of one shape.

    A batch of the CPU holds one window: only then is its arithmetic that of the window alone.
    """
    shapes = defaultdict[int, list[tuple[int, Window]]](list)
    for clip, samples in enumerate(lengths):
        for window in windows(config.grid, frames_for(samples, config.hop)):
            shapes[window.core].append((clip, window))
    for members in shapes.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def batch_size(device: torch.device) -> int:
    """Return how many windows are computed at once on a device."""
    return 1 if device.type == "cpu" else 32


def encode_clips(codec: Codec, clips: Sequence[Tensor]) -> list[Encoded]:
    """Encode clips; each one's tokens are the same whatever the others are (CPU, float32).

    Args:
        codec: in eval mode.
        clips: float32 `(samples,)` each, on the CPU, at the codec's sample rate.
    """
    device = next(codec.parameters()).device
    pieces: list[dict[int, _Piece]] = [{} for _ in clips]
    for batch in _batches([len(clip) for clip in clips], codec.config, batch_size(device)):
        for (clip, window), piece in zip(batch, _encode_batch(codec, clips, batch, device), strict=True):
            pieces[clip][window.start] = piece
    return [_join(codec, [held[start] for start in sorted(held)], len(clip)) for held, clip in zip(pieces, clips, strict=True)]


def _encode_batch(codec: Codec, clips: Sequence[Tensor], batch: list[tuple[int, Window]], device: torch.device) -> Iterator[_Piece]:
    config, context, core = codec.config, codec.encode_context_frames, batch[0][1].core
    waveform = torch.zeros(len(batch), (context.past + core + context.future) * config.hop, dtype=torch.float32)
    valid = torch.zeros(len(batch), 2, dtype=torch.int64)
    for row, (clip, window) in enumerate(batch):
        offset = (window.start - context.past) * config.hop
        first = max(0, offset)
        piece = clips[clip][first : offset + waveform.shape[1]]
        waveform[row, first - offset : first - offset + len(piece)] = piece
        valid[row, 0], valid[row, 1] = -offset, len(clips[clip]) - offset
    waveform, valid = waveform.to(device), valid.to(device)
    latents = codec.latents(waveform, valid, context)
    mask = codec.mask(valid - context.past * config.hop, latents.g.shape[1], config.front_end.hop * config.global_.encoder.stride)
    statistics = codec.global_statistics(latents.g, mask)
    s, p = codec.quantizer_s.quantize(latents.s)[0].cpu(), codec.quantizer_p.quantize(latents.p)[0].cpu()
    moments = [moment.cpu() for moment in (statistics.weight, statistics.mean, statistics.moment)]
    s_latent, p_latent = latents.s.cpu(), latents.p.cpu()
    for row, (_, window) in enumerate(batch):
        count_s, count_p = (window.valid * config.hop // hop for hop in (config.hop_s, config.hop_p))
        part = Statistics(*(moment[row : row + 1] for moment in moments))
        yield _Piece(s[row, :count_s], p[row, :count_p], s_latent[row, :count_s], p_latent[row, :count_p], part)


def _join(codec: Codec, pieces: list[_Piece], samples: int) -> Encoded:
    """Put a clip's windows together, in order, and cut what lies behind its last sample."""
    config = codec.config
    frames_s, frames_p = frames_for(samples, config.hop_s), frames_for(samples, config.hop_p)
    if not pieces:
        s, p = config.semantic.quantizer, config.residual.quantizer
        tokens = (torch.zeros(0, q.num_codebooks, dtype=torch.int64) for q in (s, p))
        latents = (torch.zeros(0, q.dim, dtype=torch.float32) for q in (s, p))
        return Encoded(next(tokens), next(tokens), None, next(latents), next(latents))
    statistics = pieces[0].statistics
    for piece in pieces[1:]:
        statistics = statistics.merge(piece.statistics)
    return Encoded(
        torch.cat([piece.s for piece in pieces])[:frames_s],
        torch.cat([piece.p for piece in pieces])[:frames_p],
        statistics,
        torch.cat([piece.s_latent for piece in pieces])[:frames_s],
        torch.cat([piece.p_latent for piece in pieces])[:frames_p],
    )


def global_tokens(codec: Codec, statistics: Sequence[Statistics]) -> tuple[Tensor, Tensor]:
    """Return the global tokens, int64 `(num_g,)`, and their latent, float32 `(dim,)`, of clips of one voice, in order.

    Without any clip that has a sample, they are those of statistics that are all zero.
    """
    device, channels = next(codec.parameters()).device, codec.config.global_.encoder.dims[-1]
    empty = torch.zeros(1, channels, dtype=torch.float64)
    merged = Statistics(empty, empty, empty)
    for part in statistics:
        merged = merged.merge(part)
    latent = codec.global_latent(Statistics(merged.weight.to(device), merged.mean.to(device), merged.moment.to(device)))
    return codec.quantizer_g.quantize(latent)[0][0].cpu(), latent[0].cpu()


@dataclass(frozen=True)
class Tokens:
    """What one clip is decoded from.

    Attributes:
        s: int64 `(frames of S, codebooks)`.
        p: int64 `(frames of P, codebooks)`, or None.
        g: int64 `(num_g,)`, or the vector that they stand for, float32 `(dim,)`; or None. Of one kind in all clips of a call.
        samples: length of the waveform.
    """

    s: Tensor
    p: Tensor | None
    g: Tensor | None
    samples: int


def decode_clips(codec: Codec, clips: Sequence[Tokens]) -> list[Tensor]:
    """Decode clips to float32 `(samples,)` on the CPU; each one's samples are the same whatever the others are (CPU, float32)."""
    device, hop = next(codec.parameters()).device, codec.config.hop
    pieces: list[dict[int, Tensor]] = [{} for _ in clips]
    kinds = defaultdict[tuple[bool, bool], list[int]](list)
    for index, clip in enumerate(clips):
        kinds[clip.p is None, clip.g is None].append(index)
    for members in kinds.values():
        for batch in _batches([clips[index].samples for index in members], codec.config, batch_size(device)):
            rows = [(members[clip], window) for clip, window in batch]
            waveform = _decode_batch(codec, clips, rows, device)
            for row, (index, window) in enumerate(rows):
                pieces[index][window.start] = waveform[row, : window.valid * hop]
    return [
        torch.cat([held[start] for start in sorted(held)] or [torch.zeros(0, dtype=torch.float32)])[: clip.samples].contiguous()
        for held, clip in zip(pieces, clips, strict=True)
    ]


def _decode_batch(codec: Codec, clips: Sequence[Tokens], rows: list[tuple[int, Window]], device: torch.device) -> Tensor:
    config, context, core = codec.config, codec.decode_context_frames, rows[0][1].core
    frames = context.past + core + context.future
    first = clips[rows[0][0]]

    def gather(name: str, hop: int, codebooks: int) -> Tensor:
        factor = config.hop // hop
        out = torch.zeros(len(rows), frames * factor, codebooks, dtype=torch.int64)
        for row, (index, window) in enumerate(rows):
            offset = (window.start - context.past) * factor
            begin = max(0, offset)
            piece = getattr(clips[index], name)[begin : offset + out.shape[1]]
            out[row, begin - offset : begin - offset + len(piece)] = piece
        return out.to(device)

    offsets = torch.tensor([(window.start - context.past) * config.hop for _, window in rows])
    ends = torch.tensor([clips[index].samples for index, _ in rows])
    valid = torch.stack([-offsets, ends - offsets], 1).to(device)
    s = gather("s", config.hop_s, config.semantic.quantizer.num_codebooks)
    p = None if first.p is None else gather("p", config.hop_p, config.residual.quantizer.num_codebooks)
    g = None if first.g is None else torch.stack([tokens for index, _ in rows if (tokens := clips[index].g) is not None]).to(device)
    waveform = codec.decode(s, p, g, valid, codec.phase_frames).cpu()
    start = (context.past - codec.phase_frames) * config.hop - EDGE * config.decoder.hop
    return waveform[:, start : start + core * config.hop]
