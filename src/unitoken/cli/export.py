"""`unitoken export`: a model for machines without unitoken."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..hub import build_codec, load_stored
from .options import Model, Revision

app = typer.Typer(no_args_is_help=True, help="Write a model as ONNX graphs, or as programs of torch.export.")

Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write; files of an earlier export are replaced.")]


class Int8(str, Enum):
    """What is computed in bytes."""

    none = "none"
    decode = "decode"
    both = "both"


PARTS = {Int8.none: (), Int8.decode: ("decode",), Int8.both: ("encode", "decode")}


@app.command()
def onnx(
    output: Folder,
    model: Model = None,
    revision: Revision = None,
    int8: Annotated[Int8, typer.Option(help="Products of bytes: faster on CPUs, half the size; to encode so gives some other tokens.")] = Int8.none,
) -> None:
    """Write ONNX graphs, and a runner that needs NumPy and onnxruntime only."""
    from ..onnx import export_onnx

    stored = load_stored(model, revision=revision)
    export_onnx(build_codec(stored).eval().requires_grad_(False), output, stored.fingerprint, int8=PARTS[int8])
    typer.echo(f"ONNX: {output}; python {output / 'runner.py'} --help")


@app.command()
def program(output: Folder, model: Model = None, revision: Revision = None) -> None:
    """Write programs of torch.export (.pt2), for instance to be compiled ahead of time."""
    from ..onnx import export_programs

    export_programs(build_codec(load_stored(model, revision=revision)).eval().requires_grad_(False), output)
    typer.echo(f"programs: {output}")
