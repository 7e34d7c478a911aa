"""`unitoken corpus`: from a folder of audio to shards of tokens, and what can be done with these."""

import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import counted, duration
from .options import Device, Json, Model, Revision
from .progress import Meter

if TYPE_CHECKING:
    from ..corpus import Plan, Progress
    from ..corpus.job import Report

app = typer.Typer(no_args_is_help=True, help="Tokens of whole corpora: encode, look at, check, and write out again.")

Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="IN...", help="Folders of audio, TSV, JSONL or Parquet manifests, WebDataset tars, lhotse's cuts or Shar, datasets of Hugging Face."
    ),
]
Place = Annotated[str, typer.Option("--output", "-o", metavar="CORPUS", help="Folder or fsspec URL (s3://...) of the corpus.")]
Held = Annotated[str, typer.Argument(metavar="CORPUS", help="Folder or fsspec URL of a corpus.")]
Archives = Annotated[
    list[Path] | None, typer.Option("--archive", exists=True, help="Tar file whose members are named as in the manifest; several times for several.")
]
AudioColumn = Annotated[str | None, typer.Option("--audio-column", help="Column of paths or bytes; else audio, path or audio_filepath.")]
IdColumn = Annotated[str | None, typer.Option("--id-column", help="Column of unique ids; else id, or without one the paths.")]
Rows = Annotated[int, typer.Option("--rows", min=1, help="Utterances of a shard.")]
ROWS = 2048


class Engine(str, Enum):
    """What makes the shards."""

    local = "local"
    ray = "ray"


_SHOWN = 8  # values of a column


@app.command()
def encode(
    inputs: Sources,
    output: Place,
    archive: Archives = None,
    audio_column: AudioColumn = None,
    id_column: IdColumn = None,
    rows: Rows = ROWS,
    model: Model = None,
    revision: Revision = None,
    device: Annotated[list[str] | None, typer.Option("--device", "-d", help="cpu, cuda:0, ...; several times: one process each.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=0, help="Processes; 0: one for each core, or each device.")] = 0,
    shard: Annotated[
        str | None, typer.Option("--shard", help="i/n: every n-th shard from the i-th on; else by Slurm's or torchrun's variables.")
    ] = None,
    margins: Annotated[bool, typer.Option("--margins", help="Keep how near each utterance's nearest token was to another.")] = False,
    reuse: Annotated[
        str | None, typer.Option("--reuse", metavar="CORPUS", help="Take utterances from there whose id and audio are the same.")
    ] = None,
    readers: Annotated[int, typer.Option("--readers", min=1, help="Threads of each process that read and decode.")] = 2,
    batch_seconds: Annotated[float, typer.Option("--batch-seconds", min=1, help="Audio that goes through the model at once.")] = 300.0,
    max_errors: Annotated[int | None, typer.Option("--max-errors", min=0, help="Stop when more utterances than this have failed.")] = None,
    retry: Annotated[bool, typer.Option("--retry/--no-retry", help="Try utterances again that failed in an earlier run.")] = True,
    renew: Annotated[bool, typer.Option("--renew", help="Make shards again that another model made.")] = False,
    engine: Annotated[Engine, typer.Option("--engine", help="local: processes of this machine; ray: actors on a Ray cluster.")] = Engine.local,
    json_: Json = False,
) -> None:
    """Encode a corpus to Parquet shards, or go on with one.

    Whatever ended a run, the next one goes on, and the shards are the same. What could not be encoded is in errors.jsonl.
    """
    from ..corpus import Settings, encode_corpus
    from ..corpus.ranks import read_share
    from ..corpus.run import keep_few_kernels

    keep_few_kernels()
    share = read_share(shard, os.environ)
    plan = _planned(inputs, archive, audio_column, id_column, rows)
    devices = device or ["cpu"]
    settings = Settings(model, revision, devices[0], margins, readers, batch_seconds, reuse)
    count = workers or (_cores() if devices == ["cpu"] else len(devices))
    with _Watch(json_) as watch:
        options: dict[str, Any] = {"share": share, "devices": devices, "max_errors": max_errors, "retry": retry, "renew": renew, "watch": watch}
        if engine is Engine.ray:
            from ..corpus.ray_engine import encode_corpus_ray

            progress = encode_corpus_ray(output, plan, settings, workers=workers or None, **options)
        else:
            progress = encode_corpus(output, plan, settings, workers=count, **options)
    watch.end(output, progress)
    if progress.failures or progress.stopped:
        raise typer.Exit(1)


def _planned(inputs: list[Path], archive: list[Path] | None, audio: str | None, id_column: str | None, rows: int) -> "Plan":
    from ..corpus import make_plan

    return make_plan(inputs, archives=archive or (), audio=audio, id_column=id_column, rows=rows)


def _cores() -> int:
    from ..corpus.run import cores

    return cores()


class _Watch:
    """Shows how far a job is: on a bar, as plain lines, or as events in JSON."""

    def __init__(self, json_: bool) -> None:
        self.json, self.meter = json_, Meter("utterances", 0)

    def __enter__(self) -> "_Watch":
        if not self.json:
            self.meter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if not self.json:
            self.meter.__exit__(*error)

    def __call__(self, progress: "Progress", report: "Report | None") -> None:
        """Show progress."""
        if self.json:
            self._event("progress" if report is None else "shard", progress, {} if report is None else vars(report))
        else:
            self.meter.show(line(progress), progress.rows_done + progress.failures, progress.rows)

    def end(self, place: str, progress: "Progress") -> None:
        """Say what was done."""
        if self.json:
            self._event("stopped" if progress.stopped else "done", progress, {})
            return
        typer.echo(
            f"{place}: {counted(progress.rows_done, 'utterance')} in {progress.shards_done} of {counted(progress.shards, 'shard')}; now "
            f"{progress.seconds / 3600:.2f} h of audio in {duration(progress.elapsed_s)}, {rate(progress):.0f} h/h",
            err=True,
        )
        if progress.failures:
            typer.echo(f"{counted(progress.failures, 'utterance')} failed, see errors.jsonl there; run again to try them again", err=True)
        if progress.stopped:
            typer.echo("stopped early; run again to go on", err=True)

    def _event(self, kind: str, progress: "Progress", more: dict[str, Any]) -> None:
        values = {"event": kind, "rows": progress.rows, "rows_done": progress.rows_done, "failures": progress.failures, "shards": progress.shards}
        values |= {"shards_done": progress.shards_done, "hours": progress.seconds / 3600, "elapsed_s": progress.elapsed_s}
        typer.echo(json.dumps(values | ({"report": more} if more else {})))


def rate(progress: "Progress") -> float:
    """Return hours of audio an hour."""
    return progress.seconds / max(progress.elapsed_s, 1e-9)


def line(progress: "Progress") -> str:
    """Return one line about a job."""
    done = progress.rows_done + progress.failures
    text = f"{done} of {counted(progress.rows, 'utterance')}, {progress.seconds / 3600:.2f} h at {rate(progress):.0f} h/h"
    if progress.failures:
        text += f", {counted(progress.failures, 'error')}"
    if progress.seconds and done:
        text += f", {duration((progress.rows - done) * progress.elapsed_s / done)} left"
    return text


@app.command("plan")
def plan_(
    inputs: Sources,
    archive: Archives = None,
    audio_column: AudioColumn = None,
    id_column: IdColumn = None,
    rows: Rows = ROWS,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option("--workers", "-w", min=0, help="Processes to estimate for; 0: one for each core.")] = 0,
    probe: Annotated[float, typer.Option("--probe", min=0, help="Seconds for which some utterances are encoded to measure the rate.")] = 20.0,
    json_: Json = False,
) -> None:
    """Say what a corpus would take, and write nothing: utterances, hours, disk, time."""
    from ..corpus import Settings
    from ..corpus.estimate import estimate

    found = estimate(_planned(inputs, archive, audio_column, id_column, rows), Settings(model, revision, device), probe_seconds=probe)
    count = workers or (_cores() if device == "cpu" else 1)
    needed = found.hours_needed(count)
    if json_:
        typer.echo(json.dumps(vars(found) | {"workers": count, "hours_needed": needed}))
        return
    typer.echo(f"{counted(found.rows, 'utterance')}, {counted(found.shards, 'shard')}")
    typer.echo(
        f"about {found.hours:.1f} h of audio (standard error {found.hours_error:.1f}), {found.unreadable:.1%} of those looked at cannot be read"
    )
    typer.echo(f"about {found.bytes / 1e6:.1f} MB of shards")
    if needed is not None:
        typer.echo(f"{found.rate:.0f} h/h by one process; {duration(needed * 3600)} by {'one' if count == 1 else count} at a time")


@app.command()
def verify(
    corpus: Held,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Utterances to encode again and compare.")] = 20,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of utterances.")] = 0,
    json_: Json = False,
) -> None:
    """Check that a corpus is whole and undamaged, and that its tokens are those of its audio."""
    from ..corpus import Settings
    from ..corpus.check import verify_corpus

    found = verify_corpus(corpus, sample=sample, settings=Settings(model, revision, device), seed=seed)
    if json_:
        typer.echo(json.dumps(vars(found), ensure_ascii=False))
    else:
        typer.echo(
            f"{counted(found.shards, 'shard')}, {counted(found.rows, 'utterance')}, {found.failures} without tokens, {found.again} encoded again"
        )
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(f"{counted(len(found.problems), 'problem')}" if found.problems else "all is as it should be")
    if found.problems:
        raise typer.Exit(1)


