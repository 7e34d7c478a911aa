"""`unitoken train`: from recordings to a model folder, one command a step; every stage goes on where an earlier run of it stopped."""

from pathlib import Path
from typing import Annotated

import typer

from . import train_data, train_release
from .train_inputs import (
    Compile,
    Config,
    Device,
    HeldOut,
    Noise,
    Output,
    Phones,
    PoolFolder,
    Set,
    example_maker,
    find_device,
    lesson_maker,
    one_device,
    open_pool,
    open_teacher,
    run_settings,
    say_missed,
)

app = typer.Typer(
    help="Train a tokenizer: pool, speed, merge, features, pitch, semantic, codebook, refine, reconstruct, adversarial, export, publish.",
    no_args_is_help=True,
)

Minutes = Annotated[float, typer.Option(min=0.0, help="Length of this run; it saves and stops by itself.")]
Tokens = Annotated[Path | None, typer.Option(help="Folder with the pool's semantic tokens; default: the codec's folder.")]
Hears = Annotated[str | None, typer.Option("--teacher", help="Encoder that hears words (heard=8, swapped=2): a folder or a Hub name.")]
Features = Annotated[Path, typer.Option(help="Folder that `unitoken train features` wrote.")]
PitchFolder = Annotated[Path, typer.Option("--pitch", help="Folder that `unitoken train pitch` wrote.")]


for prepare in (train_data.pool, train_data.speed, train_data.merge, train_data.features, train_data.pitch, train_data.tokens):
    app.command()(prepare)


@app.command()
def semantic(
    pool: PoolFolder,
    output: Output,
    features: Features,
    minutes: Minutes = 30.0,
    valid_speakers: HeldOut = None,
    noise: Noise = None,
    config: Annotated[str, typer.Option(help="tiny, small, base, or a JSON file.")] = "small",
    whisper: Annotated[
        str | None, typer.Option(help="Whisper encoder whose weights a semantic transformer begins with: a folder or a Hub name.")
    ] = None,
    phones: Phones = None,
    device: Device = None,
    settings: Set = None,
    compile: Compile = False,
) -> None:
    """Stage 0: the semantic encoder learns the teacher's features; runs under torchrun too."""
    import torch

    from ..train.handover import read_config
    from ..train.overrides import override
    from ..train.semantic import SemanticSettings, train_semantic
    from ..train.whisper_start import begin

    run, own = run_settings(settings, minutes, 1e-3, compile)
    chosen = override(SemanticSettings(run=run), own)
    lessons, held_out = lesson_maker(read_config(config), pool, valid_speakers, features, noise, output, chosen, device, phones)
    known = open_teacher(whisper, torch.device("cpu"))
    say_missed(train_semantic(lessons, None if known is None else lambda student: begin(student, lessons, known)), lessons, held_out)
    typer.echo(f"semantic run: {output}")


@app.command()
def codebook(
    run: Annotated[Path, typer.Argument(help="Run folder of the semantic stage, or of the refine stage, which has its codebook already.")],
    pool: PoolFolder,
    output: Output,
    valid_speakers: HeldOut = None,
    config: Config = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of speech that the codebook is fitted to.")] = 400_000,
    flatten: Annotated[float, typer.Option(min=0, max=1, help="How far the latent's dimensions are brought to equal variance first.")] = 0.5,
    dim: Annotated[int | None, typer.Option(help="Dims of the codewords, if they are to be fewer than the run's.")] = None,
    like: Annotated[Path | None, typer.Option(help="Trained codec whose codewords' meaning, P, G and decoder are kept.")] = None,
    seed: Annotated[int, typer.Option(help="Of the fit and of the parts of the codec that are not trained yet.")] = 0,
    device: Device = None,
) -> None:
    """Write a codec folder for the next stage, its semantic codebook fitted unless it is trained, and the pool's semantic tokens beside it."""
    import torch

    from ..hub import save_stored
    from ..train.handover import join_codec, load_codec, load_student, read_config, trained_codebook
    from ..train.like import codewords_like, keep_rest, narrow
    from ..train.semantic_tokens import fit_codebook, tokenize_pool

    opened, utterances, _ = open_pool(pool, valid_speakers)
    place = one_device(device)
    student, words = load_student(run, read_config(config) if config else None).to(place), trained_codebook(run)
    known = load_codec(like).eval() if like else None
    if dim is not None:
        student, axes = narrow(student, dim, opened, utterances, seed=seed)
        words = None if words is None else words @ axes.cpu()
    if words is None and known is not None:
        words = codewords_like(known.to(place), student, opened, utterances, frames=frames, seed=seed)
    elif words is None:
        size = student.config.semantic.quantizer.codebook_size
        words = fit_codebook(student, opened, utterances, size, frames=frames, flatten=flatten, seed=seed)
    count = tokenize_pool(student, words.to(place), opened, output)
    student, words = student.cpu(), words.cpu()
    codec = keep_rest(known.cpu(), student, words, count) if known is not None else join_codec(student, words, seed=seed)
    save_stored(output, student.config, codec.state_dict(), dtype=torch.float32)
    typer.echo(f"codebook of {len(words)}, {float((count > 0).float().mean()):.1%} used; codec and tokens: {output}")


