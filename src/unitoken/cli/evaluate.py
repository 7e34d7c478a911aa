"""`unitoken evaluate`: the table of figures of codecs on the clips of a manifest."""

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import evaluate as measuring
from ..tokenizer import Tokenizer
from .messages import UsageError, shown
from .options import Device, Force, Revision, load_tokenizer
from .paths import refuse_existing
from .progress import Meter


class CodecName(str, Enum):
    """What can be compared; names from `unitoken` on are decoded by each model, whole or with a stream changed."""

    original = "original"
    unitoken = "unitoken"
    unitoken_no_p = "unitoken-no-p"
    unitoken_no_g = "unitoken-no-g"
    unitoken_s_only = "unitoken-s-only"
    unitoken_shuffled_s = "unitoken-shuffled-s"
    codec2_2400 = "codec2-2400"
    codec2_1300 = "codec2-1300"
    codec2_700c = "codec2-700C"


class Metric(str, Enum):
    """Groups of figures."""

    signal = "signal"
    words = "words"
    pitch = "pitch"
    codebooks = "codebooks"
    speakers = "speakers"


CHANGES: dict[CodecName, dict[str, Any]] = {
    CodecName.unitoken: {},
    CodecName.unitoken_no_p: {"drop_p": True},
    CodecName.unitoken_no_g: {"drop_g": True},
    CodecName.unitoken_s_only: {"drop_p": True, "drop_g": True},
    CodecName.unitoken_shuffled_s: {"shuffle_s_seed": 0},
}
"""Arguments of `TokenizerCodec`."""


def evaluate(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", exists=True, dir_okay=False, help="TSV: path source speaker language seconds transcript.")
    ],
    codec: Annotated[
        list[CodecName] | None, typer.Option("--codec", "-c", help="What to measure, several times for more; else original and unitoken.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", metavar="MODEL", help="Model, several times to compare; else the default.")
    ] = None,
    revision: Revision = None,
    device: Device = "cpu",
    metric: Annotated[
        list[Metric] | None, typer.Option("--metric", help="Group of figures, several times for more; else all that can be had.")
    ] = None,
    asr: Annotated[str | None, typer.Option("--asr", metavar="MODEL", help="Whisper for the words: folder, size or Hub name (CTranslate2).")] = None,
    speakers: Annotated[Path | None, typer.Option("--speakers", exists=True, help="GE2E weights (safetensors) for the metric speakers.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take this many clips, evenly over the manifest.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of recogniser and pitch tracker.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", file_okay=False, help="Also save report.md and report.json.")
    ] = None,
    force: Force = False,
) -> None:
    """Measure codecs on the clips of a manifest and print the figures as Markdown."""
    metrics = None if metric is None else [entry.value for entry in metric]
    _check(metrics or [], asr, speakers)
    if output is not None:
        refuse_existing([output / "report.md", output / "report.json"], force)
    names = list(dict.fromkeys(codec or [CodecName.original, CodecName.unitoken]))
    wanted: Sequence[str | None] = list(dict.fromkeys(model or [])) or [None]
    tokenizers = {entry: load_tokenizer(entry, revision, device) for entry in wanted} if set(names) & set(CHANGES) else {}
    embedder = None if speakers is None else measuring.SpeakerEmbedder(speakers)
    with Meter("clips", digits=0) as meter:
        report = measuring.evaluate(
            manifest,
            [made for name in names for made in _codecs(name, tokenizers)],
            metrics=metrics,
            asr=asr,
            speakers=embedder,
            limit=limit,
            threads=threads,
            progress=meter.update,
        )
    if output is not None:
        report.save(output)
        typer.echo(f"saved report.md and report.json in {shown(output)}", err=True)
    typer.echo(report.markdown(), nl=False)


def _check(metrics: Sequence[str], asr: str | None, speakers: Path | None) -> None:
    if "words" in metrics and asr is None:
        raise UsageError("the metric words needs a recogniser; add --asr, a folder, size or Hub name of a Whisper model")
    if "speakers" in metrics and speakers is None:
        raise UsageError("the metric speakers needs an embedder; add --speakers, the path of the GE2E weights")


def _codecs(name: CodecName, tokenizers: dict[str | None, Tokenizer]) -> Iterator[measuring.Codec]:
    """Yield what a name stands for: one codec, or one for each model, told apart by the model's name."""
    if name is CodecName.original:
        yield measuring.Original()
    elif name not in CHANGES:
        mode: Any = name.value.removeprefix("codec2-")
        yield measuring.Codec2(mode)
    for model, tokenizer in tokenizers.items() if name in CHANGES else ():
        codec = measuring.TokenizerCodec(tokenizer, **CHANGES[name])
        if len(tokenizers) > 1:
            codec.name = codec.name.replace("unitoken", str(model), 1)
        yield codec
