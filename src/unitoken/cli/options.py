"""Options that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..tokenizer import Tokenizer

Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help="Packaged model, folder, or Hub repository org/name; else the default.")
]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a Hub repository.")]
Device = Annotated[str, typer.Option("--device", "-d", help="Where to compute: cpu, cuda, cuda:1, ...")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Inputs = Annotated[list[Path], typer.Argument(metavar="IN", exists=True, help="Files, and folders with all that is in them.")]


class AudioFormat(str, Enum):
    """The formats that `unitoken.save_audio` writes; the value is the suffix without its dot."""

    wav = "wav"
    flac = "flac"
    ogg = "ogg"
    opus = "opus"
    mp3 = "mp3"


Format = Annotated[AudioFormat | None, typer.Option("--format", help="Format of the audio; else by the suffix of OUT, else wav.")]


def load_tokenizer(model: str | None, revision: str | None, device: str) -> Tokenizer:
    """Load the tokenizer that the options name.

    Raises:
        ModelError: if there is none, or the device cannot be used.
    """
    return Tokenizer.from_pretrained(model, revision=revision, device=device)
