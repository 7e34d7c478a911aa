"""Clips of any length to tokens that no rounding decides on.

A token is what float64 arithmetic says. Computed are float32 latents, in pieces of any shape, on any number of threads; a frame whose latent
is so near the border of its codeword's cell that float32's errors could take it across is computed again in float64. So tokens are the same
alone, in a batch, beside longer clips, with any number of threads and on any device whose float32 is float32 (`docs/design/0002-exactness.md`).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import CodecConfig
from ..nn.pooling import Statistics
from ..nn.quantize import Quantizer
from ..units import frames_for
from .codec import Codec
from .encoder import Context
from .windows import Window, batches, windows

ROUNDING = 128 * torch.finfo(torch.float32).eps
"""Bound of a latent's error in float32, as a share of its quantizer's scale; what was measured stays below a quarter of it."""


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
class _Rows:
    """Some windows with what is heard around them, as rows of one shape.

    Attributes:
        waveform: float32 `(batch, samples)`, zero outside the clips.
        valid: int64 `(batch, 2)`, as `Codec.mask` takes it.
        margin: frames at the ends that are heard only.
        firsts: number of each row's first frame in its clip; negative before the clip.
    """

    waveform: Tensor
    valid: Tensor
    margin: Context
    firsts: list[int]


def _rows(config: CodecConfig, batch: Sequence[tuple[Tensor, Window]], context: Context) -> _Rows:
    """Cut windows of one shape out of their clips, with their context. One by itself ends where its clip ends; several are padded with zeros."""
    if len(batch) == 1:
        ((clip, window),) = batch
        first, last = max(0, window.start - context.past), window.start + window.valid
        margin = Context(window.start - first, min(context.future, frames_for(len(clip), config.hop) - last))
        firsts, frames = [first], last + margin.future - first
    else:
        margin, frames = context, context.past + batch[0][1].core + context.future
        firsts = [window.start - context.past for _, window in batch]
    waveform = torch.zeros(len(batch), frames * config.hop)
    for row, ((clip, _), start) in enumerate(zip(batch, firsts, strict=True)):
        piece = clip[max(0, start) * config.hop : (start + frames) * config.hop]
        offset = max(0, -start) * config.hop
        waveform[row, offset : offset + len(piece)] = piece
    valid = torch.tensor([[-start * config.hop, len(clip) - start * config.hop] for (clip, _), start in zip(batch, firsts, strict=True)])
    return _Rows(waveform, valid, margin, firsts)


def _gather(tokens: Tensor, first: int, frames: int) -> Tensor:
    """Return frames of a clip's tokens from number `first` on, zero outside the clip, `(frames, codebooks)`."""
    out = tokens.new_zeros(frames, tokens.shape[1])
    piece = tokens[max(0, first) : max(0, first + frames)]
    out[max(0, -first) : max(0, -first) + len(piece)] = piece
    return out


