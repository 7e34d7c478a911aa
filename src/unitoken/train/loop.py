"""The loop that every stage runs in: until the time is up, one step after the other, with log, averages and checkpoints."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from . import parallel
from .run import Clock, Log, RunSettings, WeightAverage, finite, load_checkpoint, save_checkpoint, set_learning_rate

Step = Callable[[int], tuple[dict[str, Tensor], float | Tensor]]
"""Does one training step, given its number; returns values for the log, `loss` among them, and the seconds of audio it trained on."""


def run_loop(folder: Path, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], settings: RunSettings, step: Step) -> WeightAverage:
    """Train for `settings.minutes` or up to `settings.steps`, or go on with the run in `folder`; return the averaged weights.

    Only the first of several processes writes.

    Args:
        folder: for the log and checkpoints.
        module: what is trained.
        optimizers: their learning rate follows the clock; the first one's is logged.
        settings: time box and the rest.
        step: see `Step`.

    Raises:
        TrainError: if the folder holds another configuration's run, or a loss or gradient is no longer finite: found out at once on a CPU, on a
            GPU when a row of the log or a checkpoint is due, so no such weights are ever written.
    """
    average = WeightAverage(module, settings.average)
    scales = [optimizer.param_groups[0].get("scale", 1.0) for optimizer in optimizers]  # this run's, not the checkpoint's
    number = load_checkpoint(folder, module, average, optimizers)
    first = 0 if optimizers[0].state else number  # only an optimizer that knows nothing yet is warmed up
    clock, log, writes = Clock(settings), Log(folder / "log.csv"), parallel.rank() == 0
    while not _over(clock, number):
        rate = float(parallel.from_first(torch.tensor(clock.learning_rate(number, first), dtype=torch.float64)))  # clocks differ, weights must not
        for optimizer, scale in zip(optimizers, scales, strict=True):
            set_learning_rate(optimizer, rate * scale)
        values, audio = step(number)
        average.update(module)
        number += 1
        log.add(values, audio * parallel.world())
        if writes and number % settings.log_steps == 0:
            log.write(number, rate)
        if writes and clock.time_to_save():
            log.check(number)
            save_checkpoint(folder, module, average, optimizers, number)
    log.check(number)
    if writes:
        save_checkpoint(folder, module, average, optimizers, number)
    return average


def _over(clock: Clock, number: int) -> bool:
    """Return whether the run is over; the processes decide together, so that none waits for another's gradients."""
    over = clock.over(number)
    return bool(parallel.sum_over_ranks(torch.tensor(float(over))) > 0) if parallel.world() > 1 else over


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float], device: torch.device) -> torch.optim.AdamW:
    """Return the optimizer of every stage; on a GPU it is one kernel for all parameters."""
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=0.01, fused=device.type == "cuda" or None)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, number: int) -> Tensor:
    """Take one optimizer step, the gradients of its parameters clipped to a norm of 1, and return the norm before.

    Raises:
        TrainError: if the norm is not finite; on a GPU, which would have to be waited for, the log finds that out.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    if norm.device.type == "cpu":
        finite({"loss": loss.detach(), "gradient": norm}, number)
    optimizer.step()
    return norm
