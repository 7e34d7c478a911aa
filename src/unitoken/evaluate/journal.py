"""What a run has measured so far, one line of JSON a clip, so that a run that was broken off goes on where it stopped."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .summary import Row
from .usage import StreamTokens
from .words import Errors


@dataclass(frozen=True)
class Measured:
    """One clip through one codec.

    Attributes:
        row: its figures.
        tokens: what it was sent as, by stream; none where the codec has no tokens.
    """

    row: Row
    tokens: dict[str, StreamTokens]


class Journal:
    """The clips of a run that are done.

    Args:
        path: the file; None keeps nothing.
        run: what the run is, as JSON can hold it: only a run that is the same may go on.

    Raises:
        ConfigError: if the file is of another run, or no journal.
    """

    def __init__(self, path: str | os.PathLike[str] | None, run: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.done = dict[str, list[Measured]]()
        if self.path is None:
            return
        if self.path.exists():
            self._read(self.path, run)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(_line({"run": run}), encoding="utf-8")

    def add(self, clip: str, measured: Sequence[Measured]) -> None:
        """Note that a clip is done, with all codecs."""
        self.done[clip] = list(measured)
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line({"clip": clip, "measured": [dataclasses.asdict(each) for each in measured]}))

    def _read(self, path: Path, run: Mapping[str, Any]) -> None:
        whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]  # the last may be cut off
        try:
            first, *others = [json.loads(line) for line in whole] or [{}]
            self.done = {entry["clip"]: [_measured(each) for each in entry["measured"]] for entry in others}
            before = dict(first["run"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no journal of an evaluation ({error!r}); choose another folder, or start over with force") from error
        now = json.loads(json.dumps(run))
        if different := sorted(key for key in {**before, **now} if before.get(key) != now.get(key)):
            raise ConfigError(
                f"{path} has {len(others)} clips of a run with another {', '.join(different)}; go on with that one, choose another folder, or start "
                "over with force"
            )
        with path.open("r+b") as file:
            file.truncate(sum(len(line.encode()) for line in whole))


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"


def _measured(entry: Mapping[str, Any]) -> Measured:
    row = dict(entry["row"])
    row["errors"] = {figure: found and Errors(**found) for figure, found in row["errors"].items()}
    return Measured(Row(**row), {stream: StreamTokens(**found) for stream, found in entry["tokens"].items()})
