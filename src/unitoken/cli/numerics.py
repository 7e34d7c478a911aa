"""`unitoken verify-numerics`: which tokens another way to compute them would flip."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from ..audio import AUDIO_SUFFIXES, load_audio
from ..evaluate.numerics import Backend, onnx_way, torch_way, verify_numerics
from .options import Inputs, Json, Model, Revision, load_tokenizer
from .paths import plan

ONNX = "onnx:"
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "-b",
        metavar="BACKEND",
        help="cpu, cuda, ...: as encode computes there; cpu/bfloat16, cuda/float32, ...: no token computed again; onnx:FOLDER: what "
        "unitoken export onnx wrote. Several times for more.",
    ),
]


def verify(inputs: Inputs, backend: Backends = None, model: Model = None, revision: Revision = None, as_json: Json = False) -> None:
    """Compare the tokens of audio files with those of other devices, types and exports, and say how near to a border flipped ones were.

    Without --backend, with float32 and bfloat16 of the CPU, and of a GPU if there is one.
    """
    names = backend or [
        "cpu/float32",
        "cpu/bfloat16",
        *(["cuda", "cuda/float32", "cuda/bfloat16", "cuda/float16"] if torch.cuda.is_available() else []),
    ]
    backends = {name: Backend.of(name) for name in names if not name.startswith(ONNX)}
    files = [job.source for job in plan(inputs, Path.cwd(), AUDIO_SUFFIXES, ".utok")]
    loaded = {device: load_tokenizer(model, revision, device) for device in ("cpu", *(backend.device for backend in backends.values()))}
    tokenizer = loaded["cpu"]
    ways = {
        name: torch_way(backends[name], loaded[backends[name].device]) if name in backends else onnx_way(name.removeprefix(ONNX), tokenizer)
        for name in names
    }
    clips = (load_audio(file, sample_rate=tokenizer.sample_rate)[0] for file in files)
    found = verify_numerics(tokenizer, clips, ways)
    if as_json:
        typer.echo(
            json.dumps({name: {stream: dataclasses.asdict(flips) for stream, flips in streams.items()} for name, streams in found.items()}, indent=2)
        )
        return
    typer.echo(f"{tokenizer.config.name} ({tokenizer.fingerprint[:8]}), torch {torch.__version__}, {len(files)} files\n")
    typer.echo("| backend | stream | tokens | flipped | share | largest margin of a flipped token | longest move of a latent |")
    typer.echo("|---|---|---:|---:|---:|---:|---:|")
    for name, streams in found.items():
        for stream, flips in streams.items():
            share = flips.flipped / max(1, flips.tokens)
            typer.echo(f"| {name} | {stream} | {flips.tokens} | {flips.flipped} | {share:.2%} | {flips.margin:.2g} | {flips.moved:.2g} |")
