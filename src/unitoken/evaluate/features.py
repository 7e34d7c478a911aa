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
        tokenizer: whose codewords; S and P have one codebook each, G one or several.
    """

    def __init__(self, tokenizer: Codewords) -> None:
        self.books = {stream: tokenizer.codewords(stream) for stream in ("g", "s", "p")}

    def frames(self, bundle: TokenBundle, stream: str) -> Tensor:
        """Return a stream's codewords, float32 `(frames, dim)`; those of `g`, joined, stand in every frame.

        Raises:
            TokenError: if the bundle has no such stream.
        """
        tokens = {"g": bundle.g, "s": bundle.s, "p": bundle.p}[stream]
        if tokens is None:
            raise TokenError(f"the bundle has no {stream}, so there is nothing to probe; encode with all streams")
        if stream != "g":
            return self.books[stream][0][tokens]
        joined = torch.cat([book[token] for book, token in zip(self.books["g"], tokens.tolist(), strict=True)])
        return joined.expand(max(1, len(bundle.s)), -1)

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
