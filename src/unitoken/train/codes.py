"""The end of the semantic stage: a codebook for the student's output, and the semantic tokens of the whole pool, made once."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import TrainError
from ..files import replacing
from ..model.codec import Codec
from ..nn.quantize import nearest
from ..units import frames_for
from .offsets import frame_offsets
from .pool import Pool, Utterance
from .quantizers import kmeans
from .semantic import SemanticStudent

DATA = "s.u16"


@torch.no_grad()
def student_latents(student: SemanticStudent | Codec, wave: Tensor) -> Tensor:
    """Return the semantic latents, float32 `(frames, dim)`, of one whole utterance, float32 `(samples,)`."""
    hop = student.config.hop_s
    frames = frames_for(len(wave), hop)
    padded = F.pad(wave, (0, frames * hop - len(wave)))[None]
    return student.semantic(student.front_end(padded), torch.ones(1, frames, 1, device=wave.device))[0].float()


@torch.no_grad()
def fit_codebook(
    student: SemanticStudent, pool: Pool, utterances: list[Utterance], size: int, *, frames: int = 400_000, flatten: float = 0.5, seed: int = 0
) -> Tensor:
    """Return a k-means codebook, float32 `(size, dim)`, of the student's output on random utterances.

    The targets' principal axes differ much in variance, and distances would hear little but the first ones. So each dimension of the student's
    output is divided by its standard deviation to the power `flatten` first, in the student's last layer, for good.

    Args:
        student: of the semantic stage; its output layer is scaled.
        pool: the audio.
        utterances: what to choose from.
        size: codewords.
        frames: about how many to fit to.
        flatten: 0 leaves the variances as they are, 1 makes them equal.
        seed: of the choice and of k-means.

    Raises:
        TrainError: if the utterances have fewer frames than the codebook has codewords.
    """
    device, latents, count = next(student.parameters()).device, list[Tensor](), 0
    for index in np.random.default_rng(seed).permutation(len(utterances)):
        latents.append(student_latents(student, torch.from_numpy(pool.wave(utterances[index])).to(device)))
        count += len(latents[-1])
        if count >= frames:
            break
    if count < size:
        raise TrainError(f"{count} frames cannot make {size} codewords; train on more speech or choose a smaller codebook")
    points = torch.cat(latents)
    scale = (points.std(0) + 1e-5) ** -flatten
    out = student.semantic.out
    if out is None:
        raise TrainError("a semantic encoder without an output layer has no latent to quantize; set the quantizer's dim")
    out.weight.mul_(scale[:, None])
    out.bias.mul_(scale)
    return kmeans(points * scale, size, seed=seed)


class SemanticCodes:
    """S tokens of every utterance of a pool, from a frozen semantic encoder.

    Args:
        folder: what `tokenize_pool` wrote.
        pool: the pool it was made of.
        hop: samples of one S frame.

    Raises:
        TrainError: if the folder holds no tokens, or of another pool.
    """

    def __init__(self, folder: str | os.PathLike[str], pool: Pool, hop: int) -> None:
        path = Path(folder) / DATA
        if not path.is_file():
            raise TrainError(f"{folder} holds no semantic tokens ({DATA} is missing); make them with: unitoken train codebook")
        self.starts, total = frame_offsets(pool, hop)
        self.data: np.ndarray[tuple[int], np.dtype[np.uint16]] = np.memmap(path, dtype=np.uint16, mode="r")
        if len(self.data) != total:
            raise TrainError(f"{folder} has tokens of {len(self.data)} frames, the pool has {total}; make them of this pool")

    def get(self, utterance: Utterance, start: int, frames: int) -> np.ndarray:
        """Return int64 `(frames,)` from frame `start`; all of them must lie inside the utterance."""
        first = self.starts[utterance.path] + start
        return self.data[first : first + frames].astype(np.int64)


@torch.no_grad()
def tokenize_pool(student: SemanticStudent | Codec, codebook: Tensor, pool: Pool, folder: str | os.PathLike[str]) -> float:
    """Write the S tokens of a whole pool and return the share of the codebook that they use."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    used = torch.zeros(len(codebook), dtype=torch.bool)
    with replacing(folder / DATA) as temporary, temporary.open("wb") as file:
        for utterance in pool.utterances:
            index = nearest(student_latents(student, torch.from_numpy(pool.wave(utterance)).to(codebook.device)), codebook).cpu()
            used[index] = True
            file.write(index.numpy().astype("<u2").tobytes())
    return float(used.float().mean())
