"""The list of clips to evaluate on: a TSV file with the columns path, source, speaker, language, seconds and transcript."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

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
    """

    path: Path
    name: str
    source: str
    speaker: str
    language: str
    transcript: str
    seconds: float = 0.0
    sex: str = ""


def read_manifest(path: str | os.PathLike[str], *, limit: int | None = None) -> list[Clip]:
    """Read a manifest; paths in it are relative to its folder, further columns are ignored.

    Args:
        path: the TSV file, UTF-8, with a header and without quoting.
        limit: take this many clips, evenly over the rows; None takes all.

    Raises:
        ConfigError: if the file or a column is missing, there are no rows, or `limit` is below 1.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no manifest at {path}; expected a TSV file with the columns {', '.join(COLUMNS)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be 1 or more, or None for every clip, got {limit}")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise ConfigError(f"{path} lacks the columns {missing}; a manifest has {', '.join(COLUMNS)}, separated by tabs")
        clips = [_clip(path.parent, row) for row in reader]
    if not clips:
        raise ConfigError(f"{path} lists no clips; add a row for each audio file")
    if limit is None or limit >= len(clips):
        return clips
    return [clips[index * len(clips) // limit] for index in range(limit)]


def _clip(folder: Path, row: dict[str, str]) -> Clip:
    transcript = "" if row["transcript"].startswith("[") else row["transcript"]
    extra = dict(pair.split("=", 1) for pair in (row.get("extra") or "").split(";") if "=" in pair)
    try:
        seconds = float(row["seconds"] or 0)
    except ValueError:
        raise ConfigError(f"the seconds of {row['path']} are {row['seconds']!r}; expected a number") from None
    sex = extra.get("sex", "")
    return Clip(
        folder / row["path"], row["path"], row["source"], row["speaker"], row["language"], transcript, seconds, sex if sex in {"f", "m"} else ""
    )
