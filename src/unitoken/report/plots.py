"""How figures spread over the clips: one picture a figure, boxes by source and by language."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import missing_extra
from ..evaluate import Report, Row

TITLES = {
    "stoi": "STOI",
    "estoi": "ESTOI",
    "pesq_wb": "PESQ-WB",
    "mel_distance_db": "mel distance, dB",
    "p808": "P.808",
    "speaker_cosine": "speaker cosine",
    "f0_correlation": "F0 correlation",
    "vuv_error": "V/UV error",
    "wer": "WER",
    "self_cer": "self-CER",
}


def box_plots(report: Report) -> dict[str, str]:
    """Return one SVG picture for each figure that was measured, title -> markup; the original is left out, its figures are the ceiling.

    Raises:
        MissingDependencyError: without the extra `[report]`.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("an HTML report", "report") from error
    codecs = [codec for codec in report.codecs if codec != "original"]
    rows = [row for row in report.rows if row.codec in codecs]
    groups = {"source": _groups(rows, lambda row: row.source), "language": _groups(rows, lambda row: row.language)}
    pictures = dict[str, str]()
    for figure, title in TITLES.items():
        if not any(_value(row, figure) is not None for row in rows):
            continue
        with mpl.rc_context({"svg.hashsalt": "unitoken", "svg.fonttype": "none"}):  # the same report gives the same picture
            canvas: Any = Figure(figsize=(11, 3.6), layout="constrained")
            widths = [max(1, len(names)) for names in groups.values()]
            for axes, (kind, names) in zip(canvas.subplots(1, 2, sharey=True, width_ratios=widths), groups.items(), strict=True):
                _boxes(axes, names, codecs, figure)
                axes.set_title(f"{title} by {kind}")
            if len(codecs) > 1:
                canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(codecs))
            file = io.StringIO()
            canvas.savefig(file, format="svg", metadata={"Date": None})
        pictures[title] = file.getvalue()[file.getvalue().index("<svg") :]
    return pictures


def _boxes(axes: Any, groups: Mapping[str, Sequence[Row]], codecs: Sequence[str], figure: str) -> None:
    """Draw a box for each codec in each group."""
    width = 0.8 / len(codecs)
    for number, codec in enumerate(codecs):
        values = [[value for row in rows if row.codec == codec and (value := _value(row, figure)) is not None] for rows in groups.values()]
        places = [group + (number - (len(codecs) - 1) / 2) * width for group in range(len(groups))]
        boxes = axes.boxplot(values, positions=places, widths=width * 0.85, patch_artist=True, flierprops={"markersize": 2}, manage_ticks=False)
        for box in boxes["boxes"]:
            box.set_facecolor(f"C{number}")
        for line in boxes["medians"]:
            line.set_color("black")
        axes.plot([], [], color=f"C{number}", linewidth=6, label=codec)  # its row of the legend
    axes.set_xticks(range(len(groups)), list(groups), rotation=20, ha="right", rotation_mode="anchor")
    axes.grid(axis="y", alpha=0.3)


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    found = {"all": list(rows)}
    for row in rows:
        found.setdefault(key(row) or "unknown", []).append(row)
    return found


def _value(row: Row, figure: str) -> float | None:
    if figure in row.values:
        return row.values[figure]
    errors = row.errors.get(figure)
    return errors.rate if errors else None
