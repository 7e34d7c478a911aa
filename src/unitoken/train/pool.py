"""The training pool: every utterance decoded once to int16, in one memory map, with its manifest row beside it.

A pool folder holds `audio.i16` (all samples, one utterance after the other), `pool.tsv` (one row an utterance: path, source, speaker,
language, transcript, start, samples and speed) and, where something is known about the corpora, `sources.tsv`. Opening one costs nothing: the audio
is paged in as it is read.
"""

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import CodecConfig
from ..errors import TrainError
from .sources import read_sources

AUDIO, INDEX, SOURCES = "audio.i16", "pool.tsv", "sources.tsv"
SAMPLE_RATE = 16000
COLUMNS = ("path", "source", "speaker", "language", "transcript", "start", "samples", "speed")


@dataclass(frozen=True)
class Utterance:
    """One row of a pool.

    Attributes:
        path: the name in the manifest, unique in a pool.
        source: the corpus it is from.
        speaker: the corpus's own name of the speaker; `unk` where nobody knows.
        language: ISO 639 code.
        transcript: the text, or an empty string; bracketed texts of the manifest are no transcripts and come back empty.
        start: first sample in the pool's memory map.
        samples: number of samples at 16 kHz.
        speed: how fast the recording is played; see `change_speed`.
    """

    path: str
    source: str
    speaker: str
    language: str
    transcript: str
    start: int
    samples: int
    speed: float = 1.0

    @property
    def who(self) -> tuple[str, str]:
        """Source and speaker: the identity that is unique over corpora."""
        return self.source, self.speaker

    @property
    def voice(self) -> tuple[str, str, float]:
        """Source, speaker and speed: who speaks at another speed has another voice."""
        return self.source, self.speaker, self.speed


def _utterance(row: Mapping[str, str]) -> Utterance:
    path, source, speaker, language, transcript = (row[column] for column in COLUMNS[:5])
    return Utterance(path, source, speaker, language, transcript, int(row["start"]), int(row["samples"]), float(row.get("speed", 1)))


def digest_of(utterances: Sequence[Utterance]) -> str:
    """Return 32 hex digits that stand for utterances, their lengths and their order."""
    rows = "\n".join(f"{utterance.path}\t{utterance.samples}" for utterance in utterances)
    return hashlib.sha256(rows.encode()).hexdigest()[:32]


class Pool:
    """Utterances of one folder, with their samples in a memory map; what is written to it never reaches the file.

    Args:
        folder: what `build_pool` wrote.

    Raises:
        TrainError: if the folder is no pool, or its parts do not belong together.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        index = self.folder / INDEX
        for name in (INDEX, AUDIO):
            if not (self.folder / name).is_file():
                raise TrainError(f"{self.folder} is no training pool ({name} is missing); make one with: unitoken train pool")
        with index.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"))
        self.utterances = [_utterance(row) for row in rows]
        self.audio: np.ndarray[tuple[int], np.dtype[np.int16]] = np.memmap(self.folder / AUDIO, dtype=np.int16, mode="c")
        self.sources = read_sources(self.folder / SOURCES) if (self.folder / SOURCES).is_file() else {}
        total = sum(u.samples for u in self.utterances)
        if len(self.audio) != total:
            raise TrainError(f"{self.folder}: {AUDIO} holds {len(self.audio)} samples, {INDEX} lists {total}; build the pool again")

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.utterances)

    @property
    def digest(self) -> str:
        """Stands for the utterances, their lengths and their order, 32 hex digits: what was computed of this pool fits no other."""
        return digest_of(self.utterances)

    def check_rate(self, config: CodecConfig) -> None:
        """Do nothing if a codec takes the pool's sample rate.

        Raises:
            TrainError: if not.
        """
        if config.sample_rate != SAMPLE_RATE:
            raise TrainError(f"{config.name} is a codec for {config.sample_rate} Hz, pools hold {SAMPLE_RATE} Hz; train one for that rate")

    def wave(self, utterance: Utterance, start: int = 0, samples: int | None = None) -> np.ndarray:
        """Return float32 `(samples,)` in [-1, 1] of one utterance, or of a piece of it."""
        end = utterance.samples if samples is None else min(start + samples, utterance.samples)
        return self.audio[utterance.start + start : utterance.start + end].astype(np.float32) / 32768

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return len(self.audio) / SAMPLE_RATE / 3600


def read_speakers(path: str | os.PathLike[str]) -> set[tuple[str, str]]:
    """Return the `(source, speaker)` pairs listed in a two-column TSV with a header."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return {(row["source"], row["speaker"]) for row in csv.DictReader(file, delimiter="\t")}


def split_pool(pool: Pool, held_out: set[tuple[str, str]]) -> tuple[list[Utterance], list[Utterance]]:
    """Return the utterances for training and those of the held-out speakers.

    Raises:
        TrainError: if a held-out speaker is not in the pool, or nothing is left to train on.
    """
    known = {u.who for u in pool.utterances}
    if unknown := sorted(held_out - known):
        raise TrainError(f"held-out speakers that the pool does not have: {unknown[:3]}; is this the list of another pool?")
    train = [u for u in pool.utterances if u.who not in held_out]
    if not train:
        raise TrainError("every speaker of the pool is held out; nothing is left to train on")
    return train, [u for u in pool.utterances if u.who in held_out]
