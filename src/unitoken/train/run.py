"""What every stage shares: the time box, the learning rate, the log, checkpoints that resume, and averaged weights."""

import csv
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import TrainError
from ..files import replacing


@dataclass(frozen=True)
class RunSettings:
    """Settings that all stages share.

    Attributes:
        minutes: length of this run; it stops by itself.
        steps: how many steps all runs in the folder make together, where they come before the minutes are over; 0 sets no end. A run that goes
            on then takes the learning rate from where it is in all steps, and is the same however often it was broken off.
        learning_rate: after `warmup` steps (left out where the optimizer's state goes on), until the last `cooldown` share of the time or steps,
            over which it falls to 2 %.
        warmup: steps.
        cooldown: share of the run's time, or of all steps.
        average: decay of the averaged weights, per step.
        seed: of data order and perturbations.
        save_minutes: time between checkpoints.
        log_steps: steps between lines of the log.
        autocast: bfloat16 for what stands it, on devices that are made for it; on others it is many times slower, and left out.
        compile: compile encoders and decoder first, which takes a minute or two; for GPUs.
    """

    minutes: float = 30.0
    steps: int = 0
    learning_rate: float = 8e-4
    warmup: int = 200
    cooldown: float = 0.3
    average: float = 0.999
    seed: int = 0
    save_minutes: float = 3.0
    log_steps: int = 20
    autocast: bool = True
    compile: bool = False

    def in_bfloat16(self, device: torch.device) -> bool:
        """Return whether there is bfloat16 on a device."""
        return self.autocast and has_bfloat16(device)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 as fast as in float32 or faster: GPUs that have it, and processors with AVX-512."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"


class Clock:
    """The time box and the learning rate of one run.

    Args:
        settings: the run's.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self.started = self.saved = time.monotonic()

    def share(self, number: int) -> float:
        """Return the share of the run that is over before step `number`: of its steps where they are counted, else of its time."""
        if self.settings.steps:
            return number / self.settings.steps
        return self._time

    def over(self, number: int) -> bool:
        """Return whether the time is up, or step `number` would be one too many."""
        return self._time >= 1 or self.share(number) >= 1

    def learning_rate(self, number: int, first: int = 0) -> float:
        """Return the rate of step `number`; `first` is the one that the optimizer began with."""
        rise = min(1.0, (number - first + 1) / self.settings.warmup)
        left = (1 - self.share(number)) / self.settings.cooldown if self.settings.cooldown else 1.0
        return self.settings.learning_rate * rise * min(1.0, max(0.02, left))

    @property
    def _time(self) -> float:
        return (time.monotonic() - self.started) / (self.settings.minutes * 60)

    def time_to_save(self) -> bool:
        """Return whether a checkpoint is due, and start counting anew if so."""
        if time.monotonic() - self.saved < self.settings.save_minutes * 60:
            return False
        self.saved = time.monotonic()
        return True


class Log:
    """A CSV of one run folder, appended to, and a line on the terminal for each row.

    Sums stay on the device they come from until a row is written, so that a GPU is not waited for at every step.

    Args:
        path: the CSV; a column that comes new in a resumed run is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sums, self.count = dict[str, float | Tensor](), 0
        self.seconds: float | Tensor = 0.0
        self.since = time.monotonic()

    def add(self, values: Mapping[str, float | Tensor], audio_seconds: float | Tensor = 0.0) -> None:
        """Add one step's values to the means of the next row, and the seconds of audio it was trained on."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
        self.seconds = self.seconds + audio_seconds
        self.count += 1

    def check(self, step: int) -> None:
        """Do nothing if all values since the last row were finite.

        Raises:
            TrainError: if one was not.
        """
        finite(self.sums, step)

    def write(self, step: int, learning_rate: float) -> None:
        """Write the means since the last row, with the seconds of audio trained on in a second, and the most memory so far in GB.

        Raises:
            TrainError: see `check`; or if the file has other columns.
        """
        self.check(step)
        now = time.monotonic()
        row = {"step": step, **{k: round(float(v) / self.count, 5) for k, v in self.sums.items()}}
        row |= {"rate": round(float(self.seconds) / (now - self.since), 1), "lr": round(learning_rate, 7), "time": round(time.time(), 2)}
        row["memory"] = round(peak_memory() / 1e9, 2)
        new = not self.path.exists()
        if not new and (known := self.path.read_text(encoding="utf-8").partition("\n")[0].strip().split(",")) != list(row):
            raise TrainError(
                f"{self.path} has the columns {known}, this run logs {list(row)}; go on with the same settings, or choose another folder"
            )
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        sys.stdout.write("  ".join(f"{k} {v:.6g}" for k, v in row.items() if k != "time") + "\n")
        sys.stdout.flush()
        self.sums, self.count, self.seconds, self.since = {}, 0, 0.0, now


class WeightAverage:
    """Exponential moving average of a module's floating-point parameters and buffers.

    Args:
        module: the module that is trained.
        decay: per step; the first steps use less, so that the start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step's weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = module.state_dict()
        floats = [key for key, value in now.items() if value.is_floating_point()]
        get_ema_multi_avg_fn(decay)([self.state[key] for key in floats], [now[key] for key in floats], 0)  # one call for all, quick on a GPU
        for key in now.keys() - floats:
            self.state[key].copy_(now[key])


