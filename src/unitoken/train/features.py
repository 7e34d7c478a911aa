"""Teacher features of a whole pool, computed once and kept at the semantic stream's rate in float16 (about 90 MB an hour of speech)."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import TrainError
from ..files import replacing
from ..units import frames_for
from .offsets import frame_offsets
from .pool import Pool
from .sampling import Crop
from .store import AudioStore, FrameStore
from .teachers import Teacher

DATA, DONE, META = "features.f16", "done.u8", "features.json"


def at_hop(features: Tensor, frame_rate: int, frames: int, hop: int) -> Tensor:
    """Average teacher frames into frames of `hop` samples; the last one is repeated where the teacher ends early.

    Args:
        features: float32 `(teacher frames, dim)` at `frame_rate`.
        frame_rate: the teacher's frames a second; must divide evenly into `hop` samples at 16 kHz.
        frames: how many frames to return.
        hop: samples a frame.

    Returns:
        float32 `(frames, dim)`.
    """
    step, rest = divmod(hop * frame_rate, 16000)
    if rest:
        raise TrainError(f"a teacher at {frame_rate} Hz cannot be averaged into frames of {hop} samples; choose a hop of whole teacher frames")
    short = frames * step - len(features)
    features = F.pad(features.T, (0, short), mode="replicate").T if short > 0 and len(features) else F.pad(features, (0, 0, 0, max(short, 0)))
    return features[: frames * step].view(frames, step, -1).mean(1)


class FeatureCache(FrameStore):
    """Features of every utterance of a pool, in the pool's order: float16 `(frames, dim)`.

    Args:
        folder: what `compute_features` wrote.
        pool: the pool it was computed on.

    Raises:
        TrainError: if the folder is no cache, is of another pool, or is not finished.
    """

    def __init__(self, folder: str | os.PathLike[str], pool: Pool) -> None:
        folder = Path(folder)
        if not (folder / META).is_file():
            raise TrainError(f"{folder} holds no teacher features ({META} is missing); make them with: unitoken train features")
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        self.dim, hop, self.teacher = int(meta["dim"]), int(meta["hop"]), str(meta["teacher"])
        offsets, total = frame_offsets(pool, hop)
        if meta["pool"] != pool.digest:
            raise TrainError(f"{folder} has features of another pool than {pool.folder}, or that one has been built anew; compute them for this pool")
        missing = int((np.fromfile(folder / DONE, dtype=np.uint8) == 0).sum())
        if missing:
            raise TrainError(f"{folder}: {missing} utterances have no features yet; run unitoken train features again, it goes on where it stopped")
        data = np.memmap(folder / DATA, dtype=np.float16, mode="c", shape=(total, self.dim))
        super().__init__(torch.from_numpy(data), offsets, hop)


def compute_features(
    pool: Pool,
    teacher: Teacher,
    folder: str | os.PathLike[str],
    *,
    hop: int = 640,
    shard: tuple[int, int] = (0, 1),
    device: torch.device | str = "cpu",
) -> int:
    """Compute the teacher's features of a pool, or of every n-th utterance of it; what is there already is kept.

    Each clip is heard alone, because a teacher's padding is part of what it hears. They are written every few hundred clips, so that a GPU
    need not wait for the disk after each.

    Args:
        pool: the utterances.
        teacher: the encoder.
        folder: where to write; several shards may write into one folder at the same time.
        hop: samples a frame (640: 25 Hz).
        shard: `(i, n)`: do utterances i, i + n, ...
        device: the teacher's; a GPU gets the whole pool's audio.

    Returns:
        how many utterances were computed.

    Raises:
        TrainError: if the folder holds features of another teacher, rate or pool.
    """
    writer = _Writer(Path(folder), pool, {"teacher": teacher.name, "dim": teacher.dim, "hop": hop})
    audio, count = AudioStore(pool).to(device), 0
    try:
        for index in range(shard[0], len(pool), shard[1]):
            if writer.done[index]:
                continue
            utterance = pool.utterances[index]
            features = teacher.features(audio.crop([Crop(utterance, 0, utterance.samples)], utterance.samples))[0]
            writer.add(index, at_hop(features, teacher.frame_rate, frames_for(utterance.samples, hop), hop))
            count += 1
    finally:
        writer.flush()
    return count


class _Writer:
    """Collects features where they were computed and writes many clips' at once."""

    CLIPS = 256

    def __init__(self, folder: Path, pool: Pool, meta: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.starts, total = frame_offsets(pool, int(str(meta["hop"])))
        meta = {**meta, "frames": total, "pool": pool.digest}
        _claim(folder, meta, len(pool))
        self.pool, self.held = pool, dict[int, Tensor]()
        self.data = np.memmap(folder / DATA, dtype=np.float16, mode="r+", shape=(total, int(str(meta["dim"]))))
        self.done = np.memmap(folder / DONE, dtype=np.uint8, mode="r+", shape=(len(pool),))

    def add(self, index: int, features: Tensor) -> None:
        self.held[index] = features.half()
        if len(self.held) >= self.CLIPS:
            self.flush()

    def flush(self) -> None:
        rows = torch.cat([*self.held.values()]).cpu().numpy() if self.held else None
        first = 0
        for index, features in self.held.items():
            start, count = self.starts[self.pool.utterances[index].path], len(features)
            self.data[start : start + count] = rows[first : first + count] if rows is not None else 0
            first += count
        self.data.flush()
        self.done[[*self.held]] = 1
        self.done.flush()
        self.held.clear()


def _claim(folder: Path, meta: Mapping[str, object], utterances: int) -> None:
    """Make the files of a new cache, or check that the cache there is the same one; shards may do it at the same time."""
    path = folder / META
    if not path.exists():
        for name, size in ((DATA, int(str(meta["frames"])) * int(str(meta["dim"])) * 2), (DONE, utterances)):
            with (folder / name).open("ab") as file:
                file.truncate(size)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(meta), encoding="utf-8")
    held = json.loads(path.read_text(encoding="utf-8"))
    if held != meta:
        raise TrainError(f"{folder} holds features of {held}, not of {meta}; choose another folder")