@app.command()
def stats(
    corpus: Held,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots too.")] = None,
    json_: Json = False,
) -> None:
    """Say what a corpus is made of: hours, lengths, and how its tokens are spread over the codebooks."""
    from ..corpus import Corpus
    from ..corpus.statistics import statistics_of

    opened = Corpus(corpus)
    found = statistics_of(opened)
    if html is not None:
        from ..report.corpus_page import save_corpus_page

        save_corpus_page(opened, found, html)
    streams = {
        name: {"tokens": stream.tokens, "codebook_size": stream.codebook_size, "used": stream.used, "entropy": stream.entropy}
        for name, stream in found.streams.items()
    }
    if json_:
        groups = {name: {value: {"hours": hours, "utterances": count} for value, (hours, count) in own.items()} for name, own in found.groups.items()}
        whole = {"utterances": found.utterances, "hours": found.hours, "seconds": found.quantiles, "streams": streams, "groups": groups}
        typer.echo(json.dumps(whole, ensure_ascii=False))
        return
    typer.echo(f"{counted(found.utterances, 'utterance')}, {found.hours:.2f} h by {opened.info.name} ({opened.info.fingerprint:.8})")
    typer.echo("seconds: " + ", ".join(f"{percent} % {seconds:.2f}" for percent, seconds in found.quantiles.items()))
    for name, stream in found.streams.items():
        typer.echo(
            f"{name}: {stream.tokens} tokens, {stream.used / stream.codebook_size:.1%} of {stream.codebook_size} codewords used, "
            f"{stream.entropy:.2f} bits each, perplexity {stream.perplexity:.0f}"
        )
    for column, own in found.groups.items():
        named = [f"{value} {hours:.2f} h" for value, (hours, _) in list(own.items())[:_SHOWN]]
        typer.echo(f"{column}: {', '.join(named)}{f', and {len(own) - _SHOWN} more' if len(own) > _SHOWN else ''}")
