"""Which tokens another device, type or way to compute would flip, and how near to a border they were."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..arithmetic import one_arithmetic
from ..errors import ConfigError, ModelError, missing_extra
from ..model.encoding import ClipEncoder
from ..tokenizer import Tokenizer

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NEVER = -1.0
"""A bound that no margin is below: nothing is computed again."""


@dataclass(frozen=True)
class Backend:
    """A way to compute tokens.

    Attributes:
        device: where.
        type: of the products, by name: the tokens are taken as they come, none is computed again. None: as `Tokenizer.encode` does.
    """

    device: str
    type: str | None = None

    @classmethod
    def of(cls, text: str) -> "Backend":
        """Read `cpu`, `cuda`, `cpu/bfloat16`, `cuda/float32`, ...

        Raises:
            ConfigError: if it is none.
        """
        device, _, kind = text.partition("/")
        if not device or (kind and kind not in TYPES) or text.endswith("/"):
            raise ConfigError(f"a backend is a device, or a device and a type such as cpu/bfloat16, got {text!r}; types are {', '.join(TYPES)}")
        return cls(device, kind or None)

    def __str__(self) -> str:
        """Return its name."""
        return self.device if self.type is None else f"{self.device}/{self.type}"


@dataclass
class Flips:
    """What a backend did to one stream's tokens.

    Attributes:
        tokens: compared.
        flipped: that differ.
        margin: the largest among those of the flipped; 0 without any.
        moved: the longest way (L2) that a latent of S or P, or of G, went.
    """

    tokens: int = 0
    flipped: int = 0
    margin: float = 0.0
    moved: float = 0.0


Way = Callable[[Tensor], tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
"""Returns tokens and latents of a clip by stream."""


def verify_numerics(tokenizer: Tokenizer, clips: Iterable[Tensor], ways: Mapping[str, Way]) -> dict[str, dict[str, Flips]]:
    """Compare the tokens of speech with those of other ways to compute them.

    Args:
        tokenizer: whose tokens count.
        clips: waveforms at its sample rate, `(samples,)`.
        ways: by name, such as what `torch_way` and `onnx_way` return.

    Returns:
        by way, by stream (`s`, `p`, `g`).
    """
    found = {name: {stream: Flips() for stream in ("s", "p", "g")} for name in ways}
    for clip in clips:
        expected = tokenizer.encode(clip, sample_rate=tokenizer.sample_rate, latents=True, margins=True)
        if expected.margins is None or expected.latents is None:
            raise RuntimeError("margins and latents were asked for, and did not come")
        for name, way in ways.items():
            tokens, latents = way(clip)
            for stream, flips in found[name].items():
                own, margins = getattr(expected, stream), expected.margins[stream]
                differ = tokens[stream].view(own.shape) != own
                flips.tokens += own.numel()
                flips.flipped += int(differ.sum())
                if differ.any():
                    flips.margin = max(flips.margin, float(margins[differ].max()))
                if len(own):
                    flips.moved = max(flips.moved, float((latents[stream].float() - expected.latents[stream]).norm(dim=-1).max()))
    return found


def torch_way(backend: Backend, tokenizer: Tokenizer) -> Way:
    """Return how a backend computes, with a tokenizer of the same model on its device."""
    return lambda clip: _computed(backend, tokenizer, clip)


def onnx_way(folder: str | os.PathLike[str], tokenizer: Tokenizer) -> Way:
    """Return how what `unitoken export onnx` wrote computes.

    Raises:
        ModelError: if the folder is no such export, or of another model.
        MissingDependencyError: without the extra `[onnx]`.
    """
    if not (Path(folder) / "runner.json").is_file():
        raise ModelError(f"{folder} has no runner.json; give a folder that unitoken export onnx wrote")
    try:
        from ..onnx.runner import Runner
    except ImportError as error:
        raise missing_extra("ONNX", "onnx") from error
    runner = Runner(folder)
    if runner.config["fingerprint"] != tokenizer.fingerprint:
        raise ModelError(
            f"{folder} is an export of {runner.config['name']} ({runner.config['fingerprint'][:8]}), the tokenizer is "
            f"{tokenizer.config.name} ({tokenizer.fingerprint[:8]}); export it again, or give the model that it was made from"
        )

    def way(clip: Tensor) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        found = {name: torch.from_numpy(value) for name, value in runner.encode(clip.numpy(), latents=True).items()}
        return {stream: found[stream] for stream in "spg"}, {stream: found[f"{stream}_latent"] for stream in "spg"}

    return way


def _computed(backend: Backend, tokenizer: Tokenizer, clip: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tokens and latents of a clip by stream."""
    if backend.type is None:
        bundle = tokenizer.encode(clip, sample_rate=tokenizer.sample_rate, latents=True)
        return {stream: getattr(bundle, stream) for stream in "spg"}, dict(bundle.latents or {})
    encoder = ClipEncoder(tokenizer._codec)  # pyright: ignore[reportPrivateUsage]  - tokens as they come are for nobody else
    kind = TYPES[backend.type]
    encoder.bounds = dict.fromkeys("spg", NEVER)
    with one_arithmetic(tokenizer.device), torch.autocast(tokenizer.device.type, kind, enabled=kind != torch.float32):
        (encoded,) = encoder.encode([clip], latents=True)
        g, g_latent = encoder.global_tokens([clip], [encoded.statistics])
    return {"s": encoded.s, "p": encoded.p, "g": g}, {"s": encoded.s_latent, "p": encoded.p_latent, "g": g_latent}  # pyright: ignore[reportReturnType]
