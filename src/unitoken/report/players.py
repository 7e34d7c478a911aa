"""Clips to listen to: of each codec the best, the middle and the worst, original beside decoded."""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..audio import load_audio, save_audio
from ..errors import ConfigError
from ..evaluate import Codec, Report, Row
from ..evaluate.codecs import SAMPLE_RATE
from ..evaluate.manifest import read_manifest

PREFERRED = ("stoi", "pesq_wb", "mel_distance_db", "p808", "speaker_cosine", "f0_correlation")
"""What clips are ordered by: the first of these that was measured."""
LESS_IS_BETTER = frozenset({"mel_distance_db"})


@dataclass(frozen=True)
class Player:
    """One clip of one codec.

    Attributes:
        codec: the codec's name.
        rank: `best`, `median` or `worst`.
        clip: the clip's name in the manifest.
        figure: what the clips were ordered by.
        value: of this clip.
        original: OGG as a data address.
        decoded: the same.
        original_text: what the recogniser heard, if one was asked.
        text: the same of the decoded clip.
    """

    codec: str
    rank: str
    clip: str
    figure: str
    value: float
    original: str
    decoded: str
    original_text: str | None
    text: str | None


def pick_clips(report: Report, codec: str) -> tuple[str, dict[str, Row]]:
    """Return the figure that a codec's clips are ordered by, and the rows of the best, the middle and the worst.

    Raises:
        ConfigError: if the report has no such codec.
    """
    rows = [row for row in report.rows if row.codec == codec]
    if not rows:
        raise ConfigError(f"the report has no codec {codec!r}; there are: {', '.join(report.codecs)}")
    for figure in PREFERRED:
        measured = sorted((value, index) for index, row in enumerate(rows) if (value := row.values.get(figure)) is not None)
        if measured:
            order = [rows[index] for _, index in (measured if figure in LESS_IS_BETTER else reversed(measured))]
            return figure, {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return "", {}


def record_players(report: Report, manifest: str | os.PathLike[str], codecs: Sequence[Codec]) -> list[Player]:
    """Send the picked clips through the codecs once more and keep what came out.

    Args:
        report: what `evaluate` found.
        manifest: what it was given.
        codecs: the same; the original is left out.

    Raises:
        AudioError: if a clip cannot be read.
    """
    paths = {clip.name: clip.path for clip in read_manifest(manifest)}
    players = list[Player]()
    for codec in codecs:
        figure, picked = pick_clips(report, codec.name)
        for rank, row in picked.items():
            waveform, _ = load_audio(paths[row.clip], sample_rate=SAMPLE_RATE)
            decoded = codec.roundtrip(waveform, row.clip).waveform
            value = float(row.values[figure] or 0.0)
            players.append(Player(codec.name, rank, row.clip, figure, value, _sound(waveform), _sound(decoded), row.original_text, row.text))
    return players


def _sound(waveform: Tensor) -> str:
    file = io.BytesIO()
    save_audio(file, waveform, SAMPLE_RATE, format="ogg")
    return "data:audio/ogg;base64," + base64.b64encode(file.getvalue()).decode()
