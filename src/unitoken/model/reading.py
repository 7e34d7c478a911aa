"""One clip on its way through the encoders, in pieces of any size and in bounded memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..nn.flow import Rows
from ..nn.pooling import Statistics, merged
from .codec import Codec
from .encoder import Heard
from .settling import Again, Settler, Span, piece_latents
from .stage import NO_END, Held, Stage

Taken = Callable[[str, Tensor, Tensor], None]
"""Takes the next tokens of the stream `s` or `p`, int64 `(frames, codebooks)` on the CPU, and their latents, float32 `(frames, dim)`."""


def codewords_at(codec: Codec, tokens: Sequence[Held]) -> Heard:
    """Return what gives the codewords of S at frames of rows, whose tokens are these; of any token outside the clips."""

    def heard(rows: Rows, frames: int) -> Tensor:
        firsts = rows.numbers(1, torch.device("cpu"))[:, 0].tolist()
        at_hand = torch.stack([held.cut(first, frames) for held, first in zip(tokens, firsts, strict=True)])
        return codec.quantizer_s.dequantize(at_hand.to(codec.device))

    return heard


def computed_again(settler: Settler, stream: str, wave: Held, s: Held, begin: int, total: int | None) -> Again:
    """Return what computes frames of one clip again.

    Args:
        settler: has the twin that does.
        stream: `s` or `p`.
        wave: the clip's samples that are at hand.
        s: its tokens of S that are at hand.
        begin: number of the frame that is counted as the first.
        total: samples of the clip, if that is known.
    """

    def again(_: int, first: int, last: int) -> Tensor:
        twin = settler.twin
        heard = codewords_at(twin, [s]) if stream == "p" and twin.config.p_hears_s else None
        return piece_latents(twin, stream, [wave], [begin + first], last - first, [NO_END if total is None else total], heard)[0]

    return again


def front_end(codec: Codec) -> Stage:
    """Return the front end that P and G share, at a clip's beginning."""
    return Stage(codec.front_end, 1, codec.config.front_end.hop, codec.config.hop)


def as_row(codec: Codec, samples: Tensor, total: int | None) -> Tensor:
    """Return samples as a row `(1, samples)` of a codec's type and device; made up to whole frames with zeros at the end of a clip of so many."""
    padded = samples if total is None else F.pad(samples, (0, -total % codec.config.hop))
    return codec.own(padded[None])


class VoiceReader:
    """The moments that a clip's global tokens are made of, from its waveform, run after run.

    Args:
        codec: in float32 or float64.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._front_end = front_end(codec)
        self._encoder = Stage(codec.global_encoder, codec.config.front_end.hop, codec.hop_of("g"), codec.hop_of("g"))
        self.statistics: Statistics | None = None

    def push(self, waveform: Tensor, samples: int | None) -> Tensor:
        """Take samples `(1, samples)`; return the features that are complete, `(1, frames, mels)`. See `Stage.push`."""
        features = self._front_end.push(waveform, samples)[0][None]
        frames = self._encoder.push(features, samples)[0][None]
        self.statistics = merged([self.statistics, self.codec.moments(frames)])
        return features


class Reader:
    """Encodes one clip.

    Args:
        settler: decides on tokens.
        take: gets tokens and latents as soon as they are known.
    """

    def __init__(self, settler: Settler, take: Taken) -> None:
        self.settler, self.codec, self._take = settler, settler.codec, take
        codec = self.codec
        self.samples = 0
        self._wave = Held(torch.zeros(0, dtype=torch.float32))
        self._tokens = Held(torch.zeros(0, codec.config.semantic.quantizer.num_codebooks, dtype=torch.int64))
        self._features = codec.own(torch.zeros(1, 0, codec.config.front_end.mels))  # that P has not heard
        self._voice = VoiceReader(codec)
        self._semantic = Stage(lambda x, flow: codec.semantic(codec.front_end_s(x, flow), flow), 1, codec.hop_of("s"), codec.hop_of("s"))
        heard = codewords_at(codec, [self._tokens]) if codec.config.p_hears_s else None
        self._residual = Stage(lambda x, flow: codec.residual(x, flow, heard), codec.config.front_end.hop, codec.hop_of("p"), codec.hop_of("p"))

    def push(self, samples: Tensor, *, ends: bool = False) -> None:
        """Take the clip's next samples, float32 `(samples,)` on the CPU; `ends` says that these are the last."""
        self.samples += len(samples)
        if not self.samples:
            return
        self._wave.append(samples)
        total = self.samples if ends else None
        x = as_row(self.codec, samples, total)
        latents, first = self._semantic.push(x, total)
        self._tokens.append(self._settled("s", latents, first, total))
        self._features = torch.cat([self._features, self._voice.push(x, total)], 1)
        latents, first = self._residual.push(self._for_p(ends), total)
        self._settled("p", latents, first, total)
        self._forget(first + len(latents))

    @property
    def statistics(self) -> Statistics | None:
        """Of the frames of G so far; None before the first."""
        return self._voice.statistics

    def _for_p(self, ends: bool) -> Tensor:
        """Return the features that P may hear now: those for which the tokens of S are known that it hears."""
        count, codec = self._features.shape[1], self.codec
        if codec.config.p_hears_s and not ends:
            size = codec.config.front_end.hop
            count = (self._tokens.end * codec.config.hop_s - self._residual.at) // size + codec.residual.side_future
        ready, self._features = self._features[:, : max(0, count)], self._features[:, max(0, count) :]
        return ready

    def _settled(self, stream: str, latents: Tensor, begin: int, total: int | None) -> Tensor:
        """Pass on the tokens of latents, and return them."""
        again = computed_again(self.settler, stream, self._wave, self._tokens, begin, total)
        (tokens,) = self.settler.settle(stream, latents[None], [Span(0, 0, len(latents))], again)
        self._take(stream, tokens, latents.cpu())
        return tokens

    def _forget(self, next_p: int) -> None:
        """Let go of samples and tokens that nothing will be computed from again."""
        codec = self.codec
        needed = {
            "s": (self._tokens.end - codec.frames_heard("s").past) * codec.hop_of("s"),
            "p": (next_p - codec.frames_heard("p").past) * codec.hop_of("p"),
        }
        self._wave.forget(min(needed.values()))
        self._tokens.forget(needed["p"] // codec.hop_of("s"))
