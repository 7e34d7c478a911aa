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
from .pool import Pool, Utterance
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


class FeatureCache:
    """Features of every utterance of a pool, in the pool's order.

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
        self.dim, self.hop, self.teacher = int(meta["dim"]), int(meta["hop"]), str(meta["teacher"])
        self.starts, total = frame_offsets(pool, self.hop)
        if meta["frames"] != total:
            raise TrainError(f"{folder} has features of {meta['frames']} frames, the pool has {total}; compute them for this pool")
        missing = int((np.fromfile(folder / DONE, dtype=np.uint8) == 0).sum())
        if missing:
            raise TrainError(f"{folder}: {missing} utterances have no features yet; run unitoken train features again, it goes on where it stopped")
        self.data = np.memmap(folder / DATA, dtype=np.float16, mode="r", shape=(total, self.dim))

    def get(self, utterance: Utterance, start: int, frames: int) -> np.ndarray:
        """Return float16 `(frames, dim)` of one utterance from frame `start`; cut at its end."""
        first = self.starts[utterance.path]
        end = frames_for(utterance.samples, self.hop)
        return self.data[first + start : first + min(start + frames, end)]


def compute_features(pool: Pool, teacher: Teacher, folder: str | os.PathLike[str], *, hop: int = 640, shard: tuple[int, int] = (0, 1)) -> int:
    """Compute the teacher's features of a pool, or of every n-th utterance of it; what is there already is kept.

    Args:
        pool: the utterances.
        teacher: the encoder.
        folder: where to write; several shards may write into one folder at the same time.
        hop: samples a frame (640: 25 Hz).
        shard: `(i, n)`: do utterances i, i + n, ...

    Returns:
        how many utterances were computed.

    Raises:
        TrainError: if the folder holds features of another teacher, rate or pool.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    starts, total = frame_offsets(pool, hop)
    meta = {"teacher": teacher.name, "dim": teacher.dim, "hop": hop, "frames": total}
    _claim(folder, meta, len(pool))
    data = np.memmap(folder / DATA, dtype=np.float16, mode="r+", shape=(total, teacher.dim))
    done = np.memmap(folder / DONE, dtype=np.uint8, mode="r+", shape=(len(pool),))
    count = 0
    for index in range(shard[0], len(pool), shard[1]):
        if done[index]:
            continue
        utterance = pool.utterances[index]
        frames = frames_for(utterance.samples, hop)
        features = teacher.features(torch.from_numpy(pool.wave(utterance))[None])[0]
        first = starts[utterance.path]
        data[first : first + frames] = at_hop(features, teacher.frame_rate, frames, hop).to(torch.float16).cpu().numpy()
        done[index] = 1
        count += 1
    data.flush()
    done.flush()
    return count


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
