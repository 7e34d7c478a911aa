"""Holding S to the teacher while it is trained with the decoder, and letting the teacher hear what is decoded."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .quantizers import build_trainer, masked_mean
from .targets import Projection
from .teachers import Teacher


def share_of_variance(found: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the squared error as a share of the target's variance in the batch: 1 for a guess that knows nothing but the mean.

    Args:
        found: `(batch, frames, dim)`.
        target: of the same shape.
        mask: float32 `(batch, frames, 1)`: one on valid frames.
    """
    target = target.float()
    mean = (target * mask).sum((0, 1)) / mask.sum().clamp_min(1)
    return masked_mean((found.float() - target) ** 2, mask) / masked_mean((target - mean) ** 2, mask).clamp_min(1e-6)


@dataclass(frozen=True)
class Listener:
    """A teacher and what of its features counts.

    Attributes:
        teacher: of the semantic stage.
        projection: of its features to the semantic latent, as the codebook stage left it.
    """

    teacher: Teacher
    projection: Projection

    def hear(self, waveform: Tensor) -> Tensor:
        """Return float32 targets `(batch, teacher frames, dim)` of float32 `(batch, samples)` at 16 kHz, with gradients to the waveform."""
        return self.projection(self.teacher.features(waveform, padding=0))


class SemanticTrainer(nn.Module):
    """Trains a semantic encoder and its codebook that are trained already, together with a decoder.

    From S's codewords a linear map, which starts as identity, must tell the teacher's features, so that S goes on holding words whatever the decoder
    asks of it (the idea of SpeechTokenizer, Zhang et al., arXiv 2308.16692, section 3.2: distillation on what is quantized).

    Args:
        quantizer: of S.
        dim: of its latent.
        entropy: target of rate control, see `GumbelTrainer`.
    """

    def __init__(self, quantizer: nn.Module, dim: int, entropy: float = 0.95) -> None:
        super().__init__()
        self.trainer = build_trainer(quantizer, entropy)
        self.head = nn.Linear(dim, dim)
        nn.init.eye_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def warm_start(self) -> None:
        """Let the averages start from the codebook as it is."""
        self.trainer.warm_start()

    def forward(self, latent: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return codewords, float32 `(batch, frames, dim)` with gradients to the latent, and the losses `teach`, `commit_s` and `entropy_s`."""
        quantized = self.trainer(latent, mask)
        with torch.autocast(latent.device.type, enabled=False):
            teach = share_of_variance(self.head(quantized.codewords), target, mask)
        return quantized.codewords, {"teach": teach, "commit_s": quantized.commitment, "entropy_s": quantized.entropy}
