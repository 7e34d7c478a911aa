"""Bundles of any length to waveforms, one after another in blocks, or many windows at once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import CodecConfig
from ..units import frames_for
from . import windows
from .codec import Codec
from .stage import Held
from .synthesis import Pitch64, Synthesis


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


def whole_frames(config: CodecConfig, samples: int, *, with_p: bool) -> int:
    """Return the samples of whole frames of a clip's tokens: where it ends in the last one is known at its end only, and changes nothing before."""
    hop = min(config.hop_s, config.hop_p) if with_p else config.hop_s
    return frames_for(samples, hop) * hop


class ClipDecoder:
    """Decodes clips with a codec.

    Args:
        codec: in eval mode, on the device where it stays.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec, self.exact = codec, Pitch64(codec)

    def decode(self, clips: Sequence[Tokens]) -> list[Tensor]:
        """Decode clips to float32 `(samples,)` on the CPU; each one's samples are the same whatever the others are (CPU, float32)."""
        size = windows.batch_size(self.codec.device)
        if size == 1:
            return [_joined(self.blocks(clip), clip.samples) for clip in clips]
        return self._together(clips, size)

    def blocks(self, clip: Tokens) -> Iterator[Tensor]:
        """Decode a clip in bounded memory: yield its samples, float32 `(samples,)` on the CPU, one part after another."""
        config, device = self.codec.config, self.codec.device
        synthesis = Synthesis(self.codec, self.exact, None if clip.g is None else clip.g[None].to(device), 1)
        frames, length = frames_for(clip.samples, config.hop), whole_frames(config, clip.samples, with_p=clip.p is not None)
        start, end = -synthesis.lead, frames + synthesis.lead if frames else -synthesis.lead
        while start < end:
            count = windows.CORE if end - start > windows.CORE + 2 * synthesis.lead else end - start  # edges are no block of their own
            codewords = self._codewords(synthesis, [clip], [start], count)
            wave, first = synthesis.push(*codewords, [start * config.hop], [length], ends=start + count >= end)
            start += count
            yield wave[0, max(0, -first) : max(0, clip.samples - first)].cpu()

    def _together(self, clips: Sequence[Tokens], size: int) -> list[Tensor]:
        """Decode windows of many clips at once."""
        waves = [torch.zeros(clip.samples, dtype=torch.float32) for clip in clips]
        kinds = defaultdict[tuple[bool, bool], list[int]](list)
        for index, clip in enumerate(clips):
            kinds[clip.p is None, clip.g is None].append(index)
        hop = self.codec.config.hop
        for members in kinds.values():
            for batch in windows.batches([clips[index].samples for index in members], hop, size):
                rows = [(members[number], window) for number, window in batch]
                waveform = self._window([clips[index] for index, _ in rows], [window.start for _, window in rows], rows[0][1].core).cpu()
                for row, (index, window) in enumerate(rows):
                    span = waves[index][window.start * hop : (window.start + window.valid) * hop]
                    span.copy_(waveform[row, : len(span)])
        return waves

    def _window(self, clips: Sequence[Tokens], starts: Sequence[int], core: int) -> Tensor:
        """Decode windows of one shape, each by itself with its context, float32 `(batch, core * hop)`."""
        codec, config, context = self.codec, self.codec.config, self.codec.decode_context_frames
        firsts, frames = [start - context.past for start in starts], context.past + core + context.future

        voices = [clip.g for clip in clips if clip.g is not None]
        synthesis = Synthesis(codec, self.exact, torch.stack(voices).to(codec.device) if voices else None, len(clips), "piece")
        lengths = [whole_frames(config, clip.samples, with_p=clip.p is not None) for clip in clips]
        at, skip = [first * config.hop for first in firsts], codec.phase_frames * (config.hop // config.hop_s)
        wave, first = synthesis.push(*self._codewords(synthesis, clips, firsts, frames), at, lengths, ends=False, skip=skip)
        begin = starts[0] * config.hop - first
        return wave[:, begin : begin + core * config.hop]

    def _codewords(self, synthesis: Synthesis, clips: Sequence[Tokens], firsts: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
        """Return the codewords of so many frames of the codec's hop of each clip, any where it has none."""
        config = self.codec.config

        def gather(streams: Sequence[Tensor], hop: int) -> Tensor:
            fine = config.hop // hop
            pieces = [Held(stream).cut(first * fine, count * fine) for stream, first in zip(streams, firsts, strict=True)]
            return torch.stack(pieces).to(self.codec.device)

        residual = [clip.p for clip in clips if clip.p is not None]
        return synthesis.codewords(gather([clip.s for clip in clips], config.hop_s), gather(residual, config.hop_p) if residual else None)


def _joined(blocks: Iterator[Tensor], samples: int) -> Tensor:
    """Return blocks one after another, without holding them all beside the result."""
    wave, at = torch.empty(samples, dtype=torch.float32), 0
    for block in blocks:
        wave[at : at + len(block)] = block
        at += len(block)
    return wave
