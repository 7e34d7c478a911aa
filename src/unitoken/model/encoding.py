"""Clips of any length to tokens: short ones many in a row, long ones in blocks, or many windows of any at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

import torch
from torch import Tensor

from ..nn.pooling import Statistics, merged
from ..units import frames_for
from . import windows
from .codec import Codec
from .encoded import Encoded
from .packing import HELD, encode_row, rows_of
from .reading import Reader, VoiceReader, as_row, codewords_at
from .settling import Settler, Span, piece_latents
from .stage import Held, Kept

Clip = Tensor | Callable[[], Iterable[Tensor]]
"""A waveform at the codec's sample rate, float32 `(samples,)` on the CPU; or what begins to give it in pieces, as often as it is called."""


class ClipEncoder(Settler):
    """Encodes clips with a codec; see `Settler`."""

    def encode(self, clips: Sequence[Clip], *, latents: bool = False) -> list[Encoded]:
        """Encode clips, and keep their latents too if asked to."""
        size = windows.batch_size(self.codec.device)
        if size == 1:
            return self._in_rows_and_blocks(clips, latents)
        return self._together(
            [clip if isinstance(clip, Tensor) else torch.cat([torch.zeros(0, dtype=torch.float32), *clip()]) for clip in clips], size, latents
        )

    def global_tokens(self, clips: Sequence[Clip], statistics: Sequence[Statistics | None]) -> tuple[Tensor, Tensor]:
        """Return the global tokens, int64 `(num_g,)`, and their latent, float32 `(dim,)`, of clips of one voice, in order.

        Without any clip that has a sample, they are those of statistics that are all zero.

        Args:
            clips: as for `encode`.
            statistics: of each.
        """
        latent = self._global_latent(self.codec, statistics)
        tokens, floor = self.assess("g", latent)
        if (floor < self.bounds["g"]).any():
            exact = self._global_latent(self.twin, [self.statistics(clip, self.twin) for clip in clips])
            tokens = self.twin.quantizer_g.quantize(exact)[0]
        return tokens[0].cpu(), latent[0].cpu()

    def exact_global_tokens(self, statistics: Statistics | None) -> Tensor:
        """Return the global tokens, int64 `(num_g,)`, of moments that the twin computed."""
        return self.twin.quantizer_g.quantize(self._global_latent(self.twin, [statistics]))[0][0].cpu()

    def _global_latent(self, codec: Codec, statistics: Sequence[Statistics | None]) -> Tensor:
        empty = torch.zeros(1, codec.config.global_.encoder.dims[-1], dtype=torch.float64)
        nothing = Statistics(empty, empty, empty)
        whole = merged([nothing, *statistics]) or nothing
        return codec.global_latent(Statistics(*(moment.to(codec.device) for moment in (whole.weight, whole.mean, whole.moment))))

    def statistics(self, clip: Clip, codec: Codec | None = None) -> Statistics | None:
        """Return the moments of a clip's frames of G; None without a sample.

        Args:
            clip: as for `encode`.
            codec: what computes them: the codec, or its twin.
        """
        codec = self.codec if codec is None else codec
        reader, total = VoiceReader(codec), 0
        for piece, ends in _with_end(_blocks(clip, codec.config.hop)):
            total += len(piece)
            if total:
                reader.push(as_row(codec, piece, total if ends else None), total if ends else None)
        return reader.statistics

    def _in_rows_and_blocks(self, clips: Sequence[Clip], latents: bool) -> list[Encoded]:
        """Encode clips of one row at most in rows that they share, longer ones block by block."""
        done, held, frames, most = dict[int, Encoded](), dict[int, Tensor](), 0, windows.WHOLE // windows.CORE

        def encode_held() -> None:
            waiting = list(held)
            for row in rows_of([frames_for(len(wave), self.codec.config.hop) for wave in held.values()], self.codec.frames_apart):
                numbers = [waiting[place] for place in row]
                done.update(zip(numbers, encode_row(self, [held[number] for number in numbers], latents), strict=True))
            held.clear()

        for number, clip in enumerate(clips):
            pieces = iter(_blocks(clip, self.codec.config.hop))
            begin = list(islice(pieces, most + 1))
            if len(begin) <= most and 0 < sum(map(len, begin)) <= windows.WHOLE * self.codec.config.hop:
                held[number] = torch.cat(begin)
                frames += frames_for(len(held[number]), self.codec.config.hop)
            else:
                done[number] = self._block_by_block(chain(begin, pieces), latents)
            if frames >= HELD:
                encode_held()
                frames = 0
        encode_held()
        return [done[number] for number in range(len(clips))]

    def _block_by_block(self, pieces: Iterable[Tensor], latents: bool) -> Encoded:
        config = self.codec.config
        streams = {"s": config.semantic.quantizer, "p": config.residual.quantizer}
        found = {stream: Kept(torch.zeros(0, width.num_codebooks, dtype=torch.int64)) for stream, width in streams.items()}
        before = {stream: Kept(torch.zeros(0, width.dim, dtype=torch.float32)) for stream, width in streams.items()}

        def take(stream: str, tokens: Tensor, latent: Tensor) -> None:
            found[stream].append(tokens)
            if latents:
                before[stream].append(latent)

        reader = Reader(self, take)
        for piece, ends in _with_end(pieces):
            reader.push(piece, ends=ends)
        kept = (before["s"].rows, before["p"].rows) if latents else ()
        return Encoded(found["s"].rows, found["p"].rows, reader.samples, reader.statistics, *kept)

    def _together(self, clips: Sequence[Tensor], size: int, latents: bool) -> list[Encoded]:
        """Encode windows of many clips at once; P after all of S, since it hears it across their borders."""
        lengths, waves = [len(clip) for clip in clips], [Held(clip) for clip in clips]
        planned = list(windows.batches(lengths, self.codec.config.hop, size))
        s, s_latent = self._in_windows("s", planned, waves, lengths, None)
        p, p_latent = self._in_windows("p", planned, waves, lengths, [Held(tokens) for tokens in s] if self.codec.config.p_hears_s else None)
        parts: list[dict[int, Statistics | None]] = [{} for _ in clips]
        for batch, frames in self._windows("g", planned, waves, lengths):
            for row, (clip, window) in enumerate(batch):
                fine = self.codec.config.hop // self.codec.hop_of("g")
                count = min(window.valid * fine, frames_for(lengths[clip], self.codec.hop_of("g")) - window.start * fine)
                parts[clip][window.start] = self.codec.moments(frames[row : row + 1, :count])
        return [
            Encoded(
                s[clip],
                p[clip],
                lengths[clip],
                merged(parts[clip][start] for start in sorted(parts[clip])),
                *((s_latent[clip], p_latent[clip]) if latents else ()),
            )
            for clip in range(len(clips))
        ]

    def _windows(
        self,
        stream: str,
        planned: Sequence[list[tuple[int, windows.Window]]],
        waves: Sequence[Held],
        lengths: Sequence[int],
        s: Sequence[Held] | None = None,
    ) -> Iterator[tuple[list[tuple[int, windows.Window]], Tensor]]:
        """Yield each batch of windows with its latents."""
        fine = self.codec.config.hop // self.codec.hop_of(stream)
        for batch in planned:
            rows = [clip for clip, _ in batch]
            heard = None if s is None else codewords_at(self.codec, [s[clip] for clip in rows])
            firsts = [window.start * fine for _, window in batch]
            held = [waves[clip] for clip in rows]
            yield batch, piece_latents(self.codec, stream, held, firsts, batch[0][1].core * fine, [lengths[clip] for clip in rows], heard)

    def _in_windows(
        self,
        stream: str,
        planned: Sequence[list[tuple[int, windows.Window]]],
        waves: Sequence[Held],
        lengths: Sequence[int],
        s: Sequence[Held] | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return tokens and latents of S or P of every clip."""
        hop, fine = self.codec.hop_of(stream), self.codec.config.hop // self.codec.hop_of(stream)
        width = getattr(self.codec, f"quantizer_{stream}").config
        tokens = [torch.zeros(frames_for(length, hop), width.num_codebooks, dtype=torch.int64) for length in lengths]
        kept = [torch.zeros(frames_for(length, hop), width.dim, dtype=torch.float32) for length in lengths]
        for batch, latents in self._windows(stream, planned, waves, lengths, s):
            spans = [slice(window.start * fine, min((window.start + window.valid) * fine, len(tokens[clip]))) for clip, window in batch]

            def again(row: int, first: int, last: int, batch: list[tuple[int, windows.Window]] = batch, spans: list[slice] = spans) -> Tensor:
                clip = batch[row][0]
                heard = None if s is None else codewords_at(self.twin, [s[clip]])
                return piece_latents(self.twin, stream, [waves[clip]], [spans[row].start + first], last - first, [lengths[clip]], heard)[0]

            counts = [span.stop - span.start for span in spans]
            settled = self.settle(stream, latents, [Span(row, 0, count) for row, count in enumerate(counts)], again)
            for (clip, _), span, count, found, latent in zip(batch, spans, counts, settled, latents.cpu(), strict=True):
                tokens[clip][span], kept[clip][span] = found, latent[:count]
        return tokens, kept


def _blocks(clip: Clip, hop: int) -> Iterable[Tensor]:
    return clip.split(windows.CORE * hop) if isinstance(clip, Tensor) else clip()


def _with_end(pieces: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Yield pieces, and whether each is the last; an empty one if there is none."""
    held = None
    for piece in pieces:
        if held is not None:
            yield held, False
        held = piece
    yield torch.zeros(0, dtype=torch.float32) if held is None else held, True
