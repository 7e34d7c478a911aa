"""`torch.compile` for the parts of a codec that are functions of tensors alone; what keeps track of frames stays as it is."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from ..nn.attention import AttentionBlock
from ..nn.blocks import ConvNeXtBlock
from .codec import Codec
from .decoder import Decoder

SPECTRUM = (Decoder, "mix")
BLOCKS = (ConvNeXtBlock, "mix"), (AttentionBlock, "attend")
"""Not on a CPU, where nearly all of their time is products, which no compiler makes faster."""


class Compiled:
    """A method that is compiled at its first call with float32 frames: once for all modules of the same sizes, whatever the number of frames.

    Args:
        method: of a class of modules, whose second argument is `(batch, frames, channels)`.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method, self.compiled = method, torch.compile(method, dynamic=True)

    def __call__(self, module: torch.nn.Module, frames: torch.Tensor, *others: Any) -> Any:
        """Call the method; as it is without frames, or with frames of another type."""
        method = self.compiled if frames.dtype == torch.float32 and frames.shape[1] else self.method
        return method(module, frames, *others)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Compiled":
        """Return itself: copies of modules share what is compiled."""
        return self


def parts_for(device: torch.device) -> tuple[tuple[type[torch.nn.Module], str], ...]:
    """Return the classes and methods that are compiled on a device."""
    return (SPECTRUM,) if device.type == "cpu" else (SPECTRUM, *BLOCKS)


def compile_parts(codec: Codec) -> None:
    """Have the parts of a codec, on its device, compiled when they are first called; names and values of weights stay as they are."""
    for kind, name in parts_for(codec.device):
        compiled = Compiled(getattr(kind, name))
        for module in codec.modules():
            if isinstance(module, kind):
                setattr(module, name, functools.partial(compiled, module))
