"""What a linear probe sees of a bundle: the codewords of its tokens, by frame and by clip."""

from typing import Protocol

import torch
from torch import Tensor

from ..errors import TokenError
from ..tokens import TokenBundle


class Codewords(Protocol):
    """The part of `unitoken.Tokenizer` that probes use."""

    def codewords(self, stream: str) -> Tensor:
        """Return float32 `(codebooks, codebook_size, dim)`."""
        ...


class BundleFeatures:
    """Turns bundles of one tokenizer into features.

    Args:
        tokenizer: whose codewords.
    """

    def __init__(self, tokenizer: Codewords) -> None:
        self.books = {stream: tokenizer.codewords(stream) for stream in ("g", "s", "p")}

    def frames(self, bundle: TokenBundle, stream: str) -> Tensor:
        """Return a stream's codewords, float32 `(frames, dim)`, those of several codebooks joined, at the finer frame rate of S and P.

        Those of `g` stand in every frame, those of a slower stream in all frames that they span.

        Raises:
            TokenError: if the bundle has no such stream.
        """
        tokens = {"g": bundle.g, "s": bundle.s, "p": bundle.p}[stream]
        if tokens is None:
            raise TokenError(f"the bundle has no {stream}, so there is nothing to probe; encode with all streams")
        info, count = bundle.info, max(1, len(bundle.s), 0 if bundle.p is None else len(bundle.p))
        rows = tokens.reshape(-1, len(self.books[stream]))
        joined = torch.cat([book[rows[:, index]] for index, book in enumerate(self.books[stream])], 1)
        if stream == "g":
            return joined.expand(count, -1)
        hop = {"s": info.s.hop, "p": info.p.hop}
        return joined.repeat_interleave(hop[stream] // min(hop.values()), 0)[:count]

    def clip(self, bundle: TokenBundle, streams: str) -> Tensor:
        """Return float32 `(dim,)`: mean and standard deviation over frames of `s` and `p`, and the codewords of `g`, those that are asked for.

        Raises:
            TokenError: if the bundle lacks a stream.
        """
        parts = list[Tensor]()
        for stream in streams:
            frames = self.frames(bundle, stream)
            parts.extend([frames[0]] if stream == "g" else [frames.mean(0), frames.std(0, correction=0)])
        return torch.cat(parts)