def save_checkpoint(folder: Path, module: nn.Module, average: WeightAverage, optimizers: Iterable[torch.optim.Optimizer], step: int) -> None:
    """Write weights, averaged weights, optimizer state and step; all are complete before the first takes its name, the step takes it last."""
    folder.mkdir(parents=True, exist_ok=True)
    # Modules may hold one tensor under two names; safetensors refuses that, so copies are written.
    state = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in module.state_dict().items()}
    with ExitStack() as files:
        steps, optimizer, averaged, model = (
            files.enter_context(replacing(folder / name)) for name in ("step.json", "optimizer.pt", "average.safetensors", "model.safetensors")
        )
        save_file(state, model)
        save_file(average.state, averaged)
        torch.save([one.state_dict() for one in optimizers], optimizer)
        steps.write_text(json.dumps({"step": step, "average_steps": average.steps}))


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run in this folder goes on, or would be a new one."""
    return (folder / "step.json").is_file()


def load_checkpoint(folder: Path, module: nn.Module, average: WeightAverage, optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """Read what `save_checkpoint` wrote, if it is there, and return the step to go on with; 0 in an empty folder.

    Weights may be float16 (they travel so); where `optimizer.pt` is missing, the optimizers start anew.

    Raises:
        TrainError: if the weights are of another configuration.
    """
    if not has_checkpoint(folder):
        return 0
    state = json.loads((folder / "step.json").read_text())
    try:
        module.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise TrainError(f"{folder} holds a checkpoint of another configuration; choose another folder ({error})") from error
    held = load_file(folder / "average.safetensors")
    average.state, average.steps = {key: held[key].to(value) for key, value in average.state.items()}, int(state["average_steps"])
    if (folder / "optimizer.pt").is_file():
        kept = torch.load(folder / "optimizer.pt", "cpu", weights_only=True)  # noqa: TID251  (weights only)
        for optimizer, one in zip(optimizers, kept, strict=True):
            _load_optimizer(optimizer, one)
    return int(state["step"])


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that may come from another kind of device: how the arithmetic is done is this run's own choice, and no part of it."""
    for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        group.update({key: own[key] for key in ("fused", "foreach", "capturable") if key in own})
    optimizer.load_state_dict(state)


def peak_memory() -> int:
    """Return the most bytes that tensors took on this process's GPU, or without one, that the process took; 0 where the system does not tell."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")  # `getrusage` would tell of the process that started this one, too
    peak = [line.split() for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")] if status.exists() else []
    return int(peak[0][1]) * 1024 if peak else 0


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def finite(values: Mapping[str, float | Tensor], step: int) -> None:
    """Do nothing if all values are finite numbers.

    Raises:
        TrainError: if one is not.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainError(f"{name} is {float(value)} at step {step}; lower the learning rate and resume from the last checkpoint")
