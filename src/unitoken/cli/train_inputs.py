"""What the training commands share: options, opening a pool, settings from the command line, the device, examples."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import TrainError

if TYPE_CHECKING:
    import torch

    from ..config import CodecConfig
    from ..train.examples import ExampleMaker, ReconstructionSettings
    from ..train.pool import Pool, Utterance
    from ..train.refine import QuantizedStudent
    from ..train.run import RunSettings
    from ..train.semantic import LessonMaker, S, SemanticStudent
    from ..train.teachers import Teacher

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write; made if it is missing.")]
Config = Annotated[str | None, typer.Option(help="tiny, small, base, or a JSON file; default: what the run folder says.")]
HeldOut = Annotated[Path | None, typer.Option("--valid-speakers", help="TSV with the columns source and speaker: never trained on.")]
Noise = Annotated[Path | None, typer.Option(help="Tar of noise clips and, in folders named rir*, room responses.")]
Phones = Annotated[Path | None, typer.Option(help="TSV with the columns path and phones, of recordings whose phones are known.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, such as batch=8, run.learning_rate=5e-4 or perturbation.pitch=1.2.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile encoders and decoder first: a minute or two, then faster steps on a GPU.")]
CodecFolder = Annotated[Path, typer.Argument(help="Run folder of the reconstruction or adversarial stage, or a codec folder.")]
PoolFolder = Annotated[Path, typer.Argument(help="Folder that `unitoken train pool` wrote.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: a GPU if there is one, each process its own.")]


def open_pool(pool: Path, held_out: Path | None) -> "tuple[Pool, list[Utterance], list[Utterance]]":
    """Return a pool, its utterances for training and those of the held-out speakers."""
    from ..train.pool import Pool, read_speakers, split_pool

    opened = Pool(pool)
    return opened, *split_pool(opened, read_speakers(held_out) if held_out else set())


def find_device(given: str | None) -> "torch.device":
    """Join the processes that torchrun started, if it did, and return the device asked for, or this process's own."""
    import torch

    from ..train import parallel

    found = parallel.start()
    return found if given in (None, found.type) else torch.device(given)  # `cuda` is each process's own GPU


def open_teacher(name: str | None, device: "torch.device", bfloat16: bool = False) -> "Teacher | None":
    """Return the teacher of that name, if one is given; in bfloat16 where it may."""
    from ..train.teachers import load_teacher

    return load_teacher(name, device=device, bfloat16=bfloat16) if name else None


def run_settings(assignments: list[str] | None, minutes: float, learning_rate: float, compile: bool) -> "tuple[RunSettings, list[str]]":
    """Return the settings that all stages share, and the assignments that are the stage's own."""
    from ..train.overrides import override
    from ..train.run import RunSettings

    shared = [text.removeprefix("run.") for text in assignments or [] if text.startswith("run.")]
    own = [text for text in assignments or [] if not text.startswith("run.")]
    return override(RunSettings(minutes=minutes, learning_rate=learning_rate, compile=compile), shared), own


def read_shard(text: str) -> tuple[int, int]:
    """Return `i` and `n` of `i/n`."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise typer.BadParameter(f"a shard is i/n with i from 0 to n - 1, such as 0/2 and 1/2; got {text!r}")
    return int(index), int(count)


def one_device(given: str | None) -> "torch.device":
    """Return the device of a stage that runs in one process.

    Raises:
        TrainError: if torchrun has started several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainError("this stage runs in one process; start it without torchrun, or with --nproc-per-node 1")
    return find_device(given)


def lesson_maker(
    codec_config: "CodecConfig",
    pool: Path,
    valid_speakers: Path | None,
    features: Path,
    noise: Path | None,
    output: Path,
    settings: "S",
    device: str | None,
    phones: Path | None,
) -> "tuple[LessonMaker[S], list[Utterance]]":
    """Return what makes the lessons of stage 0, the run's folder begun, and the utterances that are held out of them."""
    from ..train import parallel
    from ..train.features import FeatureCache
    from ..train.handover import keep_config
    from ..train.noise import NoiseBank
    from ..train.phones import PhoneTable
    from ..train.semantic import LessonMaker

    told = PhoneTable(phones) if phones else None
    opened, utterances, held_out = open_pool(pool, valid_speakers)
    cache, bank, place = FeatureCache(features, opened), NoiseBank(noise) if noise else None, find_device(device)
    if parallel.rank() == 0:
        keep_config(output, codec_config)
    return LessonMaker(opened, utterances, cache, output, codec_config, settings, bank, place, told), held_out


def say_missed(student: "SemanticStudent | QuantizedStudent", lessons: "LessonMaker[S]", held_out: "list[Utterance]") -> None:
    """Print how much of the teacher's features the student misses, on what it learnt and on what it did not."""
    from ..train import parallel
    from ..train.missed import missed

    if parallel.rank() == 0:
        parts = {"learnt": lessons.sampler.utterances, "held out": held_out}
        shares = [f"{missed(student, lessons, found):.4f} on speakers {name}" for name, found in parts.items() if found]
        typer.echo(f"missed of the teacher's features: {', '.join(shares)}")


def example_maker(
    codec_config: "CodecConfig",
    pool: Path,
    valid_speakers: Path | None,
    tokens: Path,
    pitch: Path,
    noise: Path | None,
    settings: "ReconstructionSettings",
    seed: int,
) -> "ExampleMaker":
    """Return what draws the examples of stages 1 and 2."""
    from ..train.examples import ExampleMaker
    from ..train.noise import NoiseBank
    from ..train.pitch import PitchCache
    from ..train.semantic_tokens import SemanticTokens

    opened, utterances, _ = open_pool(pool, valid_speakers)
    semantic, tracked = SemanticTokens(tokens, opened, codec_config.hop_s), PitchCache(pitch, opened)
    return ExampleMaker(opened, utterances, semantic, tracked, codec_config, settings, NoiseBank(noise) if noise else None, seed)
