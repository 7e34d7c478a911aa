"""The list of clips to evaluate on: a TSV or JSONL file with path, source, speaker, language, seconds and transcript, or a folder of clips."""

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..audio import AUDIO_SUFFIXES
from ..errors import ConfigError

COLUMNS = ("path", "source", "speaker", "language", "seconds", "transcript")


@dataclass(frozen=True)
class Clip:
    """One row of a manifest.

    Attributes:
        path: the audio file.
        name: the path as the manifest has it.
        source: the corpus it is from.
        speaker: the corpus's own name of the speaker.
        language: ISO 639-1 code.
        transcript: what is said, or an empty string; a text that starts with `[` is no transcript and comes back empty.
        seconds: its length, as the manifest has it.
        sex: `f`, `m` or an empty string: from `sex=...` in a column `extra` of `key=value` pairs, if there is one.
        emotion: from `emotion=...` there, or an empty string.
    """

    path: Path
    name: str
    source: str
    speaker: str
    language: str
    transcript: str
    seconds: float = 0.0
    sex: str = ""
    emotion: str = ""


def read_manifest(path: str | os.PathLike[str], *, limit: int | None = None, language: str = "") -> list[Clip]:
    """Read a manifest; paths in it are relative to its folder, further columns are ignored.

    Args:
        path: a TSV file, UTF-8, with a header and without quoting; a JSONL file (`.jsonl`), one object a clip, of which only `path` must be
            there; or a folder, every audio file in it a clip of the source that its own folder is named.
        limit: take this many clips, evenly over the rows; None takes all.
        language: of the clips that have none; without one, their words are not measured.

    Raises:
        ConfigError: if the file or a column is missing, there are no rows, a path stands twice, or `limit` is below 1.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be 1 or more, or None for every clip, got {limit}")
    if path.is_dir():
        rows = _files(path)
    elif not path.is_file():
        raise ConfigError(f"no manifest at {path}; expected a TSV file with the columns {', '.join(COLUMNS)}, a JSONL file or a folder of clips")
    else:
        rows = _jsonl(path) if path.suffix == ".jsonl" else _tsv(path)
    folder = path if path.is_dir() else path.parent
    clips = [_clip(folder, {**row, "language": row.get("language") or language}) for row in rows]
    if not clips:
        raise ConfigError(f"{path} lists no clips; add {'audio files' if path.is_dir() else 'a row for each audio file'}")
    if twice := [name for name, count in Counter(clip.name for clip in clips).items() if count > 1]:
        raise ConfigError(f"{path} lists {twice[0]} {'and others ' if len(twice) > 1 else ''}more than once; each clip is measured once")
    if limit is None or limit >= len(clips):
        return clips
    return [clips[index * len(clips) // limit] for index in range(limit)]


def _tsv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise ConfigError(f"{path} lacks the columns {missing}; a manifest has {', '.join(COLUMNS)}, separated by tabs")
        return list(reader)


def _jsonl(path: Path) -> list[dict[str, str]]:
    rows = list[dict[str, str]]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            rows.append({column: str(entry.get(column) or "") for column in (*COLUMNS, "extra")} | {"path": str(entry["path"])})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"{path}, line {number}: expected an object with a path, got {line[:80]!r}") from error
    return rows


def _files(folder: Path) -> list[dict[str, str]]:
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    source = folder.resolve().name
    return [{"path": path.as_posix(), "source": path.parent.name or source, "speaker": "", "transcript": "", "seconds": ""} for path in paths]


def _clip(folder: Path, row: dict[str, str]) -> Clip:
    transcript = "" if row["transcript"].startswith("[") else row["transcript"]
    extra = dict(pair.split("=", 1) for pair in (row.get("extra") or "").split(";") if "=" in pair)
    try:
        seconds = float(row["seconds"] or 0)
    except ValueError:
        raise ConfigError(f"the seconds of {row['path']} are {row['seconds']!r}; expected a number") from None
    sex = extra.get("sex", "")
    return Clip(
        path=folder / row["path"],
        name=row["path"],
        source=row["source"],
        speaker=row["speaker"],
        language=row["language"],
        transcript=transcript,
        seconds=seconds,
        sex=sex if sex in {"f", "m"} else "",
        emotion=extra.get("emotion", ""),
    )
