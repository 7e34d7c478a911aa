"""What is exported: the codec's parts as functions of tensors of any length, without complex numbers and without state.

A graph works on windows: rows of samples or tokens that hold their context, anything outside their clips. Where a row begins in its clip and how
long that is are inputs, so that layers see the zeros beyond a clip's ends that they always see.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.codec import Codec
from ..model.decoder import EDGE
from ..model.pitch import Source
from ..nn.flow import Rows
from ..nn.spectral import LogMel, overlap_add
from .fourier import Forward, Inverse, frames_of

NONE = -1
"""Token that stands for none: of P and G, whose learnt null inputs then take their place."""


class Window(Rows):
    """Rows whose places in their clips are tensors.

    Args:
        start: int64 `(batch,)`: the sample of its clip at which each row begins, a multiple of the hop.
        length: int64 `(batch,)`: samples of each row's clip.
        hop: samples of a frame.
    """

    def __init__(self, start: Tensor, length: Tensor, hop: int = 1) -> None:
        super().__init__()
        self.start, self.length, self.hop = start.unsqueeze(1), length.unsqueeze(1), hop

    def clips(self, frames: int, past: int, future: int, device: torch.device) -> Tensor | None:
        """See `Rows.clips`."""
        return self._inside(-past, frames + future)

    def cut(self, x: Tensor) -> Tensor:
        """See `Rows.cut`."""
        return x * self._inside(0, x.shape[1]).unsqueeze(-1)

    def join(self, factor: int) -> None:
        """See `Rows.join`."""
        self.hop *= factor

    def split(self, factor: int) -> None:
        """See `Rows.split`."""
        self.hop //= factor

    def numbers(self, frames: int, device: torch.device) -> Tensor:
        """See `Rows.numbers`."""
        return torch.div(self.start, self.hop, rounding_mode="floor") + torch.arange(frames, device=device)

    def _inside(self, begin: int, end: int) -> Tensor:
        at = self.start + torch.arange(begin, end, device=self.start.device) * self.hop
        return (at >= 0) & (at < self.length)


class RealLogMel(nn.Module):
    """A log-mel front end in real numbers.

    Args:
        front_end: the codec's.
    """

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        self.front_end = front_end
        self.transform = Forward(front_end.window, front_end.config.n_fft)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return what `LogMel` returns of rows with zeros beyond both ends."""
        config, reach = self.front_end.config, self.front_end.reach
        wide = F.pad(waveform, (reach, config.window - config.hop - reach))
        real, imaginary = self.transform(frames_of(wide, config.window, config.hop))
        return self.front_end.compress(torch.sqrt(real * real + imaginary * imaginary))