@app.command()
def refine(
    codec: Annotated[Path, typer.Argument(help="Codec folder that `unitoken train codebook` wrote.")],
    pool: PoolFolder,
    output: Output,
    features: Features,
    minutes: Minutes = 60.0,
    valid_speakers: HeldOut = None,
    noise: Noise = None,
    phones: Phones = None,
    device: Device = None,
    settings: Set = None,
    compile: Compile = False,
) -> None:
    """Stage 0, second part: semantic encoder and codebook learn together; then `codebook` again. Runs under torchrun too."""
    from ..train.handover import load_codec
    from ..train.overrides import override
    from ..train.refine import RefineSettings, train_refine

    run, own = run_settings(settings, minutes, 5e-4, compile)
    chosen, loaded = override(RefineSettings(run=run), own), load_codec(codec)
    lessons, held_out = lesson_maker(loaded.config, pool, valid_speakers, features, noise, output, chosen, device, phones)
    say_missed(train_refine(loaded, lessons), lessons, held_out)
    typer.echo(f"refine run: {output}")


@app.command()
def reconstruct(
    codec: Annotated[Path, typer.Argument(help="Codec folder that `unitoken train codebook` wrote; with --trained, any codec folder.")],
    pool: PoolFolder,
    output: Output,
    pitch: PitchFolder,
    minutes: Minutes = 60.0,
    tokens: Tokens = None,
    trained: Annotated[bool, typer.Option("--trained", help="The codec's P, G and decoder are trained already: train them further.")] = False,
    start: Annotated[Path | None, typer.Option("--start-from", help="Reconstruction run to start from, in another folder than it.")] = None,
    teacher: Hears = None,
    valid_speakers: HeldOut = None,
    noise: Noise = None,
    device: Device = None,
    settings: Set = None,
    compile: Compile = False,
) -> None:
    """Stage 1: P, G and the decoder learn to rebuild speech; runs under torchrun too."""
    from ..train import parallel
    from ..train.examples import ReconstructionSettings
    from ..train.handover import averaged_state, keep_config, load_codec
    from ..train.overrides import override
    from ..train.rebuild import train_reconstruction

    run, own = run_settings(settings, minutes, 8e-4, compile)
    chosen, loaded = override(ReconstructionSettings(), own), load_codec(codec)
    maker = example_maker(loaded.config, pool, valid_speakers, tokens or codec, pitch, noise, chosen, run.seed)
    place = find_device(device)
    if parallel.rank() == 0:
        keep_config(output, loaded.config)
    held, hears = averaged_state(start) if start else None, open_teacher(teacher, place, run.in_bfloat16(place))
    train_reconstruction(loaded, maker, output, chosen, run, device=place, trained=trained, start=held, teacher=hears)
    typer.echo(f"reconstruction run: {output}")


@app.command()
def adversarial(
    run: Annotated[Path, typer.Argument(help="Run folder of the reconstruction stage, or a trained codec's or model's folder.")],
    pool: PoolFolder,
    output: Output,
    pitch: PitchFolder,
    tokens: Annotated[Path, typer.Option(help="Folder with the pool's semantic tokens: the one that `unitoken train codebook` wrote.")],
    minutes: Minutes = 60.0,
    teacher: Hears = None,
    valid_speakers: HeldOut = None,
    noise: Noise = None,
    config: Config = None,
    device: Device = None,
    settings: Set = None,
    compile: Compile = False,
) -> None:
    """Stage 2: discriminators join the reconstruction; runs under torchrun too."""
    from ..train import parallel
    from ..train.adversarial import AdversarialSettings, train_adversarial
    from ..train.handover import heads_of, keep_config, load_codec, read_config
    from ..train.overrides import override

    shared, own = run_settings(settings, minutes, 2e-4, compile)
    chosen, loaded = override(AdversarialSettings(), own), load_codec(run, read_config(config) if config else None)
    maker = example_maker(loaded.config, pool, valid_speakers, tokens, pitch, noise, chosen.reconstruction, shared.seed)
    place = find_device(device)
    if parallel.rank() == 0:
        keep_config(output, loaded.config)
    hears = open_teacher(teacher, place, shared.in_bfloat16(place))
    train_adversarial(loaded, maker, output, chosen, shared, device=place, start=heads_of(run), teacher=hears)
    typer.echo(f"adversarial run: {output}")


for finish in (
    train_release.plan,
    train_release.export,
    train_release.publish,
    train_release.subframes,
    train_release.add_noise,
    train_release.lookahead,
    train_release.average,
    train_release.split,
    train_release.join,
    train_release.validate,
    train_release.plot,
):
    app.command()(finish)
