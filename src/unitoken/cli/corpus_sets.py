"""The commands of `unitoken corpus` that make something else of corpora: audio, other formats, other corpora."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .corpus import ROWS, Held, Place, Rows
from .messages import UsageError, counted
from .options import AudioFormat, Device, Json, Model, Revision, load_tokenizer

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many utterances, the first.")]


class Kind(str, Enum):
    """What a corpus is written as."""

    jsonl = "jsonl"
    webdataset = "webdataset"
    megatron = "megatron"


def decode(
    corpus: Held,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the audio files; those that are there stay.")],
    format_: Annotated[AudioFormat, typer.Option("--format", help="Format of the audio.")] = AudioFormat.flac,
    limit: Limit = None,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
) -> None:
    """Decode a corpus to audio files, named by the utterances' ids."""
    from ..corpus import Corpus
    from ..corpus.out import decode_corpus
    from .progress import Meter

    opened = Corpus(corpus)[:limit]
    tokenizer = load_tokenizer(model, revision, device)
    with Meter("utterances", 0) as meter:
        for count, _ in enumerate(decode_corpus(opened, tokenizer, output, suffix=f".{format_.value}"), 1):
            meter.update(count, len(opened))
    typer.echo(f"{output}: {counted(len(opened), 'file')}", err=True)


def export(
    corpus: Held,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="File for jsonl, folder for webdataset, path without suffix for megatron.")
    ],
    kind: Annotated[
        Kind, typer.Option("--to", help="jsonl: a line an utterance; webdataset: tars of .utok and .json; megatron: ids as .bin and .idx.")
    ],
    layout: Annotated[
        Path | None,
        typer.Option("--layout", exists=True, dir_okay=False, help="For megatron: how ids lie, as lm.Layout.save wrote it; else S and P in turn."),
    ] = None,
    limit: Limit = None,
) -> None:
    """Write a corpus in another format. As Parquet it can be read by `datasets.load_dataset("parquet", ...)` as it is."""
    from ..corpus import Corpus, out

    if layout is not None and kind is not Kind.megatron:
        raise UsageError(f"--layout goes with --to megatron, not with {kind.value}")
    opened = Corpus(corpus)[:limit]
    if kind is Kind.jsonl:
        typer.echo(f"{output}: {counted(out.write_jsonl(opened, output), 'line')}")
    elif kind is Kind.webdataset:
        typer.echo(f"{output}: {counted(len(out.write_webdataset(opened, output)), 'archive')}")
    else:
        from ..lm import Layout

        count = out.write_megatron(opened, output, None if layout is None else Layout.load(layout))
        typer.echo(f"{output}.bin, {output}.idx, {output}.layout.json: {counted(len(opened), 'document')}, {count} ids")


def merge(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Corpora of one tokenizer, in the order that their utterances are to have.")
    ],
    output: Place,
    rows: Rows = ROWS,
) -> None:
    """Join corpora to one."""
    from ..corpus.sets import merge_corpora

    if len(corpora) < 2:
        raise UsageError("merge joins two corpora or more; give their folders")
    whole = merge_corpora(corpora, output, rows=rows)
    typer.echo(f"{output}: {counted(whole.rows, 'utterance')}, {whole.seconds / 3600:.2f} h")


def filter_(
    corpus: Held,
    where: Annotated[str, typer.Argument(metavar="CONDITION", help="In SQL, on the corpus's columns: \"seconds < 20 and language = 'de'\".")],
    output: Place,
    rows: Rows = ROWS,
) -> None:
    """Write the utterances for which a condition holds as a corpus."""
    from ..corpus.sets import filter_corpus

    whole = filter_corpus(corpus, output, where, rows=rows)
    typer.echo(f"{output}: {counted(whole.rows, 'utterance')}, {whole.seconds / 3600:.2f} h")


def diff(
    first: Annotated[str, typer.Argument(metavar="FIRST")],
    second: Annotated[str, typer.Argument(metavar="SECOND")],
    ids: Annotated[bool, typer.Option("--ids", help="Name the utterances that differ.")] = False,
    json_: Json = False,
) -> None:
    """Compare two corpora of the same audio, such as those of two versions of a model. Exit code 1 if they differ."""
    from ..corpus import Corpus
    from ..corpus.sets import diff_corpora

    found = diff_corpora(Corpus(first), Corpus(second))
    lists = {
        "only in the first": found.only_first,
        "only in the second": found.only_second,
        "of other audio": found.audio,
        "of other tokens": found.changed,
    }
    if json_:
        typer.echo(json.dumps(vars(found), ensure_ascii=False))
    else:
        typer.echo(f"{counted(found.same, 'utterance')} the same, " + ", ".join(f"{len(names)} {kind}" for kind, names in lists.items()))
        for stream, compared in found.compared.items():
            if compared:
                typer.echo(f"{stream}: {found.differing[stream]} of {compared} tokens differ ({found.differing[stream] / compared:.2%})")
        if ids:
            for kind, names in lists.items():
                for name in names:
                    typer.echo(f"{kind}: {name}")
    if any(lists.values()):
        raise typer.Exit(1)
