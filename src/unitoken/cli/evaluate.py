"""`unitoken evaluate`: the table of figures of codecs on the clips of a manifest."""

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import evaluate as measuring
from ..errors import MissingDependencyError
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
    opus_6 = "opus-6"
    opus_8 = "opus-8"
    opus_12 = "opus-12"
    lyra_3200 = "lyra-3200"
    lyra_6000 = "lyra-6000"
    lyra_9200 = "lyra-9200"


class ChangeName(str, Enum):
    """What can happen to clips before a codec hears them; see `unitoken.evaluate.changes`."""

    gain_minus_12 = "gain-12"
    gain_plus_6 = "gain+6"
    peak_40 = "peak-40"
    peak_30 = "peak-30"
    peak_20 = "peak-20"
    peak_0 = "peak-0"
    noise_20 = "noise-20"
    noise_10 = "noise-10"
    noise_5 = "noise-5"
    room = "room"
    narrow = "8-khz"
    slower = "speed-0.9"
    faster = "speed-1.1"
    later = "10-ms"
    opus_12 = "opus-12"


class Metric(str, Enum):
    """Groups of figures."""

    signal = "signal"
    mos = "mos"
    speakers = "speakers"
    pitch = "pitch"
    words = "words"
    codebooks = "codebooks"


CHANGES: dict[CodecName, dict[str, Any]] = {
    CodecName.unitoken: {},
    CodecName.unitoken_no_p: {"drop_p": True},
    CodecName.unitoken_no_g: {"drop_g": True},
    CodecName.unitoken_s_only: {"drop_p": True, "drop_g": True},
    CodecName.unitoken_shuffled_s: {"shuffle_s_seed": 0},
}
"""Arguments of `TokenizerCodec`."""

OPTIONS = {
    "words": "a recogniser; add --asr, a folder, size or Hub name of a Whisper model",
    "speakers": "an embedder; add --speakers, the path of the GE2E weights",
    "mos": "a network; add --dnsmos, the path of DNSMOS's model_v8.onnx",
}
"""What a metric cannot be measured without."""

PAGE = "report.html"
REPORTS = ("report.md", "report.json", "clips.csv", PAGE)


def evaluate(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", exists=True, help="TSV (path source speaker language seconds transcript), JSONL, or a folder of clips."),
    ],
    codec: Annotated[
        list[CodecName] | None, typer.Option("--codec", "-c", help="What to measure, several times for more; else original and unitoken.")
    ] = None,
    decoded: Annotated[
        list[Path] | None,
        typer.Option("--decoded", metavar="FOLDER", exists=True, file_okay=False, help="Decoded clips of another codec, several times for more."),
    ] = None,
    degrade: Annotated[
        list[ChangeName] | None,
        typer.Option("--degrade", help="Also measure each codec with this done to its input, several times for more; tokens moved are counted."),
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
    dnsmos: Annotated[Path | None, typer.Option("--dnsmos", exists=True, help="DNSMOS P.808 (model_v8.onnx) for the metric mos.")] = None,
    lyra: Annotated[Path | None, typer.Option("--lyra", exists=True, file_okay=False, help="Folder of Lyra's networks (.tflite).")] = None,
    language: Annotated[str, typer.Option("--language", metavar="CODE", help="Of clips whose manifest has none: en, de, ...")] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take this many clips, evenly over the manifest.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of recogniser and pitch tracker.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Clips measured at once, each in a process of its own.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            file_okay=False,
            help="Also save the report (Markdown, JSON, CSV, HTML); a broken run goes on.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Measure codecs on the clips of a manifest and print the figures as Markdown."""
    metrics = None if metric is None else [entry.value for entry in metric]
    default = [CodecName.original] if decoded else [CodecName.original, CodecName.unitoken]
    names = list(dict.fromkeys(codec or default))
    _check(metrics or [], names, {"words": asr, "speakers": speakers, "mos": dnsmos}, lyra)
    journal = None
    if output is not None:
        refuse_existing([output / name for name in REPORTS], force)
        journal = output / "clips.jsonl"
        if force:
            journal.unlink(missing_ok=True)
    wanted: Sequence[str | None] = list(dict.fromkeys(model or [])) or [None]
    tokenizers = {entry: load_tokenizer(entry, revision, device) for entry in wanted} if set(names) & set(CHANGES) else {}
    codecs = [made for name in names for made in _codecs(name, tokenizers, lyra)]
    codecs.extend(measuring.Degraded(codec, change.value) for codec in list(codecs) for change in dict.fromkeys(degrade or ()))
    codecs.extend(measuring.Decoded(folder) for folder in decoded or ())
    with Meter("clips", digits=0) as meter:
        report = measuring.evaluate(
            manifest,
            codecs,
            metrics=metrics,
            asr=asr,
            speakers=None if speakers is None else measuring.SpeakerEmbedder(speakers),
            dnsmos=None if dnsmos is None else measuring.Dnsmos(dnsmos, threads=threads),
            language=language,
            limit=limit,
            threads=threads,
            jobs=jobs,
            journal=journal,
            progress=meter.update,
        )
    if output is not None and journal is not None:
        report.save(output)
        _save_page(report, manifest, codecs, output / PAGE)
        journal.unlink()
        typer.echo(f"saved in {shown(output)}: {', '.join(name for name in REPORTS if (output / name).exists())}", err=True)
    typer.echo(report.markdown(), nl=False)


def _save_page(report: measuring.Report, manifest: Path, codecs: Sequence[measuring.Codec], path: Path) -> None:
    """Save the report as a page, or say what it needs."""
    from ..report import record_players, save_page

    try:
        save_page(report, path, record_players(report, manifest, [codec for codec in codecs if codec.name != "original"]))
    except MissingDependencyError as error:
        typer.echo(f"no {path.name}: {error}", err=True)


def _check(metrics: Sequence[str], names: Sequence[CodecName], given: dict[str, Any], lyra: Path | None) -> None:
    for metric in metrics:
        if metric in OPTIONS and given[metric] is None:
            raise UsageError(f"the metric {metric} needs {OPTIONS[metric]}")
    if lyra is None and any(name.value.startswith("lyra") for name in names):
        raise UsageError("Lyra needs its networks; add --lyra, the folder that has soundstream_encoder.tflite")


def _codecs(name: CodecName, tokenizers: dict[str | None, Tokenizer], lyra: Path | None) -> Iterator[measuring.Codec]:
    """Yield what a name stands for: one codec, or one for each model, told apart by the model's name."""
    kind, _, mode = name.value.partition("-")
    if kind == "original":
        yield measuring.Original()
    elif kind == "codec2":
        narrow: Any = mode
        yield measuring.Codec2(narrow)
    elif kind == "opus":
        yield measuring.Opus(int(mode))
    elif kind == "lyra" and lyra is not None:
        yield measuring.Lyra(lyra, int(mode))
    for model, tokenizer in tokenizers.items() if name in CHANGES else ():
        codec = measuring.TokenizerCodec(tokenizer, **CHANGES[name])
        if len(tokenizers) > 1:
            codec.name = codec.name.replace("unitoken", str(model), 1)
        yield codec