class EncoderGraph(nn.Module):
    """Samples to tokens of S and P, and to what G is made of.

    Args:
        codec: in eval mode.
    """

    INPUTS = ("waveform", "start", "length")
    OUTPUTS = ("s", "p", "s_latent", "p_latent", "voice", "weight")

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        self.mel, self.mel_s = RealLogMel(codec.front_end), RealLogMel(codec.front_end_s)

    def forward(self, waveform: Tensor, start: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        """Encode windows.

        Args:
            waveform: float32 `(batch, samples)`, whole frames, zero outside the clips.
            start: int64 `(batch,)`, see `Window`.
            length: int64 `(batch,)`.

        Returns:
            tokens of S and P, int64 `(batch, frames, codebooks)`; their latents `(batch, frames, dim)`; frames of G before pooling and the
            weights of each, float32 `(batch, frames, channels)`.
        """
        codec = self.codec

        def rows(stream: str) -> Window:
            unit = codec.hop_of(stream)
            return Window(start, torch.div(length + unit - 1, unit, rounding_mode="floor") * unit, codec.config.front_end.hop)

        latent_s = codec.semantic(self.mel_s(waveform), rows("s"))
        s, words = codec.quantizer_s.quantize(latent_s)
        features = self.mel(waveform)
        latent_p = codec.residual(features, rows("p"), words if codec.config.p_hears_s else None)
        voice = codec.global_encoder(features, rows("g"))
        return s, codec.quantizer_p.quantize(latent_p)[0], latent_s, latent_p, voice, torch.exp(codec.pooling.bounded(voice))


class VoiceGraph(nn.Module):
    """Pooled moments to the tokens of G.

    Args:
        codec: in eval mode.
    """

    INPUTS = ("pooled",)
    OUTPUTS = ("g", "g_latent")

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens, int64 `(batch, num_g)`, and their latent, of mean and standard deviation, float32 `(batch, 2 * channels)`."""
        latent = self.codec.global_out(pooled)
        return self.codec.quantizer_g.quantize(latent)[0], latent


class Spoken(nn.Module):
    """Tokens to codewords and condition, learnt null inputs where there are none.

    Args:
        codec: in eval mode.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, s: Tensor, p: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codewords of S and P, and the condition; see `PitchGraph`."""
        codec, decoder = self.codec, self.codec.decoder
        null_p = torch.where(p[..., :1] < 0, decoder.null_p, codec.quantizer_p.dequantize(p.clamp_min(0)))
        condition = torch.where(g[:, :1] < 0, decoder.null_g, decoder.condition(codec.quantizer_g.dequantize(g.clamp_min(0))))
        return codec.quantizer_s.dequantize(s.clamp_min(0)), null_p, condition


class PitchGraph(nn.Module):
    """Tokens to F0 and voicing.

    Args:
        codec: in eval mode.
    """

    INPUTS = ("s", "p", "g", "start", "length")
    OUTPUTS = ("log_f0", "voiced")

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec, self.spoken = codec, Spoken(codec)

    def forward(self, s: Tensor, p: Tensor, g: Tensor, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Predict F0.

        Args:
            s: int64 `(batch, frames of S, codebooks)`, any outside the clips.
            p: int64 `(batch, frames of P, codebooks)`, of the same samples, or `NONE`.
            g: int64 `(batch, num_g)`, or `NONE`.
            start: int64 `(batch,)`, see `Window`.
            length: int64 `(batch,)`, samples of whole frames.

        Returns:
            natural logarithm of F0 in Hz, and the probability of voice, float32 `(batch, frames of the decoder)`, zero outside the clips.
        """
        words, rest, condition = self.spoken(s, p, g)
        rows = Window(start, length, self.codec.config.decoder.hop)
        log_f0, voice = self.codec.decoder.pitch(words, rest, rows, condition)
        both = rows.cut(torch.stack([log_f0, torch.sigmoid(voice)], -1))
        return both[..., 0], both[..., 1]


class WaveGraph(nn.Module):
    """Tokens, their source and noise to samples.

    Args:
        codec: in eval mode.
    """

    INPUTS = ("s", "p", "g", "f0", "voiced", "phase", "noise", "start", "length")
    OUTPUTS = ("waveform",)

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec, self.spoken, size = codec, Spoken(codec), codec.config.decoder
        self.quiet = 0 if codec.decoder.noisy is None else int((codec.decoder.noisy == 0).sum())  # bins below the noise
        window = torch.hann_window(size.n_fft, dtype=torch.float64)
        self.noise = Forward(window / window.square().sum().sqrt(), size.n_fft, self.quiet)
        self.inverse = Inverse(codec.decoder.inverse.window)

    def forward(
        self, s: Tensor, p: Tensor, g: Tensor, f0: Tensor, voiced: Tensor, phase: Tensor, noise: Tensor, start: Tensor, length: Tensor
    ) -> Tensor:
        """Decode windows.

        Args:
            s: as for `PitchGraph`, as are `p`, `g`, `start` and `length`.
            p: see there.
            g: see there.
            f0: float32 `(batch, frames * subframes)`, Hz.
            voiced: float32 `(batch, frames * subframes)`: strength of the harmonics.
            phase: float64 `(batch, frames * subframes)`, radians.
            noise: float32 `(batch, (frames * subframes + 3) * stft hop)`: from 1.5 hops before the first frame on; anything where there is none.
            start: see `PitchGraph`.
            length: see `PitchGraph`.

        Returns:
            float32 `(batch, samples)`: of all frames but the first and last `EDGE`.
        """
        decoder, size = self.codec.decoder, self.codec.config.decoder
        words, rest, condition = self.spoken(s, p, g)
        local = decoder.local(words, rest, Window(start, length, size.hop))
        wide = Window(start + EDGE * size.hop, length + 2 * EDGE * size.hop, size.hop)
        heads = decoder.heads(local, wide, condition)
        made = None
        if decoder.noisy is not None:
            parts = self.noise(frames_of(noise, size.n_fft, size.stft_hop))
            made = F.pad(parts[0], (self.quiet, 0)), F.pad(parts[1], (self.quiet, 0))
        pieces = self.inverse(*decoder.parts(heads, wide, Source(f0, voiced, phase, start), made))
        return decoder.without_edges(overlap_add(pieces, size.stft_hop))
