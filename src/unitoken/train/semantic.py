"""Stage 0: the semantic encoder learns the teacher's features, clean speech for the teacher, perturbed speech for the student."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..errors import TrainError
from ..model.transformer import semantic_encoder
from ..nn.flow import Rows
from ..nn.spectral import LogMel
from . import parallel
from .augment import Perturbation, perturb
from .batches import collate
from .features import FeatureCache
from .loop import adamw, descend, run_loop
from .noise import NoiseBank
from .phones import PhoneHead, PhoneTable, phone_loss
from .pool import Pool, Utterance
from .record import keep_record
from .run import RunSettings, has_checkpoint
from .sampling import Crop, SpeakerSampler
from .store import AudioStore
from .targets import Projection


@dataclass(frozen=True)
class SemanticSettings:
    """Settings of the semantic stage.

    Attributes:
        run: time box, learning rate, log.
        batch: utterances a step.
        seconds: longest crop.
        perturbation: of the student's input.
        phones: weight of the loss for each phone, where phones are known.
    """

    run: RunSettings = field(default_factory=RunSettings)
    batch: int = 16
    seconds: float = 5.0
    perturbation: Perturbation = field(default_factory=Perturbation)
    phones: float = 0.1


class SemanticStudent(nn.Module):
    """The front end and the semantic encoder, by the names they have in the codec.

    Args:
        config: the codec's.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end_s = LogMel(config.front_end_s, config.sample_rate)
        self.semantic = semantic_encoder(config)

    def forward(self, magnitudes: Tensor, mask: Tensor) -> Tensor:
        """Return latents `(batch, frames, dim)` of STFT magnitudes."""
        return self.semantic(self.front_end_s.compress(magnitudes), Rows(mask))

    def foretell(self, magnitudes: Tensor, mask: Tensor) -> Tensor:
        """Return what it says the teacher's features are: its latents."""
        return self(magnitudes, mask)


