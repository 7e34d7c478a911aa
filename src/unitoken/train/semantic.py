"""Stage 0: the semantic encoder learns the teacher's features, clean speech for the teacher, perturbed speech for the student."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import CodecConfig
from ..model.encoder import Encoder
from ..nn.spectral import LogMel
from . import parallel
from .augment import Perturbation, perturb
from .batches import Batch, collate
from .features import FeatureCache
from .loop import adamw, descend, run_loop
from .noise import NoiseBank
from .pool import Pool, Utterance
from .record import keep_record
from .run import RunSettings
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
    """

    run: RunSettings = field(default_factory=RunSettings)
    batch: int = 16
    seconds: float = 5.0
    perturbation: Perturbation = field(default_factory=Perturbation)


class SemanticStudent(nn.Module):
    """The front end and the semantic encoder, by the names they have in the codec.

    Args:
        config: the codec's.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = LogMel(config.front_end, config.sample_rate)
        self.semantic = Encoder(config.semantic.encoder, config.front_end.mels, config.semantic.quantizer.dim)

    def forward(self, magnitudes: Tensor, mask: Tensor) -> Tensor:
        """Return latents `(batch, frames, dim)` of STFT magnitudes."""
        return self.semantic(self.front_end.compress(magnitudes), mask)


def targets_of(cache: FeatureCache, projection: Projection, crops: Sequence[Crop], mask: Tensor) -> Tensor:
    """Return float32 targets `(batch, frames, dim)` of crops, zero where the mask, float32 `(batch, frames, 1)`, is."""
    return projection(cache.crop(crops, mask.shape[1])) * mask


def regression_loss(latent: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error over valid frames, as a share of the targets' variance (1: nothing learnt)."""
    return ((latent.float() - target) ** 2 * mask).sum() / (mask.sum() * target.shape[-1])


def train_semantic(
    pool: Pool,
    utterances: list[Utterance],
    cache: FeatureCache,
    folder: Path,
    config: CodecConfig,
    settings: SemanticSettings,
    *,
    noise: NoiseBank | None = None,
    device: torch.device | str = "cpu",
) -> SemanticStudent:
    """Train the semantic encoder for a while, or go on with the run in `folder`.

    Args:
        pool: the audio.
        utterances: what to train on.
        cache: the teacher's features of the pool.
        folder: checkpoints, log and the targets' projection.
        config: the codec's configuration.
        settings: how.
        noise: noise and rooms for the student's input.
        device: where to train.

    Returns:
        the student with averaged weights.

    Raises:
        TrainError: if the folder holds a run of another configuration or on other utterances, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool.check_rate(config)
    keep_record(folder, utterances, settings=settings)
    torch.manual_seed(settings.run.seed)
    device = torch.device(device)
    student = SemanticStudent(config).to(device)
    if settings.run.compile:
        student.semantic.compile()
    wrapped = parallel.wrap(student)
    optimizer = adamw(student.parameters(), settings.run.learning_rate, (0.9, 0.98), device)
    projection = _projection(folder, cache, utterances, config).to(device)
    sampler, hop = SpeakerSampler(utterances, sources=pool.sources, seed=settings.run.seed), config.hop_s
    longest = int(settings.seconds * config.sample_rate) // hop * hop
    audio, features, bank = AudioStore(pool).to(device), cache.to(device), noise.to(device) if noise else None

    def step(number: int) -> tuple[dict[str, Tensor], Tensor]:
        drawn = number * parallel.world() + parallel.rank()
        generator = torch.Generator().manual_seed(settings.run.seed * 1_000_003 + drawn)
        crops = sampler.draw(drawn, settings.batch, longest, hop)
        batch = collate(audio, crops, hop, bank, generator)
        loss = semantic_step(student, wrapped, batch, targets_of(features, projection, crops, batch.mask), settings, generator)
        norm = descend(optimizer, loss, number)
        return {"loss": loss.detach(), "norm": norm}, batch.mask.sum() * (hop / config.sample_rate)

    average = run_loop(folder, student, [optimizer], settings.run, step)
    student.load_state_dict(average.state)
    return student


def semantic_step(
    student: SemanticStudent, wrapped: nn.Module, batch: Batch, target: Tensor, settings: SemanticSettings, generator: torch.Generator
) -> Tensor:
    """Return the loss of one step on perturbed input; `wrapped` is the student, or what averages its gradients over processes."""
    with torch.no_grad():
        magnitudes = perturb(student.front_end.magnitudes(batch.degraded), settings.perturbation, generator)
    with torch.autocast(batch.mask.device.type, torch.bfloat16, enabled=settings.run.autocast):
        latent = wrapped(magnitudes, batch.mask)
    return regression_loss(latent, target, batch.mask)


def _projection(folder: Path, cache: FeatureCache, utterances: Sequence[Utterance], config: CodecConfig) -> Projection:
    """Return the projection of a run, the same in all its processes: the first fits it, the others wait."""
    path = folder / "targets.safetensors"
    if parallel.rank() == 0 and not path.exists():
        Projection.fit(cache, utterances, config.semantic.quantizer.dim).save(path)
    parallel.wait()
    return Projection.load(path)
