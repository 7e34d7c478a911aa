"""Quality against hours of training: figures of several releases of a model in one report, a line through them, and where it meets a target.

usage: python scripts/compute_curve.py REPORT.json HOURS.tsv [-o CURVE.png]

`unitoken evaluate --decoded FOLDER/COMMIT ... -o REPORT` makes the report, of clips that `scripts/releases.py` decoded; HOURS.tsv has the columns
codec (its name in the report), model and hours (core-hours of training up to it). Targets are 1.3 times Lyra's errors of words, and Opus's STOI,
PESQ-WB and mel distance, in the same report.

The line is of least squares over the logarithm of the hours; errors, which cannot fall below 0, are logarithms too. Given are what twice the hours
add, or what they multiply errors by, and the hours at which the line meets the target, both with the interval that holds 95 % of 2,000 draws of as
many clips with replacement, the same for all releases. It knows nothing of what was changed between releases besides the hours.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from unitoken.evaluate.confidence import draws
from unitoken.evaluate.markdown import lay_out

MOST = 10_000_000
LYRA, OPUS = "Lyra 3.2k", "Opus 6k"
FIGURES = {
    "self-CER LibriSpeech": ("self_cer", "librispeech", LYRA, 1.3),
    "WER": ("wer", None, LYRA, 1.3),
    "self-CER": ("self_cer", None, LYRA, 1.3),
    "STOI": ("stoi", None, OPUS, 1.0),
    "PESQ-WB": ("pesq_wb", None, OPUS, 1.0),
    "mel dB": ("mel_distance_db", None, OPUS, 1.0),
}
"""Name: what a row calls it, source or None for all, codec and factor of the target."""


def parts(rows, key, source):
    """Return each clip's errors and lengths, or values and ones, `(clips,)` each; 0 and 0 where there is nothing to measure."""
    pairs = []
    for row in rows:
        found = row["errors"].get(key) if key in row["errors"] else row["values"].get(key)
        if found is None or (source and row["source"] != source):
            found = {"errors": 0, "length": 0}
        elif not isinstance(found, dict):
            found = {"errors": found, "length": 1}
        pairs.append((found["errors"], found["length"]))
    return np.array(pairs, np.float64).T


def span(values, form):
    """Return the middle 95 % of some values, written down."""
    low, high = (np.quantile(values, q, method="nearest") for q in (0.025, 0.975))
    return f"{form(low)} to {form(high)}"


def written_hours(hours):
    """Return core-hours, rounded."""
    if hours > MOST:
        return "never" if np.isinf(hours) else f"over {MOST:,}"
    return f"{float(f'{hours:.1e}'):,.{0 if hours >= 10 else 1}f}"


def meeting(slope, intercept, target, better):
    """Return the hours at which lines reach their targets; infinity where they lead away from it."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        hours = 2.0 ** ((target - intercept) / slope)
    return np.where(np.sign(slope) == better, hours, np.inf)


def main() -> None:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("hours", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="picture")
    args = parser.parse_args()
    rows = json.loads(args.report.read_text(encoding="utf-8"))["rows"]
    with args.hours.open(encoding="utf-8") as file:
        releases = list(csv.DictReader(file, delimiter="\t"))
    names, hours = [row["codec"] for row in releases], np.array([float(row["hours"]) for row in releases])
    by_codec = {name: sorted((row for row in rows if row["codec"] == name), key=lambda row: row["clip"]) for name in [*names, LYRA, OPUS]}
    clips = len(by_codec[names[0]])
    drawn = np.concatenate([np.ones((1, clips)), draws(clips)])  # the clips as they are come first

    print(f"{clips} clips\n")
    columns = ["", *(f"{row['model']}, {row['hours']} h" for row in releases), "twice the hours", "target", "met at hours", "95 %"]
    table, curves = [columns], {}
    for title, (key, source, rival, factor) in FIGURES.items():
        counts = {name: parts(own, key, source) for name, own in by_codec.items()}
        with np.errstate(invalid="ignore"):
            rates = {name: (drawn @ errors) / (drawn @ lengths) for name, (errors, lengths) in counts.items()}
        values, target = np.stack([rates[name] for name in names], -1), factor * rates[rival]
        better = 1 if key in ("stoi", "pesq_wb") else -1
        into, back = (np.array, np.array) if better > 0 else (np.log2, np.exp2)
        slope, intercept = np.polyfit(np.log2(hours), into(values).T, 1)
        met = meeting(slope, intercept, into(target), better)
        cells = [f"{value:.3f}" for value in values[0]]
        form = "{:+.3f}" if better > 0 else "x {:.2f}"
        change = f"{form.format(back(slope[0]))} ({span(back(slope[1:]), form.format)})"
        table.append([title, *cells, change, f"{target[0]:.3f}", written_hours(met[0]), span(met[1:], written_hours)])
        ahead = np.geomspace(hours[0], 100 * hours[-1], 50)
        curves[title] = values[0], ahead, back(slope[0] * np.log2(ahead) + intercept[0]), target[0]
    print(lay_out(table))
    if args.output:
        draw(curves, hours, args.output)


def draw(curves, hours, path):
    """Draw releases, lines and targets."""
    figure = Figure((12, 6), layout="constrained")
    for axes, (title, (values, ahead, line, target)) in zip(figure.subplots(2, 3).flat, curves.items(), strict=True):
        axes.plot(ahead, line, "--", color="tab:blue", linewidth=1)
        axes.plot(hours, values, "o", color="tab:blue")
        axes.axhline(target, color="tab:red", linewidth=1)
        axes.set(title=title, xscale="log", xlabel="core-hours")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
