"""The one arithmetic in which a model computes, whatever its caller has set."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def one_arithmetic(device: torch.device) -> Generator[None]:
    """Compute without gradients in full float32; the caller's settings are back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
