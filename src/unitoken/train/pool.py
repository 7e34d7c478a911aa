"""The training pool: every utterance decoded once to int16, in one memory map, with its manifest row beside it.

A pool folder holds `audio.i16` (all samples, one utterance after the other), `pool.tsv` (one row an utterance: path, source, speaker,
language, transcript, start and samples) and, where something is known about the corpora, `sources.tsv`. Opening one costs nothing: the audio
is paged in as it is read.
"""

import csv
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import load_audio
from ..config import CodecConfig
from ..errors import TrainError
from ..files import replacing
from .sources import read_sources

AUDIO, INDEX, SOURCES = "audio.i16", "pool.tsv", "sources.tsv"
SAMPLE_RATE = 16000
COLUMNS = ("path", "source", "speaker", "language", "transcript", "start", "samples")


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
    """

    path: str
    source: str
    speaker: str
    language: str
    transcript: str
    start: int
    samples: int

    @property
    def who(self) -> tuple[str, str]:
        """Source and speaker: the identity that is unique over corpora."""
        return self.source, self.speaker


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
        self.utterances = [Utterance(**{**row, "start": int(row["start"]), "samples": int(row["samples"])}) for row in rows]  # type: ignore[arg-type]
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


def transcript_of(text: str) -> str:
    """Return the manifest's text if it is a transcript, else an empty string (texts in brackets or after `[spelled]` are none)."""
    return "" if text.startswith("[") else text


def _members(archives: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()


def build_pool(
    manifest: str | os.PathLike[str],
    archives: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    sources: str | os.PathLike[str] | None = None,
) -> Pool:
    """Decode the utterances of tar archives once and write them as a pool; rows whose file is in none of the archives are left out.

    Args:
        manifest: TSV with at least the columns path, source, speaker, language and transcript; unique paths.
        archives: tar files whose members are named as in the manifest.
        folder: where to write; made if missing. A pool already there is replaced when the new one is complete.
        sources: what is known about the corpora, see `read_sources`; kept with the pool.

    Raises:
        TrainError: if `sources` cannot be read, a path stands twice in the manifest, or no member of the archives is in it.
        AudioFileError: if a member cannot be decoded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if sources is not None:
        read_sources(Path(sources))  # before hours are decoded
    with Path(manifest).open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = {row["path"]: row for row in listed}
    if len(rows) != len(listed):
        raise TrainError(f"{manifest}: {len(listed) - len(rows)} paths stand twice; paths must be unique")
    start, done = 0, list[dict[str, Any]]()
    with replacing(folder / INDEX) as index, replacing(folder / AUDIO) as audio:
        with audio.open("wb") as file:
            for name, data in _members([Path(a) for a in archives]):
                if name not in rows:
                    continue
                wave = load_audio(io.BytesIO(data), sample_rate=SAMPLE_RATE)[0].numpy()
                file.write(np.clip(np.rint(wave * 32768), -32768, 32767).astype("<i2").tobytes())
                row = {k: rows[name][k] for k in COLUMNS[:4]} | {"transcript": transcript_of(rows[name]["transcript"])}
                done.append({**row, "start": start, "samples": len(wave)})
                start += len(wave)
        if not done:
            raise TrainError(f"no member of the {len(archives)} archives is in {manifest}; are the names the same?")
        _write_index(index, done)
    if sources is not None:
        keep_sources(sources, folder)
    return Pool(folder)


def keep_sources(sources: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Put what is known about the corpora into a pool folder.

    Raises:
        TrainError: see `read_sources`.
    """
    read_sources(Path(sources))
    with replacing(Path(folder) / SOURCES) as path:
        shutil.copyfile(sources, path)


def merge_pools(pools: Sequence[Pool], folder: str | os.PathLike[str]) -> Pool:
    """Write several pools as one, with the utterances of the first one first; `sources.tsv` is taken from the first that has one.

    Args:
        pools: one at least; no path may be in two of them.
        folder: where to write; made if missing. A pool already there is replaced when the new one is complete.

    Raises:
        TrainError: if there is none, or two have an utterance of the same path.
    """
    paths = [utterance.path for pool in pools for utterance in pool.utterances]
    if not paths or len(set(paths)) != len(paths):
        raise TrainError(f"{len(pools)} pools with {len(paths)} utterances of {len(set(paths))} paths cannot be joined; each path must be there once")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / INDEX) as index, replacing(folder / AUDIO) as audio:
        start, done = 0, list[dict[str, Any]]()
        with audio.open("wb") as file:
            for pool in pools:
                pool.audio.tofile(file)
                done += [{**vars(utterance), "start": utterance.start + start} for utterance in pool.utterances]
                start += len(pool.audio)
        _write_index(index, done)
    if known := [pool.folder / SOURCES for pool in pools if pool.sources]:
        keep_sources(known[0], folder)
    return Pool(folder)


def _write_index(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as table:
        writer: csv.DictWriter[str] = csv.DictWriter(table, COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
