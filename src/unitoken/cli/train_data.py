"""The commands of `unitoken train` that prepare data: recordings to a pool, and what is computed of it once."""

from pathlib import Path
from typing import Annotated

import typer

from .train_inputs import CodecFolder, Device, Output, PoolFolder, one_device, read_shard


def pool(
    manifest: Annotated[Path, typer.Argument(help="TSV: path, source, speaker, language, transcript.")],
    archives: Annotated[list[Path], typer.Argument(help="Tar files of the recordings, named as in the manifest.")],
    output: Output,
    sources: Annotated[Path | None, typer.Option(help="TSV of corpora: source, and any of weight, people, band_hz.")] = None,
) -> None:
    """Decode all recordings once into a training pool."""
    from ..train.pool_files import build_pool

    built = build_pool(manifest, archives, output, sources=sources)
    typer.echo(f"{len(built)} utterances, {built.hours:.2f} h: {output}")


def merge(
    pools: Annotated[list[Path], typer.Argument(help="Pool folders, in the order that their utterances are to have.")],
    output: Output,
) -> None:
    """Join pools that were decoded apart."""
    from ..train.pool import Pool
    from ..train.pool_files import merge_pools

    built = merge_pools([Pool(folder) for folder in pools], output)
    typer.echo(f"{len(built)} utterances, {built.hours:.2f} h: {output}")


def speed(
    pool: PoolFolder,
    factor: Annotated[float, typer.Argument(help="0.9 is a tenth slower, 1.1 a tenth faster.")],
    output: Output,
) -> None:
    """Write the pool's recordings played at another speed, to be merged with it: more voices and tempos for the semantic stages."""
    from ..train.pool import Pool
    from ..train.pool_files import change_speed

    built = change_speed(Pool(pool), output, factor)
    typer.echo(f"{len(built)} utterances, {built.hours:.2f} h: {output}")


def features(
    pool: PoolFolder,
    output: Output,
    teacher: Annotated[str, typer.Option(help="Whisper, wav2vec 2.0, HuBERT, WavLM or w2v-BERT 2.0 encoder: a folder or a Hub name.")],
    layer: Annotated[int | None, typer.Option(help="Hidden state, 0 is the input of the first block; default: the last.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th utterance from the i-th on; shards share one folder.")] = "0/1",
    hop: Annotated[int, typer.Option(min=320, help="Samples of a frame; 640 is 25 Hz.")] = 640,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="A Whisper computes in bfloat16: faster where the machine has it.")] = False,
    device: Device = None,
) -> None:
    """Compute a teacher's features of the pool, once; what is there already is kept."""
    part = read_shard(shard)
    import torch

    from ..train.features import compute_features
    from ..train.pool import Pool
    from ..train.teachers import load_teacher

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_teacher(teacher, layer, device=place, bfloat16=bfloat16)
    count = compute_features(Pool(pool), encoder, output, hop=hop, shard=part, device=place)
    typer.echo(f"features of {count} utterances: {output}")


def pitch(pool: PoolFolder, output: Output) -> None:
    """Track the pitch of the pool."""
    from ..train.pitch import compute_pitch
    from ..train.pool import Pool

    compute_pitch(Pool(pool), output)
    typer.echo(f"pitch: {output}")


def tokens(codec: CodecFolder, pool: PoolFolder, output: Output, device: Device = None) -> None:
    """Compute the semantic tokens of the pool by a trained codec, to train it further: `--tokens`."""
    from ..train.handover import load_codec
    from ..train.pool import Pool
    from ..train.semantic import check_codebook
    from ..train.semantic_tokens import tokenize_pool

    loaded = load_codec(codec)
    check_codebook(loaded.config)
    loaded = loaded.eval().to(one_device(device))
    count = tokenize_pool(loaded, loaded.quantizer_s.codewords()[0], Pool(pool), output)
    typer.echo(f"tokens, {float((count > 0).float().mean()):.1%} of the codebook used: {output}")
