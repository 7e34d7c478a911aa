"""What is decoded is heard: a frozen teacher is to hear the words that are in S, the global encoder the voice that is in G.

Comparing waveforms in the features of a frozen speech encoder is the idea of LM-SPT's semantic-only resynthesis and of perceptual losses before it.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .batches import frame_mask
from .quantizers import masked_mean
from .teachers import Teacher

LEAST = 1e-4  # standard deviation below which a feature says nothing


@contextmanager
def only_listening(*modules: nn.Module) -> Generator[None]:
    """Let gradients pass through modules to what they hear, but not to their own weights."""
    weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def heard_error(teacher: Teacher, decoded: Tensor, clean: Tensor, samples: Tensor) -> Tensor:
    """Return how far what a teacher hears in decoded speech is from what it hears in clean speech, with gradients to the decoded one only.

    The error of each feature is divided by its standard deviation over the clean batch, so that 1 is as far as guessing the mean would be.

    Args:
        teacher: of 16 kHz speech.
        decoded: float32 `(batch, samples)`.
        clean: float32 `(batch, samples)`.
        samples: int64 `(batch,)`: how many of them are speech.
    """
    with torch.no_grad():
        target = teacher.features(clean, padding=0)
        mask = frame_mask(samples, target.shape[1], 16000 // teacher.frame_rate)
        frames = mask.sum().clamp_min(1)
        mean = (target * mask).sum((0, 1)) / frames
        spread = (((target - mean) ** 2 * mask).sum((0, 1)) / frames).sqrt().clamp_min(LEAST)
    return masked_mean(((teacher.features(decoded, padding=0) - target) / spread) ** 2, mask)


def voice_error(heard: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
    """Return how far the voice that is heard is from the one that is wanted; 1 is as far as the speaker's own voice.

    Args:
        heard: float32 `(batch, dim)`, latents of G, with gradients.
        wanted: float32 `(batch, dim)`.
        own: float32 `(batch, dim)`.
    """
    wanted, own = wanted.detach(), own.detach()
    return (heard - wanted).square().sum() / (own - wanted).square().sum().clamp_min(LEAST)
