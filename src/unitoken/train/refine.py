"""Stage 0, second part: the semantic encoder and its codebook learn together what the teacher's features need.

A codebook fitted to a finished encoder (`semantic_tokens.fit_codebook`) keeps what is large in the latent, which is not what tells words apart. Here
the teacher's features are foretold from the codewords, by a network that hears their neighbours, as the decoder will, and by a linear map of each
alone; encoder and codebook follow. Related: vq-wav2vec (arXiv 1910.05453) and RepCodec (arXiv 2309.00169).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..model.codec import Codec
from ..nn.blocks import ConvNeXtBlock
from ..nn.flow import Rows
from ..nn.quantize import VectorQuantizer
from .phones import PhoneHead, phone_loss
from .quantizers import AveragingTrainer, Quantized
from .semantic import Lesson, LessonMaker, SemanticSettings, SemanticStudent, check_codebook, learn, regression_loss


@dataclass(frozen=True)
class RefineSettings(SemanticSettings):
    """Settings of the stage, beside those of the semantic stage.

    Attributes:
        alone: weight of the error of what single codewords tell; the network's, which hears their neighbours, weighs 1.
        commitment: weight of the pull of latents to their codewords.
        unquantized: share of the utterances whose latents the reader gets before quantizing.
        still: steps at the beginning in which the encoder does not move yet, while the reader learns to read.
    """

    alone: float = 0.5
    commitment: float = 0.25
    unquantized: float = 0.1
    still: int = 150


class Reader(nn.Module):
    """Foretells the teacher's features from codewords; only in training.

    Args:
        dim: of the codewords, and of the targets.
        blocks: convolution blocks of 7 frames each.
        hidden: channels.
    """

    def __init__(self, dim: int, blocks: int = 4, hidden: int = 256) -> None:
        super().__init__()
        self.stem = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(ConvNeXtBlock(hidden, 7, 3, 3, scale=0.25) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, dim)
        self.alone = nn.Linear(dim, dim)

    def forward(self, codewords: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is foretold with and without the neighbours, `(batch, frames, dim)` each.

        Args:
            codewords: float32 `(batch, frames, dim)`.
            mask: float32 `(batch, frames, 1)`: one on valid frames.
        """
        rows = Rows(mask)
        x = rows.cut(self.stem(codewords))
        for block in self.blocks:
            x = block(x, rows)
        return self.out(self.norm(x)), self.alone(codewords)


class QuantizedStudent(nn.Module):
    """The student with its codebook and what reads the codewords.

    Args:
        codec: its semantic encoder and codebook are where the training begins; they are copied.
        settings: weights and autocast.
        phones: how many phones are told from what the reader foretells; None for none.

    Raises:
        TrainError: if its semantic quantizer is not one codebook.
    """

    def __init__(self, codec: Codec, settings: RefineSettings, phones: int | None = None) -> None:
        super().__init__()
        check_codebook(codec.config)
        quantizer = VectorQuantizer(codec.config.semantic.quantizer)
        quantizer.load_state_dict(codec.quantizer_s.state_dict())
        self.student = SemanticStudent(codec.config)
        self.student.semantic.load_state_dict(codec.semantic.state_dict())
        self.trainer = AveragingTrainer(quantizer, settings.commitment)
        self.trainer.warm_start()
        self.reader = Reader(codec.config.semantic.quantizer.dim)
        self.phones = PhoneHead(codec.config.semantic.quantizer.dim, phones)
        self.run = settings.run

    def forward(self, magnitudes: Tensor, mask: Tensor, unquantized: Tensor, still: bool) -> tuple[Tensor, Tensor, Tensor | None, Quantized]:
        """Return what is foretold with and without the neighbours, `(batch, frames, dim)` each, logits of phones, and what quantizing gave.

        Args:
            magnitudes: of the STFT of perturbed speech, float32 `(batch, frames of the front end, bins)`.
            mask: float32 `(batch, frames, 1)`: one on valid frames.
            unquantized: bool `(batch, 1, 1)`: utterances whose latents are read as they are.
            still: whether the encoder gets no gradient.
        """
        with torch.autocast(mask.device.type, torch.bfloat16, enabled=self.run.in_bfloat16(mask.device)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not still):
                latent = self.student(magnitudes, mask)
            quantized = self.trainer(latent, mask)  # in full precision, as always
            together, alone = self.reader(torch.where(unquantized, latent.float(), quantized.codewords), mask)
            logits = self.phones(together)
        return together, alone, logits, quantized

    def foretell(self, magnitudes: Tensor, mask: Tensor) -> Tensor:
        """Return what the reader foretells from the codewords of all frames."""
        return self(magnitudes, mask, torch.zeros(len(mask), 1, 1, dtype=torch.bool, device=mask.device), True)[0]


def train_refine(codec: Codec, lessons: LessonMaker[RefineSettings]) -> QuantizedStudent:
    """Train the semantic encoder and its codebook for a while, or go on with the run in the lessons' folder.

    Args:
        codec: what `join_codec` made of a semantic run, or any other with one semantic codebook; not changed.
        lessons: what to learn from; their settings say how, and how long.

    Returns:
        the student with averaged weights and codebook.

    Raises:
        TrainError: if the folder holds a run of another configuration, the semantic quantizer is not one codebook, or the loss is no longer finite.
    """
    settings = lessons.settings
    torch.manual_seed(settings.run.seed)
    module = QuantizedStudent(codec, settings, lessons.number_of_phones).to(lessons.device).train()

    def losses(wrapped: nn.Module, lesson: Lesson, number: int, generator: torch.Generator) -> dict[str, Tensor]:
        unquantized = torch.rand(len(lesson.mask), 1, 1, generator=generator) < settings.unquantized
        still = number < settings.still
        together, alone, logits, quantized = wrapped(lesson.magnitudes, lesson.mask, unquantized.to(lessons.device, non_blocking=True), still)
        errors = [regression_loss(guess, lesson.target, lesson.mask) for guess in (together, alone)]
        misheard = phone_loss(logits, lesson.mask, lesson.phones)
        loss = errors[0] + settings.alone * errors[1] + quantized.commitment + settings.phones * misheard
        return {
            "loss": loss,
            "together": errors[0],
            "alone": errors[1],
            "phones": misheard,
            "commit": quantized.commitment,
            "perplexity": module.trainer.perplexity,
        }

    learn(module, module.student.semantic, lessons, losses)
    return module.eval()
