"""The log of a run as pictures: one panel a column, smoothed over the raw values."""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import TrainError, missing_extra
from ..files import replacing

LOG, HIDDEN = "log.csv", ("step", "time")


def read_log(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    """Return the columns of a run's log.

    Raises:
        TrainError: if there is no log, it has no rows, or holds something else than numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise TrainError(f"{path} is missing; give the folder of a training run that has logged at least once")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise TrainError(f"{path} has no rows of a training log yet")
    try:
        return {name: [float(row[name]) for row in rows] for name in rows[0]}
    except (TypeError, ValueError) as error:
        raise TrainError(f"{path} holds something else than numbers ({error})") from error


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """Return the running mean in which each value before counts `share` times as much as the one after; not biased to the start."""
    total = weight = 0.0
    result = list[float]()
    for value in values:
        total, weight = share * total + value, share * weight + 1
        result.append(total / weight)
    return result


def plot_run(folder: str | os.PathLike[str], target: str | os.PathLike[str] | None = None, *, smooth: float = 0.9) -> Path:
    """Draw a run's log as PNG.

    Args:
        folder: of the run.
        target: file to write; None is `curves.png` in the run's folder.
        smooth: 0 to below 1; see `smoothed`.

    Returns:
        The file.

    Raises:
        TrainError: if there is no log, or `smooth` is out of range.
        MissingDependencyError: without the extra `[train]`.
    """
    if not 0 <= smooth < 1:
        raise TrainError(f"smooth must be at least 0 and below 1, got {smooth}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("curves of a run", "train") from error
    columns = read_log(Path(folder) / LOG)
    names = [name for name in columns if name not in HIDDEN]
    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(12, 2.4 * rows), layout="constrained")
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, 3, index + 1)
        axes.plot(columns["step"], columns[name], color="tab:blue", alpha=0.25, linewidth=0.8)
        axes.plot(columns["step"], smoothed(columns[name], smooth), color="tab:blue", linewidth=1.4)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    path = Path(folder) / "curves.png" if target is None else Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
