"""How much of a voice G holds: from how long a reference, from how many, and what quantizing takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..tokens import TokenBundle
from .codecs import SAMPLE_RATE
from .speakers import SpeakerEmbedder

SECONDS = (1, 2, 3, 5, 10)
COUNTS = (1, 2, 4)


class Voice(Protocol):
    """What is measured: a tokenizer that takes one reference or several."""

    def encode(self, audio: Tensor, /, *, sample_rate: int, latents: bool = False) -> TokenBundle:
        """Return a bundle of float32 `(samples,)`, with what its tokens were before quantization if asked for."""
        ...

    def encode_global(self, audio: Any, /, *, sample_rate: int) -> Tensor:
        """Return the global tokens of one voice from a list of references."""
        ...

    def decode(self, bundle: TokenBundle, /, *, quantized_g: bool = True) -> Tensor:
        """Return float32 `(samples,)`, in the voice of `g` or of its latent before quantization."""
        ...


@dataclass(frozen=True)
class Speaker:
    """Clips of one voice.

    Attributes:
        name: who.
        clips: float32 `(samples,)` at 16 kHz each.
    """

    name: str
    clips: Sequence[Tensor]


def by_reference(tokenizer: Voice, speakers: Sequence[Speaker], carrier: Tensor, embedder: SpeakerEmbedder) -> dict[str, tuple[float, int]]:
    """Return how near a sentence decoded with a voice's G comes to that voice, by what G was heard from.

    One carrier sentence is decoded in every voice, so that nothing but G differs. What is compared with is the voice of all clips of the speaker.

    Args:
        tokenizer: the model.
        speakers: voices; one without enough audio for a row is left out of it.
        carrier: the sentence, float32 `(samples,)` at 16 kHz, of another speaker.
        embedder: of voices.

    Returns:
        `N s` for references of that length, `N clips` for that many whole ones and, for all clips of the speaker joined, `all` and `all, not
        quantized` -> mean cosine, and how many speakers it is the mean of.

    Raises:
        ConfigError: without speakers.
    """
    if not speakers:
        raise ConfigError("no speakers to measure; give one or more with clips")
    bundle = tokenizer.encode(carrier, sample_rate=SAMPLE_RATE)
    lengths, counts = ({f"{seconds} s": list[float]() for seconds in SECONDS}, {f"{count} clips": list[float]() for count in COUNTS})
    rows = {**lengths, **counts, "all": list[float](), "all, not quantized": list[float]()}
    for speaker in speakers:
        voice = torch.nn.functional.normalize(torch.stack([embedder.embed(clip) for clip in speaker.clips]).mean(0), dim=0)
        joined = torch.cat(list(speaker.clips))
        given: dict[str, list[Tensor]] = {f"{n} s": [joined[: n * SAMPLE_RATE]] for n in SECONDS if len(joined) >= n * SAMPLE_RATE}
        given |= {f"{n} clips": list(speaker.clips[:n]) for n in COUNTS if len(speaker.clips) >= n}
        for name, references in given.items():
            g = tokenizer.encode_global(references, sample_rate=SAMPLE_RATE)
            rows[name].append(float(embedder.embed(tokenizer.decode(bundle.replace(g=g))) @ voice))
        heard = tokenizer.encode(joined, sample_rate=SAMPLE_RATE, latents=True)
        converted = bundle.replace(g=heard.g, latents=heard.latents)
        for name, quantized in (("all", True), ("all, not quantized", False)):
            rows[name].append(float(embedder.embed(tokenizer.decode(converted, quantized_g=quantized)) @ voice))
    return {name: (sum(values) / len(values), len(values)) for name, values in rows.items() if values}
