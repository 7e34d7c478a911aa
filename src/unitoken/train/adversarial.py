"""Stage 2: the reconstruction stage goes on, and discriminators add what a distance of spectra does not hear."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import TrainError
from ..model.codec import Codec
from . import parallel
from .discriminators import Discriminators, DiscriminatorSettings, discriminator_loss, generator_loss, limit_band, matching_loss
from .examples import Example, ExampleMaker, ReconstructionSettings
from .loop import adamw, descend, run_loop
from .reconstruction import Reconstructor
from .record import keep_record
from .run import RunSettings
from .teachers import Teacher

LOSSES = ("hinge", "least_squares")


@dataclass(frozen=True)
class AdversarialSettings:
    """Settings of the adversarial stage.

    Attributes:
        reconstruction: losses that go on from the stage before.
        discriminators: sizes.
        loss: `hinge` or `least_squares`.
        adversarial: weight of the generator's loss; the mel loss has 1 and is about 0.3.
        matching: weight of feature matching.
        warmup: steps in which the discriminators learn and the generator hears nothing of them.
        ramp: steps after that over which both weights grow to their full size.
        seconds: piece of each crop that the discriminators judge.
        scale: the discriminators' learning rate, as a share of the generator's.
        decoder_only: leave both encoders, their quantizers and so all tokens as they are.
    """

    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    discriminators: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    loss: str = "hinge"
    adversarial: float = 0.02
    matching: float = 0.1
    warmup: int = 300
    ramp: int = 300
    seconds: float = 0.8
    scale: float = 1.0
    decoder_only: bool = False

    def __post_init__(self) -> None:
        """Check what a typing error could break."""
        if self.loss not in LOSSES:
            raise TrainError(f"unknown adversarial loss {self.loss!r}; there are: {', '.join(LOSSES)}")
        if self.warmup < 0 or self.ramp < 0 or self.seconds <= 0:
            raise TrainError(f"warmup and ramp must be 0 or more and seconds positive, got {self.warmup}, {self.ramp} and {self.seconds}")

    def strength(self, step: int) -> float:
        """Return the share of the generator's adversarial weights that counts at a step, 0 to 1."""
        return min(1.0, max(0.0, (step - self.warmup + 1) / max(1, self.ramp)))


