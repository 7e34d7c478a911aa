"""A frozen teacher hears what is decoded: it is to hear the words that are in S.

Comparing waveforms in the features of a frozen speech encoder is the idea of LM-SPT's semantic-only resynthesis and of perceptual losses before it.
"""

import torch
from torch import Tensor

from .batches import frame_mask
from .quantizers import masked_mean
from .teachers import Teacher

LEAST = 1e-4  # standard deviation below which a feature says nothing


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
