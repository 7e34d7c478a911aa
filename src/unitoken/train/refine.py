"""Stage 0, second part: the semantic encoder and its codebook learn together what the teacher's features need.

A codebook fitted to a finished encoder (`semantic_tokens.fit_codebook`) keeps what is large in the latent, which is not what tells words apart. Here
the teacher's features are foretold from the codewords, by a network that hears their neighbours, as the decoder will, and by a linear map of each
alone; encoder and codebook follow. Related: vq-wav2vec (arXiv 1910.05453) and RepCodec (arXiv 2309.00169).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..model.codec import Codec
from ..nn.blocks import ConvNeXtBlock
from ..nn.quantize import VectorQuantizer
from . import parallel
from .features import FeatureCache
from .loop import adamw, descend, run_loop
from .noise import NoiseBank
from .pool import Pool, Utterance
from .quantizers import AveragingTrainer, Quantized
from .record import keep_record
from .semantic import BETAS, LessonMaker, SemanticSettings, SemanticStudent, check_codebook, draw_of, regression_loss


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
        """Return what is foretold with and without the neighbours, each `(batch, frames, dim)`."""
        x = self.stem(codewords) * mask
        for block in self.blocks:
            x = block(x, mask)
        return self.out(self.norm(x)), self.alone(codewords)


class QuantizedStudent(nn.Module):
    """The student with its codebook and what reads the codewords.

    Args:
        codec: its semantic encoder and codebook are where the training begins; they are copied.
        settings: weights and autocast.

    Raises:
        TrainError: if its semantic quantizer is not one codebook.
    """

    def __init__(self, codec: Codec, settings: RefineSettings) -> None:
        super().__init__()
        check_codebook(codec.config)
        quantizer = VectorQuantizer(codec.config.semantic.quantizer)
        quantizer.load_state_dict(codec.quantizer_s.state_dict())
        self.student = SemanticStudent(codec.config)
        self.student.semantic.load_state_dict(codec.semantic.state_dict())
        self.trainer = AveragingTrainer(quantizer, settings.commitment)
        self.trainer.warm_start()
        self.reader = Reader(codec.config.semantic.quantizer.dim)
        self.autocast = settings.run.autocast

    def forward(self, magnitudes: Tensor, mask: Tensor, unquantized: Tensor, still: bool) -> tuple[Tensor, Tensor, Quantized]:
        """Return what is foretold with and without the neighbours, and what quantizing gave.

        Args:
            magnitudes: of perturbed speech.
            mask: float32 `(batch, frames, 1)`.
            unquantized: bool `(batch, 1, 1)`: utterances whose latents are read as they are.
            still: whether the encoder gets no gradient.
        """
        with torch.autocast(mask.device.type, torch.bfloat16, enabled=self.autocast):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not still):
                latent = self.student(magnitudes, mask)
            quantized = self.trainer(latent, mask)  # in full precision, as always
            together, alone = self.reader(torch.where(unquantized, latent.float(), quantized.codewords), mask)
        return together, alone, quantized


def train_refine(
    codec: Codec,
    pool: Pool,
    utterances: list[Utterance],
    cache: FeatureCache,
    folder: Path,
    settings: RefineSettings,
    *,
    noise: NoiseBank | None = None,
    device: torch.device | str = "cpu",
) -> QuantizedStudent:
    """Train the semantic encoder and its codebook for a while, or go on with the run in `folder`.

    Args:
        codec: what `join_codec` made of a semantic run, or any other with one semantic codebook; not changed.
        pool: the audio.
        utterances: what to train on.
        cache: the teacher's features of the pool.
        folder: checkpoints, log and the targets' projection.
        settings: how.
        noise: noise and rooms for the student's input.
        device: where to train.

    Returns:
        the student with averaged weights and codebook.

    Raises:
        TrainError: if the folder holds a run of another configuration or on other utterances, the semantic quantizer is not one codebook, or the
            loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool.check_rate(codec.config)
    keep_record(folder, utterances, settings=settings)
    torch.manual_seed(settings.run.seed)
    device = torch.device(device)
    module = QuantizedStudent(codec, settings).to(device).train()
    if settings.run.compile:
        module.student.semantic.compile()
    wrapped = parallel.wrap(module)
    optimizer = adamw(module.parameters(), settings.run.learning_rate, BETAS, device)
    lessons = LessonMaker(pool, utterances, cache, folder, codec.config, settings, noise, device)

    def step(number: int) -> tuple[dict[str, Tensor], Tensor]:
        drawn, generator = draw_of(number, settings.run.seed)
        lesson = lessons.make(drawn, generator)
        unquantized = torch.rand(len(lesson.mask), 1, 1, generator=generator) < settings.unquantized
        together, alone, quantized = wrapped(lesson.magnitudes, lesson.mask, unquantized.to(device, non_blocking=True), number < settings.still)
        values = {"together": regression_loss(together, lesson.target, lesson.mask), "alone": regression_loss(alone, lesson.target, lesson.mask)}
        values["commit"] = quantized.commitment
        loss = values["together"] + settings.alone * values["alone"] + values["commit"]
        norm = descend(optimizer, loss, number)
        logged = {"loss": loss.detach()} | {name: value.detach() for name, value in values.items()}
        return logged | {"perplexity": module.trainer.perplexity, "norm": norm}, lesson.seconds

    average = run_loop(folder, module, [optimizer], settings.run, step)
    module.load_state_dict(average.state)
    return module.eval()