class ClipEncoder:
    """Encodes clips with a codec.

    Args:
        codec: in eval mode, on the device where it stays.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec, self._twin = codec, None
        quantizers: dict[str, Quantizer] = {"s": codec.quantizer_s, "p": codec.quantizer_p, "g": codec.quantizer_g}
        self.bounds = {stream: ROUNDING * quantizer.scale for stream, quantizer in quantizers.items()}
        self.bounds["g"] /= 2  # of a mean over frames
        self._context_s = codec.frames_heard(codec.semantic)
        own, voice = codec.frames_heard(codec.residual), codec.frames_heard(codec.global_encoder)
        self._context = Context(max(own.past, voice.past), max(own.future, voice.future))

    @property
    def twin(self) -> Codec:
        """The codec's encoders in float64, made when they are first needed."""
        if self._twin is None:
            self._twin = copy.deepcopy(self.codec, {id(self.codec.decoder): None}).double()  # without a copy of the decoder
        return self._twin

    def encode(self, clips: Sequence[Tensor]) -> list[Encoded]:
        """Encode clips, float32 `(samples,)` each, on the CPU, at the codec's sample rate."""
        config, device = self.codec.config, next(self.codec.parameters()).device
        quantizers = config.semantic.quantizer, config.residual.quantizer
        hops = config.hop_s, config.hop_p
        tokens_s, tokens_p, latents_s, latents_p = (
            [torch.zeros(frames_for(len(clip), hop), width, dtype=kind) for clip in clips]
            for kind, widths in ((torch.int64, [q.num_codebooks for q in quantizers]), (torch.float32, [q.dim for q in quantizers]))
            for hop, width in zip(hops, widths, strict=True)
        )
        statistics: list[dict[int, Statistics]] = [{} for _ in clips]
        planned = list(batches([len(clip) for clip in clips], config, device))
        for batch in planned:
            rows = self._semantic([(clips[clip], window) for clip, window in batch])
            for (clip, window), (tokens, latents) in zip(batch, rows, strict=True):
                _put(tokens_s[clip], tokens, window, config.hop // config.hop_s)
                _put(latents_s[clip], latents, window, config.hop // config.hop_s)
        for batch in planned:
            rows = self._rest([(clips[clip], window) for clip, window in batch], [tokens_s[clip] for clip, _ in batch])
            for (clip, window), (tokens, latents, part) in zip(batch, rows, strict=True):
                _put(tokens_p[clip], tokens, window, config.hop // config.hop_p)
                _put(latents_p[clip], latents, window, config.hop // config.hop_p)
                statistics[clip][window.start] = part
        return [
            Encoded(s, p, _merge([held[start] for start in sorted(held)]) if held else None, s_latent, p_latent)
            for s, p, held, s_latent, p_latent in zip(tokens_s, tokens_p, statistics, latents_s, latents_p, strict=True)
        ]

    def global_tokens(self, clips: Sequence[Tensor], statistics: Sequence[Statistics]) -> tuple[Tensor, Tensor]:
        """Return the global tokens, int64 `(num_g,)`, and their latent, float32 `(dim,)`, of clips of one voice, in order.

        Without any clip that has a sample, they are those of statistics that are all zero.

        Args:
            clips: as for `encode`.
            statistics: of those clips that have a sample.
        """
        latent = self._global_latent(self.codec, statistics)
        tokens, floor = self.codec.quantizer_g.assess(latent)
        if (floor < self.bounds["g"]).any():
            parts = [self._exact_statistics(clip) for clip in clips if len(clip)]
            tokens = self.twin.quantizer_g.quantize(self._global_latent(self.twin, parts))[0]
        return tokens[0].cpu(), latent[0].cpu()

    def _global_latent(self, codec: Codec, statistics: Sequence[Statistics]) -> Tensor:
        device, empty = next(self.codec.parameters()).device, torch.zeros(1, codec.config.global_.encoder.dims[-1], dtype=torch.float64)
        merged = _merge([Statistics(empty, empty, empty), *statistics])
        return codec.global_latent(Statistics(merged.weight.to(device), merged.mean.to(device), merged.moment.to(device)))

    def _semantic(self, batch: Sequence[tuple[Tensor, Window]]) -> list[tuple[Tensor, Tensor]]:
        """Return tokens and latents of S in some windows, on the CPU."""
        rows = _rows(self.codec.config, batch, self._context_s)
        latents = self._semantic_latents(self.codec, rows, batch[0][1])

        def again(row: int, first: int, last: int) -> Tensor:
            clip, window = batch[row]
            piece = Window(window.start + first, last - first, last - first)
            return self._semantic_latents(self.twin, _rows(self.codec.config, [(clip, piece)], self._context_s), window)[0]

        tokens = self._settle("s", latents, [window.valid for _, window in batch], again)
        return list(zip(tokens, latents.cpu(), strict=True))

    def _semantic_latents(self, codec: Codec, rows: _Rows, window: Window) -> Tensor:
        """Return S of rows whose positions are those of a window, which begins as many frames before its first as all that is heard of it."""
        config, weights = codec.config, next(codec.parameters())
        at = (rows.firsts[0] - window.start + codec.encode_context_frames.past) * (config.hop // config.hop_s)
        return codec.semantic_latents(rows.waveform.to(weights), rows.valid.to(weights.device), rows.margin, at)

    def _rest(self, batch: Sequence[tuple[Tensor, Window]], s: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Statistics]]:
        """Return tokens and latents of P and the moments of G in some windows of clips whose S is known, on the CPU."""
        rows = _rows(self.codec.config, batch, self._context)
        features = self.codec.front_end(rows.waveform.to(next(self.codec.parameters())))
        latents = self._residual_latents(self.codec, features, rows, s)

        def again(row: int, first: int, last: int) -> Tensor:
            clip, window = batch[row]
            piece = Window(window.start + first, last - first, last - first)
            near = _rows(self.codec.config, [(clip, piece)], self._context)
            return self._residual_latents(self.twin, self.twin.front_end(near.waveform.to(next(self.twin.parameters()))), near, [s[row]])[0]

        tokens = self._settle("p", latents, [window.valid for _, window in batch], again)
        statistics = self._statistics(self.codec, features, rows)
        return list(zip(tokens, latents.cpu(), statistics, strict=True))

    def _residual_latents(self, codec: Codec, features: Tensor, rows: _Rows, s: Sequence[Tensor]) -> Tensor:
        config, heard = codec.config, None
        if config.p_hears_s:
            frames = rows.waveform.shape[1] // config.hop_s
            tokens = torch.stack([_gather(own, first, frames) for own, first in zip(s, rows.firsts, strict=True)])
            heard = codec.quantizer_s.dequantize(tokens.to(features.device))
        return codec.residual_latents(features, rows.valid.to(features.device), rows.margin, heard)

    def _statistics(self, codec: Codec, features: Tensor, rows: _Rows) -> list[Statistics]:
        config, valid = codec.config, rows.valid.to(features.device)
        frames = codec.global_frames(features, valid, rows.margin)
        hop = config.front_end.hop * config.global_.encoder.stride
        found = codec.global_statistics(frames, codec.mask(valid - rows.margin.past * config.hop, frames.shape[1], hop))
        parts = [moment.cpu() for moment in (found.weight, found.mean, found.moment)]
        return [Statistics(*(part[row : row + 1] for part in parts)) for row in range(len(rows.firsts))]

    def _exact_statistics(self, clip: Tensor) -> Statistics:
        """Return the moments of a clip's frames of G, all of them computed in float64."""
        config, parts = self.codec.config, []
        for window in windows(config.grid, frames_for(len(clip), config.hop)):
            rows = _rows(config, [(clip, window)], self.codec.frames_heard(self.codec.global_encoder))
            parts += self._statistics(self.twin, self.twin.front_end(rows.waveform.to(next(self.twin.parameters()))), rows)
        return _merge(parts)

    def _settle(self, stream: str, latents: Tensor, valid: Sequence[int], again: Callable[[int, int, int], Tensor]) -> list[Tensor]:
        """Return the tokens of rows of latents, on the CPU; those that rounding might decide on are computed again.

        Args:
            stream: `s` or `p`.
            latents: float32 `(batch, frames, dim)`.
            valid: how many frames of `config.hop` samples of each row there are in its clip.
            again: returns float64 latents, `(frames, dim)`, of a row's frames of `config.hop` samples from one number to another.
        """
        quantizer, bound = getattr(self.codec, f"quantizer_{stream}"), self.bounds[stream]
        fine = self.codec.config.hop // getattr(self.codec.config, f"hop_{stream}")
        tokens, floor = quantizer.assess(latents)
        settled, doubts = list(tokens.cpu()), (floor < bound).any(-1).cpu()
        for row, count in enumerate(valid):
            doubtful = doubts[row, : count * fine].nonzero()[:, 0]
            if len(doubtful):
                at = doubtful.to(latents.device)
                doubtful = doubtful[(quantizer.margins(latents[row, at], tokens[row, at]) < bound).any(-1).cpu()]
            for first, last in _runs((doubtful // fine).tolist()):
                exact = again(row, first, last)
                error = (exact - latents[row, first * fine : last * fine]).norm(dim=-1).max()
                if error > bound / 2:  # float32 is worse here than anywhere it was measured
                    first, last, exact = 0, count, again(row, 0, count)
                settled[row][first * fine : last * fine] = getattr(self.twin, f"quantizer_{stream}").quantize(exact)[0].cpu()
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


def _put(whole: Tensor, piece: Tensor, window: Window, fine: int) -> None:
    """Write a window's frames into a clip's; what lies behind the clip's last sample is left out."""
    part = whole[window.start * fine : (window.start + window.valid) * fine]
    part.copy_(piece[: len(part)])


def _merge(parts: Sequence[Statistics]) -> Statistics:
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged
