"""What a step of each stage of a recipe costs: operations, time and memory, measured on the machine that it runs on.

usage: python scripts/stage_cost.py RECIPE POOL -o WORK [--teacher NAME] [--whisper NAME] [--steps 3] [--device cpu]

The recipe's own commands run for a few steps each. The pool may be small, but needs one frame of 40 ms for each codeword. `--teacher` and `--whisper`
stand in for the recipe's encoders where those are not at hand.
"""

import argparse
import csv
import dataclasses
import shutil
import subprocess
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.main import get_command

from unitoken.cli.train import app
from unitoken.train.recipe import Recipe, plan


def changed(command, device, output=None, **run):
    """Return a command's arguments with other settings of the run, and maybe another folder."""
    arguments = list(command.arguments)
    if output is not None:
        arguments[arguments.index("-o") + 1] = str(output)
    settings = [f"run.{name}={value}" for name, value in run.items()] + (["still=0"] if command.stage == "refine" else [])
    return [*arguments, "--device", device, *(text for setting in settings for text in ("--set", setting))]


def operations(command, folder, device):
    """Return the multiplications and additions of one training step: those of a run of two steps, less those of a run of one."""
    counts = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            get_command(app)(changed(command, device, folder / f"{steps}-{command.stage}", steps=steps), standalone_mode=False)
        counts.append(counter.get_total_flops())
    return counts[1] - counts[0]


def trained(folder):
    """Return how many parameters the optimizers moved."""
    kept = torch.load(folder / "optimizer.pt", "cpu", weights_only=True)  # noqa: TID251  (weights only)
    return sum(one["exp_avg"].numel() for state in kept for one in state["state"].values())


def unitoken(*arguments):
    subprocess.run([shutil.which("unitoken"), "train", *arguments], check=True)


def measure(command, folder, steps, device):
    """Run a stage for some steps after as many that do not count, and return its row of the table."""
    run = Path(command.arguments[command.arguments.index("-o") + 1])
    unitoken(*changed(command, device, steps=2 * steps, log_steps=steps, warmup=1))
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        first, last = csv.DictReader(file)
    seconds = (float(last["time"]) - float(first["time"])) / steps
    count = operations(command, folder, device)
    return command.stage, trained(run), count, seconds, float(last["rate"]), float(last["memory"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--teacher")
    parser.add_argument("--whisper")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    recipe = Recipe.load(args.recipe)
    if args.teacher:
        recipe = dataclasses.replace(recipe, teacher=dataclasses.replace(recipe.teacher, name=args.teacher))
    if args.whisper:
        recipe = dataclasses.replace(recipe, whisper=args.whisper)
    rows = []
    for command in plan(recipe, args.pool, args.output):
        if command.launched:
            rows.append(measure(command, args.output / "counted", args.steps, args.device))
        elif command.stage != "export" and (command.done is None or not command.done.exists()):
            unitoken(*command.arguments)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{torch.get_num_threads()} thread(s) of a CPU"
    print(f"{recipe.name}, {where}, torch {torch.__version__}, teacher {recipe.teacher.name}\n")
    print("| stage | parameters trained | operations a step | seconds a step | audio a second | memory |\n|---|---:|---:|---:|---:|---:|")
    for stage, parameters, count, seconds, rate, memory in rows:
        print(f"| `{stage}` | {parameters / 1e6:.1f} M | {count / 1e12:.1f} T | {seconds:.2f} | {rate:.1f} s | {memory:.1f} GB |")


if __name__ == "__main__":
    main()
