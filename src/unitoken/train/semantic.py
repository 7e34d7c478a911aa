"""Stage 0: the semantic encoder learns the teacher's features, clean speech for the teacher, perturbed speech for the student."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..model.encoder import Encoder
from ..nn.spectral import LogMel
from . import parallel
from .augment import Perturbation, perturb
from .batches import Batch, collate
from .features import FeatureCache
from .loop import descend, run_loop
from .noise import NoiseBank
from .pool import Pool, Utterance
from .run import RunSettings
from .sampling import Crop, SpeakerSampler
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
        return self.semantic(self.front_end.compress(magnitudes) * mask.repeat_interleave(self.config.semantic.encoder.stride, 1), mask)


def targets_of(cache: FeatureCache, projection: Projection, crops: list[Crop], hop: int, frames: int) -> Tensor:
    """Return float32 targets `(batch, frames, dim)` of crops, zero behind their ends."""
    rows = list[Tensor]()
    for crop in crops:
        held = projection(torch.from_numpy(cache.get(crop.utterance, crop.start // hop, frames).copy()))
        held = held[: -(-crop.samples // hop)]
        rows.append(F.pad(held, (0, 0, 0, frames - len(held))))
    return torch.stack(rows)


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
        TrainError: if the folder holds another configuration's run, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.run.seed)
    device = torch.device(device)
    student = SemanticStudent(config).to(device)
    wrapped = parallel.wrap(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.run.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    projection = _projection(folder, cache, config)
    sampler, hop = SpeakerSampler(utterances, seed=settings.run.seed), config.hop_s
    longest = int(settings.seconds * config.sample_rate) // hop * hop

    def step(number: int) -> tuple[dict[str, Tensor], float]:
        drawn = number * parallel.world() + parallel.rank()
        crops = sampler.draw(drawn, settings.batch, longest, hop)
        batch = collate(pool, crops, hop, noise, (settings.run.seed, drawn))
        target = targets_of(cache, projection, crops, hop, batch.mask.shape[1])
        generator = torch.Generator().manual_seed(settings.run.seed * 1_000_003 + drawn)
        loss = semantic_step(student, wrapped, batch, target, settings, generator)
        norm = descend(optimizer, student, loss, number)
        return {"loss": loss.detach(), "norm": norm}, batch.mask.sum().item() * hop / config.sample_rate

    average = run_loop(folder, student, [optimizer], settings.run, step)
    student.load_state_dict(average.state)
    return student


def semantic_step(
    student: SemanticStudent, wrapped: nn.Module, batch: Batch, target: Tensor, settings: SemanticSettings, generator: torch.Generator
) -> Tensor:
    """Return the loss of one step on perturbed input; `wrapped` is the student, or what averages its gradients over processes."""
    device = next(student.parameters()).device
    with torch.no_grad():
        magnitudes = perturb(student.front_end.magnitudes(batch.degraded.to(device)), settings.perturbation, generator)
    mask = batch.mask.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.run.autocast):
        latent = wrapped(magnitudes, mask)
    return regression_loss(latent, target.to(device), mask)


def _projection(folder: Path, cache: FeatureCache, config: CodecConfig) -> Projection:
    path = folder / "targets.safetensors"
    if not path.exists():
        Projection.fit(cache, config.semantic.quantizer.dim).save(path)
    return Projection.load(path)
