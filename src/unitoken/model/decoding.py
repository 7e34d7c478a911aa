"""Bundles of any length to waveforms, window by window on the canonical grid (see `windows`)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import Codec
from .decoder import EDGE
from .windows import Window, batches


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
        for batch in batches([clips[index].samples for index in members], codec.config, device):
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
