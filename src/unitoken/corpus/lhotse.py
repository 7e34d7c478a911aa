"""Cuts as lhotse writes them: a manifest of cuts whose recordings are files, and Shar folders whose recordings are in tar archives."""

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from ..audio import AUDIO_SUFFIXES
from ..errors import CorpusError
from .plan import SOURCE, locators
from .store import is_url

ABOUT = ("text", "speaker", "language")
"""What is taken of a cut's supervisions."""


def is_cuts(path: Path) -> bool:
    """Return whether a file is a manifest of cuts: JSONL, gzipped or not, whose first object has a recording or is a piece of a Shar folder."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        return False
    try:
        with _opened(path) as file:
            first = json.loads(file.readline())
    except (ValueError, OSError, EOFError, zlib.error):
        return False
    return isinstance(first, dict) and str(first.get("type", "")).endswith("Cut")


def is_shar(path: Path) -> bool:
    """Return whether a folder is a Shar."""
    return any(path.glob("cuts.*.jsonl*")) and any(path.glob("recording.*.tar"))


def read_cuts(path: Path) -> pa.Table:
    """Read a manifest of cuts; paths in it are relative to where the program runs, as for lhotse.

    Raises:
        CorpusError: if a line is no cut of one recording that is a file, as it is and with all its channels.
    """
    rows = list[tuple[dict[str, Any], bytes, int | None, int | None]]()
    for line, cut in _cuts(path):
        recording = cut.get("recording") or {}
        sources = recording.get("sources") or []
        if len(sources) != 1 or sources[0].get("type") not in {"file", "url"}:
            raise _other(path, line, cut, "has no recording that is one file")
        if recording.get("transforms"):
            raise _other(path, line, cut, "has a recording that lhotse changes as it reads it")
        if len(channels := sources[0].get("channels") or []) > 1 and cut.get("channel") != channels:
            raise _other(path, line, cut, f"is not all of its recording's channels {channels}")
        name = str(sources[0]["source"])
        rows.append((cut, name.encode() if is_url(name) else os.fsencode(os.path.abspath(name)), None, None))
    return _table(rows)


def read_shar(folder: Path) -> pa.Table:
    """Read a Shar folder: the n-th line of a file of cuts belongs to the n-th audio file of the archive with its number.

    Raises:
        CorpusError: if cuts and audio files are not equally many or named differently, or a file cannot be read.
    """
    rows = list[tuple[dict[str, Any], bytes, int | None, int | None]]()
    for cuts in sorted(folder.glob("cuts.*.jsonl*")):
        number = cuts.name.split(".")[1]
        archive = folder / f"recording.{number}.tar"
        try:
            with tarfile.open(archive, "r:") as tar:
                audio = [member for member in tar if member.isreg() and os.path.splitext(member.name)[1].lower() in AUDIO_SUFFIXES]
        except (tarfile.TarError, EOFError, OSError) as error:
            raise CorpusError(f"cannot read {archive}: {error}; a Shar has recordings as audio in a tar file beside each file of cuts") from error
        listed = [cut for _, cut in _cuts(cuts)]
        if len(listed) != len(audio):
            raise CorpusError(f"{cuts} has {len(listed)} cuts, {archive} {len(audio)} audio files; they must be as many: write the Shar again")
        for cut, member in zip(listed, audio, strict=True):
            if os.path.splitext(member.name)[0] != cut["id"]:
                raise CorpusError(f"{cuts} has the cut {cut['id']!r} where {archive} has {member.name}; they must be alike: write the Shar again")
        held = os.fsencode(archive.resolve())
        # In a Shar the audio of a cut is cut out already.
        whole = ({**cut, "start": 0.0, "whole": True} for cut in listed)
        rows += [(cut, held, member.offset_data, member.size) for cut, member in zip(whole, audio, strict=True)]
    return _table(rows)


def _cuts(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(_lines(path), 1):
        try:
            cut = json.loads(text)
            cut |= {"start": float(cut["start"]), "duration": float(cut["duration"]), "id": str(cut["id"])}
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{path}, line {line}: expected a cut with id, start and duration, got {text[:80]!r}; mend it or write its audio out with lhotse"
            ) from error
        yield line, cut


def _lines(path: Path) -> Iterator[str]:
    try:
        with _opened(path) as file:
            yield from file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {path}: {error}; give a whole file of cuts as UTF-8") from error


def _other(path: Path, line: int, cut: dict[str, Any], what: str) -> CorpusError:
    return CorpusError(f"{path}, line {line}: the cut {cut['id']!r} {what}; write its audio out with lhotse first")


def _opened(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")  # type: ignore[return-value]


def _table(rows: list[tuple[dict[str, Any], bytes, int | None, int | None]]) -> pa.Table:
    """Return cuts as a plan's table; a cut that is its whole recording has no span."""
    cuts = [cut for cut, *_ in rows]
    whole = [cut.get("whole") or (cut["start"] == 0 and cut["duration"] == cut["recording"].get("duration")) for cut in cuts]
    parts = {
        "offset": pa.array([offset for _, _, offset, _ in rows], pa.int64()),
        "size": pa.array([size for *_, size in rows], pa.int64()),
        "start": pa.array([None if all_ else cut["start"] for cut, all_ in zip(cuts, whole, strict=True)], pa.float64()),
        "end": pa.array([None if all_ else cut["start"] + cut["duration"] for cut, all_ in zip(cuts, whole, strict=True)], pa.float64()),
    }
    about = {name: pa.array([_said(cut, name) for cut in cuts], pa.string()) for name in ABOUT}
    ids = pa.array([cut["id"] for cut in cuts], pa.string())
    return pa.table({"id": ids, SOURCE: locators([path for _, path, *_ in rows], **parts), **about})


def _said(cut: dict[str, Any], name: str) -> str | None:
    """Return what a cut's supervisions say: texts one after the other, and of speakers and languages each once."""
    said = [str(part[name]) for part in cut.get("supervisions") or [] if part.get(name)]
    return " ".join(said if name == "text" else dict.fromkeys(said)) or None
