"""The commands of `unitoken train` that come after training: a model folder, a Hub repository, measures and curves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..model.codec import Codec
from .train_inputs import CodecFolder, Compile, Config, Device, HeldOut, Noise, Output, PoolFolder, open_pool


def plan(
    recipe: Annotated[Path, typer.Argument(help="JSON file, such as recipes/base-16k.json.")],
    pool: PoolFolder,
    output: Output,
    launch: Annotated[
        str, typer.Option(help="What starts the stages that several processes train, such as 'torchrun ... $(which unitoken)'.")
    ] = "unitoken",
    launched_only: Annotated[bool, typer.Option("--launched-only", help="Leave the others out: for all nodes but the first.")] = False,
    valid_speakers: HeldOut = None,
    noise: Noise = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of every stage, after the recipe's own, such as run.steps=10.")
    ] = None,
    compile: Compile = False,
) -> None:
    """Print a recipe as a shell script; run again, it goes on where it stopped."""
    import shlex

    from ..train.recipe import Recipe
    from ..train.recipe import plan as commands_of

    shared = ["--compile"] if compile else []
    typer.echo("set -e")
    for command in commands_of(Recipe.load(recipe), pool, output, shared=shared, noise=noise, valid_speakers=valid_speakers, settings=settings or []):
        if launched_only and not command.launched:
            continue
        unless = "" if command.done is None else f"[ -e {shlex.quote(str(command.done))} ] || "
        typer.echo(f"{unless}{launch if command.launched else 'unitoken'} train {shlex.join(command.arguments)}")


def export(
    codec: CodecFolder,
    output: Output,
    name: Annotated[str, typer.Option(help="The model's name.")],
    config: Config = None,
    clip: Annotated[Path | None, typer.Option(help="Recording that is encoded as a check; default: noise.")] = None,
    weights_licence: Annotated[str | None, typer.Option(help="SPDX expression; default: the configuration's.")] = None,
    same_tokens_as: Annotated[str | None, typer.Option(help="Model whose decoder alone was trained further: its bundles are decoded, too.")] = None,
    max_part_mb: Annotated[float | None, typer.Option(help="Also write the weights in pieces of at most so many MB.")] = None,
) -> None:
    """Write a model folder in float16 with golden tokens, load it again, and compare its tokens with the codec's."""
    from ..audio import load_audio
    from ..hub import WEIGHTS, load_stored
    from ..train.export import export_codec, split_file
    from ..train.handover import load_codec, read_config

    loaded = load_codec(codec, read_config(config) if config else None)
    if weights_licence:
        loaded.config = replace(loaded.config, weights_licence=weights_licence)
    wave = load_audio(clip, sample_rate=loaded.config.sample_rate)[0] if clip else None
    old = load_stored(same_tokens_as) if same_tokens_as else None
    typer.echo(f"{export_codec(loaded, output, name=name, clip=wave, same_tokens_as=old)}  {output}")
    if max_part_mb is not None:
        typer.echo(f"pieces: {split_file(output / WEIGHTS, max_part_mb)}")


def publish(
    model: Annotated[Path, typer.Argument(help="Model folder that `unitoken train export` wrote.")],
    repository: Annotated[str, typer.Argument(help="Hub repository, org/name; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if it is not there.")] = None,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "",
) -> None:
    """Check a model folder by its golden tokens and push it to a Hub repository; log in first: hf auth login."""
    from ..train.release import publish as push

    commit = push(model, repository, private=private, revision=revision, message=message)
    typer.echo(f'Tokenizer.from_pretrained("{repository}", revision="{commit}")')


def _write(codec: Codec, output: Path) -> None:
    """Write a codec folder in float32, to be trained further."""
    import torch

    from ..hub import save_stored

    save_stored(output, codec.config, codec.state_dict(), dtype=torch.float32)
    typer.echo(f"codec: {output}")


def subframes(
    codec: CodecFolder,
    output: Output,
    number: Annotated[int, typer.Option(min=2, help="Frames of the inverse STFT in each of the decoder's.")] = 2,
) -> None:
    """Write a codec folder whose decoder answers more often, to be trained further: `reconstruct --trained`."""
    from ..train.decoders import with_subframes
    from ..train.handover import load_codec

    _write(with_subframes(load_codec(codec), number), output)


def add_noise(
    codec: CodecFolder,
    output: Output,
    hz: Annotated[float, typer.Option(help="Frequency from which on what is not harmonic becomes noise, all of it an octave above.")] = 2000.0,
) -> None:
    """Write a codec folder whose decoder makes noise where it made phases, to be trained further: `reconstruct --trained`."""
    from ..train.decoders import with_noise
    from ..train.handover import load_codec

    _write(with_noise(load_codec(codec), hz), output)


def lookahead(
    codec: CodecFolder,
    output: Output,
    frames: Annotated[int, typer.Option(min=0, help="Token frames that the decoder may hear ahead.")] = 0,
) -> None:
    """Write a codec folder whose decoder hears less far ahead, for streams with less delay; then: `adversarial --set decoder_only=true`."""
    from ..train.decoders import with_lookahead
    from ..train.handover import load_codec

    _write(with_lookahead(load_codec(codec), frames), output)


def average(
    codecs: Annotated[list[Path], typer.Argument(help="Run folders of the reconstruction or adversarial stage, or codec folders: two or more.")],
    output: Output,
) -> None:
    """Write a codec folder whose weights are the means of codecs that were trained on from one another, to be exported."""
    from ..train.averaging import mean_codec
    from ..train.handover import load_codec

    _write(mean_codec([load_codec(codec) for codec in codecs]), output)


def split(
    file: Annotated[Path, typer.Argument(help="Any file, such as a checkpoint.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the pieces; default: beside the file.")] = None,
    max_part_mb: Annotated[float, typer.Option(help="Largest piece in MB.")] = 45.0,
) -> None:
    """Cut a file into pieces with checksums."""
    from ..train.export import split_file

    typer.echo(split_file(file, max_part_mb, output))


def join(
    pieces: Annotated[Path, typer.Argument(help="The list NAME.pieces.json beside the pieces.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: the old name beside the pieces.")] = None,
) -> None:
    """Put a file together again from its pieces."""
    from ..train.export import join_parts

    typer.echo(join_parts(pieces, output))


def validate(
    codec: CodecFolder,
    pool: PoolFolder,
    valid_speakers: Annotated[Path, typer.Option(help="TSV of the held-out speakers, whose clips are measured.")],
    limit: Annotated[int, typer.Option(min=1, help="Clips.")] = 40,
    asr: Annotated[str | None, typer.Option(help="Whisper model for self-CER: a CTranslate2 folder or a name.")] = None,
    config: Config = None,
    device: Device = None,
) -> None:
    """Print measures on held-out speakers as JSON."""
    from ..evaluate.words import load_whisper
    from ..train.handover import load_codec, read_config
    from ..train.validate import validate as measure

    opened, _, held_out = open_pool(pool, valid_speakers)
    loaded = load_codec(codec, read_config(config) if config else None).to(device or "cpu")
    result = measure(loaded, opened, held_out, limit=limit, asr=load_whisper(asr) if asr else None)
    typer.echo(json.dumps(result, indent=2))


def plot(
    run: Annotated[Path, typer.Argument(help="Run folder of any stage.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG to write; default: curves.png in the run folder.")] = None,
    smooth: Annotated[float, typer.Option(help="0 to below 1: how much of the running mean stays at each row.")] = 0.9,
) -> None:
    """Draw the log of a run."""
    from ..train.curves import plot_run

    typer.echo(plot_run(run, output, smooth=smooth))
