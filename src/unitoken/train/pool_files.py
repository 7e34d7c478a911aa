"""How pools are made: of tar archives, of other pools, and of one played at another speed. Each stands where it belongs only once it is complete."""

import csv
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import load_audio, resample
from ..errors import TrainError
from ..files import replacing
from .pool import AUDIO, COLUMNS, INDEX, SAMPLE_RATE, SOURCES, Pool
from .sources import read_sources

Row = Mapping[str, Any]
Samples = NDArray[np.int16]


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
    if sources is not None:
        read_sources(Path(sources))  # before hours are decoded
    with Path(manifest).open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = {row["path"]: row for row in listed}
    if len(rows) != len(listed):
        raise TrainError(f"{manifest}: {len(listed) - len(rows)} paths stand twice; paths must be unique")

    def clips() -> Iterator[tuple[Row, Samples]]:
        found = False
        for name, data in _members([Path(a) for a in archives]):
            if name in rows:
                found = True
                row = {k: rows[name][k] for k in COLUMNS[:4]} | {"transcript": transcript_of(rows[name]["transcript"]), "speed": 1.0}
                yield row, _int16(load_audio(io.BytesIO(data), sample_rate=SAMPLE_RATE)[0])
        if not found:
            raise TrainError(f"no member of the {len(archives)} archives is in {manifest}; are the names the same?")

    return _write(folder, clips(), sources)


def change_speed(pool: Pool, folder: str | os.PathLike[str], speed: float) -> Pool:
    """Write a pool of the same recordings played faster or slower: pitch, formants and tempo move together.

    More voices and tempos for the semantic stages than were recorded, as speech recognisers are trained (Ko et al., "Audio augmentation for speech
    recognition", Interspeech 2015). `merge_pools` puts the copies beside the recordings; their paths end in `@` and the speed.

    Args:
        pool: the recordings.
        folder: where to write; made if missing. A pool already there is replaced when the new one is complete.
        speed: 0.5 to 2, in hundredths; 1.1 is a tenth faster.

    Raises:
        TrainError: if the speed is not allowed, or 1.
    """
    rate = round(SAMPLE_RATE * speed)
    if not 0.5 <= speed <= 2 or rate == SAMPLE_RATE or rate * 100 % SAMPLE_RATE:
        raise TrainError(f"a speed must be from 0.5 to 2, in hundredths and not 1, got {speed}; usual are 0.9 and 1.1")
    waves = ((u, resample(torch.from_numpy(pool.wave(u)), rate, SAMPLE_RATE)) for u in pool.utterances)
    clips = ((vars(u) | {"path": f"{u.path}@{speed:g}", "speed": round(u.speed * speed, 4)}, _int16(wave)) for u, wave in waves)
    return _write(folder, clips, pool.folder / SOURCES if pool.sources else None)


def _int16(wave: Tensor) -> Samples:
    return np.clip(np.rint(wave.numpy() * 32768), -32768, 32767).astype("<i2")


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
    clips = ((vars(u), pool.audio[u.start : u.start + u.samples]) for pool in pools for u in pool.utterances)
    known = [pool.folder / SOURCES for pool in pools if pool.sources]
    return _write(folder, clips, known[0] if known else None)


def _write(folder: str | os.PathLike[str], clips: Iterable[tuple[Row, Samples]], sources: str | os.PathLike[str] | None) -> Pool:
    """Write clips as a pool; where they start is added to their rows."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / INDEX) as index, replacing(folder / AUDIO) as audio:
        start = 0
        with audio.open("wb") as file, index.open("w", encoding="utf-8", newline="") as table:
            rows: csv.DictWriter[str] = csv.DictWriter(table, COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n")
            rows.writeheader()
            for row, samples in clips:
                file.write(samples.tobytes())
                rows.writerow({**row, "start": start, "samples": len(samples)})
                start += len(samples)
    if sources is not None:
        keep_sources(sources, folder)
    return Pool(folder)
