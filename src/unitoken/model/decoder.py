"""The decoder: local fusion of S and P, blocks conditioned on G, filtered harmonics and a free part, inverse STFT."""

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..nn.blocks import AdaptiveNorm, ConvNeXtBlock
from ..nn.flow import Rows
from ..nn.harmonic import harmonics
from ..nn.linear import Linear
from ..nn.noise import noise_spectrum
from ..nn.spectral import InverseSTFT
from .encoder import Context, spread_lookahead
from .pitch import PitchPredictor, Source

EDGE = 2
"""Frames of the inverse STFT that are computed beyond each end of a piece, so that every sample has all the frames that overlap it."""
LOUDEST = 6.0
"""Highest log magnitude of a bin."""


class Decoder(nn.Module):
    """Codewords to waveform.

    S and P meet first (local fusion, in blocks that do not see G), then G sets the scale and shift of every further block's norm.
    The spectrum is the sum of two parts: harmonics of the F0 that `pitch` finds in the tokens, with a filter of magnitudes, and a free part with
    magnitudes and phases of its own (noise, bursts), which high up, from `noise_hz` on, gives way to white noise: a phase there cannot be told from a
    token, and phases that a network gives for want of better knowledge make a smooth spectrum, which no breath has. See `nn.harmonic` for why.

    Args:
        config: the codec's.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        size = config.decoder
        self.config = config
        self.factor_s, self.factor_p = config.hop_s // size.hop, config.hop_p // size.hop
        dim_s, dim_p = config.semantic.quantizer.dim, config.residual.quantizer.dim
        self.from_s = Linear(dim_s, size.dim * self.factor_s)
        self.from_p = Linear(dim_p, size.dim * self.factor_p)
        self.null_p = nn.Parameter(torch.zeros(dim_p))
        self.condition = nn.Sequential(
            Linear(config.global_.quantizer.dim, size.condition_dim), nn.GELU(), Linear(size.condition_dim, size.condition_dim)
        )
        self.null_g = nn.Parameter(torch.zeros(size.condition_dim))
        futures = spread_lookahead(size.blocks, size.kernel, None if size.lookahead_frames is None else size.lookahead_frames * self.factor_s)
        self.fused = min(2, size.blocks - 1)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(size.dim, size.kernel, size.expansion, future, size.condition_dim if index >= self.fused else 0, 1 / size.blocks)
            for index, future in enumerate(futures)
        )
        self.norm = AdaptiveNorm(size.dim, size.condition_dim)
        self.bins = size.n_fft // 2 + 1
        self.head = Linear(size.dim, size.subframes * 3 * self.bins)
        self.pitch = PitchPredictor(config)
        self.register_buffer("noisy", None if size.noise_hz is None else noise_share(size.noise_hz, self.bins, config.sample_rate), persistent=False)
        self.noisy: Tensor | None
        self.inverse = InverseSTFT(size.n_fft, size.stft_hop)
        for layer in (self.from_s, self.from_p, self.head):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # the filter starts flat and soft
            self.head.weight.view(size.subframes, 3 * self.bins, -1)[:, 2 * self.bins :] *= 0.1
            self.head.bias.view(size.subframes, 3 * self.bins)[:, 2 * self.bins :] = -1.0

    def conditioning(self, g: Tensor | None, batch: int) -> Tensor:
        """Return the conditioning vector `(batch, condition_dim)` of global codewords `(batch, dim)`, or the learnt one for None."""
        return self.null_g.expand(batch, -1) if g is None else self.condition(g)

    def local(self, s: Tensor, p: Tensor, rows: Rows) -> Tensor:
        """Bring S and P to the decoder's rate and add them.

        Args:
            s: codewords, float32 `(batch, frames of S, dim)`.
            p: codewords, float32 `(batch, frames of P, dim)`, of the same samples; at least as many as S.
            rows: where the decoder's frames of S stand.

        Returns:
            float32 `(batch, frames, dim)`, zero outside the clip.
        """
        fine = self.from_s(s).unflatten(-1, (self.factor_s, -1)).flatten(1, 2)
        return rows.cut(fine + self.from_p(p).unflatten(-1, (self.factor_p, -1)).flatten(1, 2)[:, : fine.shape[1]])

    def heads(self, local: Tensor, rows: Rows, condition: Tensor) -> Tensor:
        """Run the blocks.

        Args:
            local: what `local` returned.
            rows: where the frames to compute stand, `EDGE` frames beyond the tokens' on each side included.
            condition: float32 `(batch, condition_dim)`.

        Returns:
            float32 `(batch, frames, subframes * 3 * bins)`: of each subframe log magnitude and angle of the free part, log magnitude of the filter.
        """
        x = local
        for index, block in enumerate(self.blocks):
            x = block(x, rows, condition if index >= self.fused else None)
        return self.head(self.norm(x, condition)).float()

    def spectrum(self, heads: Tensor, rows: Rows, source: Source) -> Tensor:
        """Return the spectrum, complex64 `(batch, frames * subframes, n_fft / 2 + 1)`, zero outside the rows.

        Args:
            heads: what `heads` returned.
            rows: where its frames stand; from here on a frame is a subframe.
            source: of the harmonics, of the subframes of the same frames.
        """
        size = self.config.decoder
        noise = None if self.noisy is None else noise_spectrum(source.start, heads.shape[1] * size.subframes, size.n_fft)
        return torch.complex(*self.parts(heads, rows, source, None if noise is None else (noise.real, noise.imag)))

    def parts(self, heads: Tensor, rows: Rows, source: Source, noise: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the real and the imaginary part of what `spectrum` returns; `noise` are those of `noise_spectrum`, where there is noise."""
        rows.split(self.config.decoder.subframes)
        real, imaginary = self.mix(heads, source.f0, source.voice, source.phase, noise)
        return rows.cut(real), rows.cut(imaginary)

    def mix(self, heads: Tensor, f0: Tensor, voice: Tensor, phase: Tensor, noise: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the real and the imaginary part of a spectrum; see `Source` for `f0`, `voice` and `phase`."""
        subframes, n_fft = self.config.decoder.subframes, self.config.decoder.n_fft
        free, angle, shape = heads.unflatten(-1, (subframes, -1)).flatten(1, 2).split(self.bins, -1)
        lobe, turned = harmonics(f0, phase, n_fft, self.config.sample_rate)
        tone, level = lobe * (amplitude(shape) * voice.unsqueeze(-1)), amplitude(free)
        smooth = level if self.noisy is None else level * (1 - self.noisy)
        real = torch.addcmul(tone * torch.cos(turned), smooth, torch.cos(angle))
        imaginary = torch.addcmul(tone * torch.sin(turned), smooth, torch.sin(angle))
        if self.noisy is not None and noise is not None:
            rough = level * self.noisy
            real, imaginary = torch.addcmul(real, noise[0], rough), torch.addcmul(imaginary, noise[1], rough)
        return real, imaginary

    def waveform(self, spectrum: Tensor) -> Tensor:
        """Return the samples, float32 `(batch, (frames - 2 * EDGE) * hop)`, of all but the first and last `EDGE` frames of a spectrum."""
        return self.without_edges(self.inverse(spectrum))

    def without_edges(self, wave: Tensor) -> Tensor:
        """Return an inverse STFT without what is left of its edges: it leaves out two subframes at each end, which is all that it must."""
        spare = EDGE * (self.config.decoder.hop - self.config.decoder.stft_hop)
        return wave[:, spare : wave.shape[1] - spare]

    @property
    def block_future(self) -> int:
        """Frames behind its own that a frame of the blocks depends on."""
        return sum(block.conv.future for block in self.blocks)  # type: ignore[union-attr]

    @property
    def lag(self) -> int:
        """Frames of tokens behind its own that must be there before a frame's spectrum is known."""
        return max(self.block_future, self.pitch.context.future + (self.config.decoder.subframes > 1))

    @property
    def context(self) -> Context:
        """Decoder frames that a sample's frames depend on, before and after, save for the phase: the blocks' and those that overlap."""
        return Context(sum(block.conv.past for block in self.blocks) + EDGE, self.block_future + EDGE)  # type: ignore[union-attr]

    @property
    def phase_context(self) -> Context:
        """Decoder frames that the phases of a sample's frames depend on, before and after."""
        context, size = self.pitch.context, self.config.decoder
        near = EDGE + (size.subframes > 1)  # F0 runs from frame to frame where there are subframes
        return Context(context.past + size.phase_memory + near, context.future + near)


def noise_share(hz: float, bins: int, sample_rate: int) -> Tensor:
    """Return how much of each bin is noise, float32 `(bins,)`: none up to `hz`, all from an octave above."""
    return (torch.linspace(0, sample_rate / 2, bins) / hz - 1).clamp(0, 1)


def amplitude(log_magnitude: Tensor) -> Tensor:
    """Return the magnitude of a natural logarithm, at most that of `LOUDEST`."""
    return torch.exp(log_magnitude.clamp_max(LOUDEST))