class Adversary(nn.Module):
    """Generator and discriminators, as one module for checkpoints.

    Args:
        codec: the generator's codec, with the weights of the reconstruction stage.
        settings: of the stage.
        autocast: bfloat16 for encoders, decoder and discriminators.
        teacher: see `Reconstructor`.
    """

    def __init__(self, codec: Codec, settings: AdversarialSettings, *, autocast: bool = True, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.settings, self.autocast, self.sample_rate = settings, autocast, codec.config.sample_rate
        self.rebuilder = Reconstructor(codec, settings.reconstruction, autocast=autocast, teacher=teacher)
        self.discriminators = Discriminators(settings.discriminators)
        if settings.decoder_only:
            for part in (codec.residual, codec.global_encoder, codec.pooling, codec.global_out, codec.quantizer_p, codec.quantizer_g):
                part.requires_grad_(False)
            self.rebuilder.trainer_p.eval()
            self.rebuilder.trainer_g.eval()

    def pieces(self, clean: Tensor, decoded: Tensor, example: Example, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a random piece of each row of both waveforms, zero outside the utterance and cut to the source's band alike."""
        length = min(clean.shape[1], int(self.settings.seconds * self.sample_rate))
        spare = (example.samples - length).clamp_min(0)
        start = (
            (torch.rand(len(clean), generator=generator).to(clean.device, non_blocking=True) * (spare + 1)).long().clamp(max=clean.shape[1] - length)
        )
        at = start[:, None] + torch.arange(length, device=clean.device)
        real, fake = ((wave.float() * mask).gather(1, at) for wave in (clean, decoded))
        return limit_band(real, example.limits, self.sample_rate), limit_band(fake, example.limits, self.sample_rate)

    def discriminate(self, judges: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminators' loss; `judges` are the discriminators, wrapped for several processes or not."""
        with torch.autocast(real.device.type, torch.bfloat16, enabled=self.autocast):
            verdict = judges(torch.cat([real, fake.detach()]))
        halves = [logits.chunk(2) for logits in verdict.logits]
        return discriminator_loss([half[0] for half in halves], [half[1] for half in halves], self.settings.loss)

    def generator_losses(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the generator's adversarial loss and feature matching; the discriminators get no gradient."""
        self.discriminators.requires_grad_(False)
        with torch.autocast(real.device.type, torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                recorded = self.discriminators(real)
            decoded = self.discriminators(fake)
        self.discriminators.requires_grad_(True)
        return generator_loss(decoded.logits, self.settings.loss), matching_loss(recorded.features, decoded.features)


def train_adversarial(
    codec: Codec,
    maker: ExampleMaker,
    folder: Path,
    settings: AdversarialSettings,
    run: RunSettings,
    *,
    device: torch.device | str = "cpu",
    start: Mapping[str, Tensor] | None = None,
    teacher: Teacher | None = None,
) -> Codec:
    """Train P, G and the decoder against discriminators for a while, or go on with the run in `folder`.

    Args:
        codec: with the weights of the reconstruction stage; trained in place.
        maker: of examples.
        folder: checkpoints and log.
        settings: of the stage.
        run: time box, learning rate, log.
        device: where to train.
        start: see `Reconstructor.warm_start`: averaged weights of the reconstruction run.
        teacher: see `Reconstructor`.

    Returns:
        the codec with averaged weights.

    Raises:
        TrainError: if the folder holds a run of another configuration or on other utterances, `start` is of another codec, or the loss is no
            longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_record(folder, maker.sampler.utterances, settings=settings, run=run)
    torch.manual_seed(run.seed + parallel.rank())
    device = torch.device(device)
    module = Adversary(codec, settings, autocast=run.in_bfloat16(device), teacher=teacher).to(device)
    module.rebuilder.warm_start(start)
    if run.compile:
        module.rebuilder.compile_parts()
    maker = maker.to(device)
    generator, judges = parallel.wrap(module.rebuilder), parallel.wrap(module.discriminators)
    trained = [p for p in module.rebuilder.parameters() if p.requires_grad]
    optimizer = adamw(trained, run.learning_rate, (0.8, 0.98), device)
    opponent = adamw(module.discriminators.parameters(), run.learning_rate * settings.scale, (0.8, 0.98), device)
    opponent.param_groups[0]["scale"] = settings.scale

    def step(number: int) -> tuple[dict[str, Tensor], Tensor]:
        drawn = number * parallel.world() + parallel.rank()
        torch.manual_seed(run.seed * 1_000_003 + drawn)
        example = maker.make(drawn)
        random = torch.Generator().manual_seed(run.seed * 1_000_003 + drawn)
        losses, decoded, mask = generator(example, random)
        real, fake = module.pieces(example.clean, decoded, example, mask, random)
        opposing = module.discriminate(judges, real, fake)
        norms = {"discriminator_norm": descend(opponent, opposing, number)}
        total = module.rebuilder.total(losses)
        values = {"loss": total.detach(), **{name: value.detach() for name, value in losses.items()}, "discriminator": opposing.detach()}
        share = settings.strength(number)
        adversarial, matching = module.generator_losses(real, fake) if share else (total.new_zeros(()), total.new_zeros(()))
        total = total + share * (settings.adversarial * adversarial + settings.matching * matching)
        norms["norm"] = descend(optimizer, total, number)
        values |= {"adversarial": adversarial.detach(), "matching": matching.detach(), **norms}
        return values, example.samples.sum() / codec.config.sample_rate

    average = run_loop(folder, module, [optimizer, opponent], run, step)
    module.load_state_dict(average.state)
    return module.rebuilder.codec
