"""From rows to figures: one summary a codec, and the report that holds them."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import replacing
from .confidence import Interval, intervals
from .markdown import render
from .usage import CodebookUsage
from .words import Errors, pool_errors

MEANS = (
    "stoi",
    "estoi",
    "pesq_wb",
    "mel_distance_db",
    "p808",
    "f0_correlation",
    "vuv_error",
    "gross_pitch_error",
    "speaker_cosine",
    "s_moved",
    "p_moved",
)

WORDS = ("wer", "self_cer")


@dataclass(frozen=True)
class Row:
    """One clip through one codec.

    Attributes:
        codec: the codec's name.
        clip: the path as the manifest has it.
        source: the corpus the clip is from.
        language: as the manifest has it.
        seconds: length.
        bits: what was sent, without `global_bits`; None where nobody knows.
        global_bits: bits sent once for the clip.
        encode_seconds: wall time of encoding.
        decode_seconds: wall time of decoding.
        values: the figures that are averaged over clips; None where one is not defined for this clip.
        errors: the counts behind `wer` (against the manifest's transcript) and `self_cer` (against the text heard in the original);
            None where there is nothing to compare with.
        original_text: what the recogniser heard in the original.
        text: what it heard in the decoded clip.
    """

    codec: str
    clip: str
    source: str
    language: str
    seconds: float
    bits: int | None
    global_bits: int
    encode_seconds: float
    decode_seconds: float
    values: dict[str, float | None]
    errors: dict[str, Errors | None]
    original_text: str | None
    text: str | None


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    Attributes:
        context: clips, metrics, versions and threads of the run.
        codecs: names, in the order they were given.
        rows: one for each clip and codec.
        usage: use of the codebooks, codec -> stream -> figures.
    """

    context: dict[str, Any]
    codecs: list[str]
    rows: list[Row]
    usage: dict[str, dict[str, CodebookUsage]]

    def summaries(self) -> list[dict[str, Any]]:
        """Return the figures of each codec; see `summarise`."""
        return [summarise(name, [row for row in self.rows if row.codec == name], self.usage.get(name, {})) for name in self.codecs]

    @property
    def base(self) -> str:
        """The codec that others are compared with: the first that is not the original."""
        return next((name for name in self.codecs if name != "original"), self.codecs[0])

    def confidence(self) -> dict[str, dict[str, Interval]]:
        """Return how sure the words are, figure -> codec -> interval; see `intervals`."""
        counts = {figure: {name: [row.errors.get(figure) for row in self.rows if row.codec == name] for name in self.codecs} for figure in WORDS}
        return {figure: found for figure in WORDS if (found := intervals(counts[figure], self.base))}

    def markdown(self) -> str:
        """Return the tables as Markdown."""
        return render(self.context, self.summaries(), self.confidence(), self.base)

    def to_json(self) -> str:
        """Return context, summaries and rows as JSON text; what could not be measured is null."""
        sure = {figure: {name: dataclasses.asdict(interval) for name, interval in found.items()} for figure, found in self.confidence().items()}
        rows = [dataclasses.asdict(row) for row in self.rows]
        data = {"context": self.context, "codecs": self.summaries(), "confidence": sure, "rows": rows}
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return a line for each clip and codec as CSV; what could not be measured is empty, words are errors and lengths."""
        figures = list(dict.fromkeys(key for row in self.rows for key in row.values))
        words = list(dict.fromkeys(key for row in self.rows for key in row.errors))
        plain = ("codec", "clip", "source", "language", "seconds", "bits", "global_bits", "encode_seconds", "decode_seconds")
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*plain, *figures, *(f"{key}_{part}" for key in words for part in ("errors", "length")), "original_text", "text"])
        for row in self.rows:
            counts = [row.errors.get(key) for key in words]
            found = [each for errors in counts for each in ((errors.errors, errors.length) if errors else (None, None))]
            table.writerow([*(getattr(row, key) for key in plain), *(row.values.get(key) for key in figures), *found, row.original_text, row.text])
        return file.getvalue()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `report.md`, `report.json` and `clips.csv` into a folder, made if needed; each replaces an old one at once or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("report.md", self.markdown()), ("report.json", self.to_json()), ("clips.csv", self.to_csv())):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(text.encode())


def summarise(name: str, rows: Sequence[Row], usage: dict[str, CodebookUsage]) -> dict[str, Any]:
    """Return one codec's figures.

    Args:
        name: the codec.
        rows: its rows.
        usage: use of its codebooks by stream.

    Returns:
        A dictionary that JSON can hold. Means are over the clips that have a value. `wer` and `self_cer` are sums of errors over sums of
        reference lengths, of all clips under `all` and of each source under its name. `measured` and `left_out` count the clips behind
        each figure, and those without it. Bits, seconds and times are sums over all clips before they are divided.
    """
    seconds = sum(row.seconds for row in rows)
    values = {key: [row.values[key] for row in rows if key in row.values] for key in MEANS}
    errors = {key: [(row.source, row.errors[key]) for row in rows if key in row.errors] for key in WORDS}
    tried = {key: list(found) for key, found in values.items() if found} | {key: [e for _, e in found] for key, found in errors.items() if found}
    return {
        "codec": name,
        "clips": len(rows),
        "seconds": seconds,
        "bitrate_bps": None if any(row.bits is None for row in rows) else _ratio(sum(row.bits or 0 for row in rows), seconds),
        "global_bits_per_clip": _ratio(sum(row.global_bits for row in rows), len(rows)),
        **{key: _mean(found) for key, found in values.items()},
        **{key: _by_source(found) for key, found in errors.items()},
        "codebooks": {stream: dataclasses.asdict(found) | {"fraction": found.fraction} for stream, found in usage.items()},
        "encode_xrt": _ratio(seconds, sum(row.encode_seconds for row in rows)),
        "decode_xrt": _ratio(seconds, sum(row.decode_seconds for row in rows)),
        "measured": {key: sum(item is not None for item in found) for key, found in tried.items()},
        "left_out": {key: sum(item is None for item in found) for key, found in tried.items()},
    }


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return _ratio(sum(found), len(found))


def _by_source(counts: Sequence[tuple[str, Errors | None]]) -> dict[str, float | None]:
    found = [(source, errors) for source, errors in counts if errors is not None]
    sources = {source: [errors for other, errors in found if other == source] for source in sorted({source for source, _ in found})}
    return {key: pool_errors(errors) for key, errors in ({"all": [errors for _, errors in found]} | sources).items()} if found else {}
