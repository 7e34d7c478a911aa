"""Runs of the reconstruction stage."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..model.codec import Codec
from . import parallel
from .examples import ExampleMaker, ReconstructionSettings
from .loop import adamw, descend, run_loop
from .quantizers import AveragingTrainer
from .reconstruction import Reconstructor
from .record import keep_record
from .run import RunSettings
from .teachers import Teacher


def train_reconstruction(
    codec: Codec,
    maker: ExampleMaker,
    folder: Path,
    settings: ReconstructionSettings,
    run: RunSettings,
    *,
    device: torch.device | str = "cpu",
    trained: bool = False,
    start: Mapping[str, torch.Tensor] | None = None,
    teacher: Teacher | None = None,
) -> Codec:
    """Train P, G and the decoder around the codec's semantic tokens for a while, or go on with the run in `folder`.

    Args:
        codec: with a trained semantic encoder and codebook; trained in place.
        maker: of examples.
        folder: checkpoints and log.
        settings: of the stage.
        run: time box, learning rate, log.
        device: where to train.
        trained: the codec's P, G and decoder are trained already and are trained further.
        start: see `Reconstructor.warm_start`: averaged weights of the run that trained them.
        teacher: see `Reconstructor`.

    Returns:
        the codec with averaged weights.

    Raises:
        TrainError: if the folder holds a run of another configuration or on other utterances, or the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_record(folder, maker.sampler.utterances, settings=settings, run=run)
    torch.manual_seed(run.seed + parallel.rank())
    device = torch.device(device)
    module = Reconstructor(codec, settings, autocast=run.in_bfloat16(device), teacher=teacher).to(device)
    if trained or start is not None:
        module.warm_start(start)
    if run.compile:
        module.compile_parts()
    wrapped, maker = parallel.wrap(module), maker.to(device)
    optimizer = adamw((p for p in module.parameters() if p.requires_grad), run.learning_rate, (0.9, 0.98), device)

    def step(number: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        drawn = number * parallel.world() + parallel.rank()
        torch.manual_seed(run.seed * 1_000_003 + drawn)  # a resumed run restarts the same codewords
        example = maker.make(drawn)
        losses, _, _ = wrapped(example, torch.Generator().manual_seed(run.seed * 1_000_003 + drawn))
        total = module.total(losses)
        norm = descend(optimizer, total, number)
        values = {"loss": total.detach(), **{k: v.detach() for k, v in losses.items()}, "norm": norm}
        if isinstance(module.trainer_p, AveragingTrainer):
            values["perplexity_p"] = module.trainer_p.perplexity
        return values, example.samples.sum() / codec.config.sample_rate

    average = run_loop(folder, module, [optimizer], run, step)
    module.load_state_dict(average.state)
    return module.codec