class TaughtStudent(nn.Module):
    """The student with a head that tells phones.

    Args:
        student: what learns.
        phones: see `PhoneHead`.
    """

    def __init__(self, student: SemanticStudent, phones: int | None) -> None:
        super().__init__()
        self.student, self.phones = student, PhoneHead(student.config.semantic.quantizer.dim, phones)

    def forward(self, magnitudes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents and logits of phones.

        Args:
            magnitudes: of the STFT, float32 `(batch, frames of the front end, bins)`.
            mask: float32 `(batch, frames, 1)`: one on valid frames.

        Returns:
            `(batch, frames, dim)`, and `(batch, frames, phones + 1)`, the blank first, or None without phones.
        """
        latent = self.student(magnitudes, mask)
        return latent, self.phones(latent)


def check_codebook(config: CodecConfig) -> None:
    """Refuse a codec without one codebook of semantic tokens.

    Raises:
        TrainError: if the semantic quantizer is of another kind.
    """
    kind = config.semantic.quantizer.kind
    if kind != "vq":
        raise TrainError(f"these stages make one codebook, the semantic quantizer of {config.name} is {kind}; use kind vq")


def targets_of(cache: FeatureCache, projection: Projection, crops: Sequence[Crop], mask: Tensor) -> Tensor:
    """Return float32 targets `(batch, frames, dim)` of crops, zero where the mask, float32 `(batch, frames, 1)`, is."""
    return projection(cache.crop(crops, mask.shape[1])) * mask


def regression_loss(latent: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error over valid frames, as a share of the targets' variance (1: nothing learnt)."""
    return ((latent.float() - target) ** 2 * mask).sum() / (mask.sum() * target.shape[-1])


S = TypeVar("S", bound=SemanticSettings)


@dataclass(frozen=True)
class Lesson:
    """What the student hears in one step, and what it is to say.

    Attributes:
        magnitudes: of the STFT of perturbed speech, float32 `(batch, frames of the front end, bins)`.
        target: float32 `(batch, frames, dim)`, zero where the mask is.
        mask: float32 `(batch, frames, 1)`: one on valid frames.
        seconds: of audio in it, a scalar.
        phones: of each row, int64 on the CPU, empty where they are not known.
    """

    magnitudes: Tensor
    target: Tensor
    mask: Tensor
    seconds: Tensor
    phones: Sequence[Tensor] = ()


class LessonMaker(Generic[S]):
    """Makes each step's lesson, the same for the same number.

    Args:
        pool: the audio.
        utterances: what to draw from.
        cache: the teacher's features of the pool.
        folder: of the run, made if it is missing; the record of the run and the targets' projection are kept there.
        config: the codec's.
        settings: how.
        noise: noise and rooms for the student's input.
        device: where lessons are made.
        phones: of the utterances, where they are known.

    Raises:
        TrainError: if the pool's rate is not the codec's, or the folder holds a run on other utterances.
    """

    def __init__(
        self,
        pool: Pool,
        utterances: list[Utterance],
        cache: FeatureCache,
        folder: Path,
        config: CodecConfig,
        settings: S,
        noise: NoiseBank | None = None,
        device: torch.device | str = "cpu",
        phones: PhoneTable | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pool.check_rate(config)
        keep_record(folder, utterances, settings=settings)
        self.folder, self.settings, self.config, self.device = folder, settings, config, torch.device(device)
        self.front_end = LogMel(config.front_end_s, config.sample_rate).to(self.device)
        self.projection = _projection(folder, cache, utterances, config).to(self.device)
        self.sampler = SpeakerSampler(utterances, sources=pool.sources, seed=settings.run.seed)
        self.longest = int(settings.seconds * config.sample_rate) // config.hop_s * config.hop_s
        self.audio, self.features = AudioStore(pool).to(self.device), cache.to(self.device)
        self.noise, self.phones = noise.to(self.device) if noise else None, phones

    @property
    def number_of_phones(self) -> int | None:
        """How many phones there are to tell, None for nothing."""
        return None if self.phones is None else len(self.phones.symbols)

    @torch.no_grad()
    def make(self, number: int, generator: torch.Generator) -> Lesson:
        """Return a lesson; `generator` (CPU) draws noise and perturbation."""
        hop = self.config.hop_s
        crops = self.sampler.draw(number, self.settings.batch, self.longest, hop)
        batch = collate(self.audio, crops, hop, self.noise, generator)
        target = targets_of(self.features, self.projection, crops, batch.mask)
        magnitudes = perturb(self.front_end.magnitudes(batch.degraded), self.settings.perturbation, generator)
        phones = self.phones.of(crops) if self.phones else ()
        return Lesson(magnitudes, target, batch.mask, batch.mask.sum() * (hop / self.config.sample_rate), phones)

    @torch.no_grad()
    def clean(self, utterances: Sequence[Utterance]) -> Lesson:
        """Return a lesson of the beginnings of utterances, with nothing perturbed: for validation."""
        hop = self.config.hop_s
        crops = [Crop(utterance, 0, min(utterance.samples, self.longest)) for utterance in utterances]
        batch = collate(self.audio, crops, hop, None, torch.Generator())
        target = targets_of(self.features, self.projection, crops, batch.mask)
        return Lesson(self.front_end.magnitudes(batch.clean), target, batch.mask, batch.mask.sum() * (hop / self.config.sample_rate))


def train_semantic(lessons: LessonMaker[SemanticSettings], start: Callable[[SemanticStudent], None] | None = None) -> SemanticStudent:
    """Train the semantic encoder for a while, or go on with the run in the lessons' folder.

    Args:
        lessons: what to learn from; their settings say how long.
        start: what sets the weights, on the CPU, that a new run begins with; None leaves them random.

    Returns:
        the student with averaged weights.

    Raises:
        TrainError: if the folder holds a run of another configuration, or the loss is no longer finite.
    """
    torch.manual_seed(lessons.settings.run.seed)
    student = SemanticStudent(lessons.config)
    if start is not None and not has_checkpoint(lessons.folder):
        start(student)
    module = TaughtStudent(student, lessons.number_of_phones).to(lessons.device)

    def losses(wrapped: nn.Module, lesson: Lesson, number: int, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.autocast(lessons.device.type, torch.bfloat16, enabled=lessons.settings.run.in_bfloat16(lessons.device)):
            latent, logits = wrapped(lesson.magnitudes, lesson.mask)
        missed, misheard = regression_loss(latent, lesson.target, lesson.mask), phone_loss(logits, lesson.mask, lesson.phones)
        return {"loss": missed + lessons.settings.phones * misheard, "missed": missed, "phones": misheard}

    learn(module, student.semantic, lessons, losses)
    return student


Losses = Callable[[nn.Module, Lesson, int, torch.Generator], dict[str, Tensor]]
"""Scalars of one step, `loss` first: of the module as its processes share it, the lesson, the step's number, and what draws its chances (CPU)."""


def learn(module: nn.Module, encoder: nn.Module, lessons: LessonMaker[S], losses: Losses) -> None:
    """Train a module on lessons, or go on with the run in their folder, and give it its averaged weights.

    Args:
        module: what learns, on the lessons' device.
        encoder: the part of it to compile, where that is asked for.
        lessons: their settings say how long.
        losses: see `Losses`; all scalars are logged, `loss` is learnt.

    Raises:
        TrainError: if the folder holds a run of another configuration, or the loss is no longer finite.
    """
    run = lessons.settings.run
    if run.compile:
        encoder.compile()
    wrapped = parallel.wrap(module)
    optimizer = adamw(module.parameters(), run.learning_rate, (0.9, 0.98), lessons.device)

    def step(number: int) -> tuple[dict[str, Tensor], Tensor]:
        drawn = number * parallel.world() + parallel.rank()
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + drawn)
        lesson = lessons.make(drawn, generator)
        values = losses(wrapped, lesson, number, generator)
        norm = descend(optimizer, values["loss"], number)
        return {name: value.detach() for name, value in values.items()} | {"norm": norm}, lesson.seconds

    module.load_state_dict(run_loop(lessons.folder, module, [optimizer], run, step).state)


def _projection(folder: Path, cache: FeatureCache, utterances: Sequence[Utterance], config: CodecConfig) -> Projection:
    """Return the projection of a run, the same in all its processes: the first fits it, the others wait."""
    path = folder / "targets.safetensors"
    if parallel.rank() == 0 and not path.exists():
        Projection.fit(cache, utterances, config.semantic.quantizer.dim).save(path)
    parallel.wait()
    return Projection.load(path)
