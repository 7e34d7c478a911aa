"""The end of the semantic stage: a codebook for the student's output, and the semantic tokens of the whole pool, made once."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import TrainError
from ..files import replacing
from ..model.codec import Codec
from ..nn.codebook import nearest
from ..nn.flow import Rows
from ..units import frames_for
from .batches import frame_mask, samples_of
from .offsets import frame_offsets
from .pool import Pool, Utterance
from .quantizers import kmeans
from .sampling import Crop
from .semantic import SemanticStudent
from .store import AudioStore, FrameStore, check_mark, mark

DATA = "s.u16"


@torch.no_grad()
def student_latents(student: SemanticStudent | Codec, waves: Tensor, samples: Tensor) -> Tensor:
    """Return the semantic latents, float32 `(batch, frames, dim)`, of whole utterances; what stands behind the end of one means nothing.

    Args:
        student: what encodes.
        waves: float32 `(batch, width)`, width a multiple of the hop, zero behind the end of each utterance.
        samples: int64 `(batch,)`, samples of each.
    """
    hop = student.config.hop_s
    mask = frame_mask(samples, waves.shape[1] // hop, hop)
    return student.semantic(student.front_end_s(waves), Rows(mask)).float()


def pool_latents(
    student: SemanticStudent | Codec, audio: AudioStore, utterances: Sequence[Utterance], *, seconds: float = 120.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Encode utterances of similar length together.

    Args:
        student: what encodes, on the audio's device.
        audio: of the pool.
        utterances: which.
        seconds: longest batch, padding included; one utterance at least.

    Yields:
        int64 `(n,)`, where the frames of a batch stand when those of all utterances stand in a row in the given order, and their latents,
        float32 `(n, dim)`.
    """
    hop, device = student.config.hop_s, audio.data.device
    counts = [frames_for(utterance.samples, hop) for utterance in utterances]
    starts = np.cumsum([0, *counts])
    for rows in _by_length(counts, int(seconds * student.config.sample_rate) // hop):
        width = counts[rows[0]]
        crops = [Crop(utterances[row], 0, utterances[row].samples) for row in rows]
        latents = student_latents(student, audio.crop(crops, width * hop), samples_of(crops, device))
        held = torch.tensor([counts[row] for row in rows])
        inside = torch.arange(width) < held[:, None]
        at = (torch.from_numpy(starts[rows])[:, None] + torch.arange(width))[inside]
        yield at.to(device, non_blocking=True), latents.flatten(0, 1)[inside.flatten().nonzero()[:, 0].to(device, non_blocking=True)]


def _by_length(counts: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Yield the numbers of rows, longest first, in groups of at most `limit` frames after padding."""
    group = list[int]()
    for row in sorted((row for row, count in enumerate(counts) if count), key=lambda row: -counts[row]):
        if group and (len(group) + 1) * counts[group[0]] > limit:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def draw_utterances(utterances: Sequence[Utterance], frames: int, hop: int, seed: int) -> tuple[list[Utterance], int]:
    """Return random utterances that make about so many frames of `hop` samples, or all if they are fewer, and how many they make."""
    chosen, count = list[Utterance](), 0
    for index in np.random.default_rng(seed).permutation(len(utterances)):
        chosen.append(utterances[index])
        count += frames_for(chosen[-1].samples, hop)
        if count >= frames:
            break
    return chosen, count


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
    chosen, count = draw_utterances(utterances, frames, student.config.hop_s, seed)
    if count < size:
        raise TrainError(f"{count} frames cannot make {size} codewords; train on more speech or choose a smaller codebook")
    device = next(student.parameters()).device
    points = torch.empty(count, student.config.semantic.quantizer.dim, device=device)
    for at, latents in pool_latents(student, AudioStore(pool).to(device), chosen):
        points[at] = latents
    scale = (points.std(0) + 1e-5) ** -flatten
    out = student.semantic.out
    if out is None:
        raise TrainError("a semantic encoder without an output layer has no latent to quantize; set the quantizer's dim")
    out.weight.mul_(scale[:, None])
    out.bias.mul_(scale)
    return kmeans(points * scale, size, seed=seed)


class SemanticTokens(FrameStore):
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
        check_mark(path, pool, "unitoken train codebook")
        offsets, total = frame_offsets(pool, hop)
        # Torch gathers no unsigned 16-bit numbers; `crop` undoes the sign.
        data: np.ndarray[tuple[int], np.dtype[np.int16]] = np.memmap(path, dtype="<i2", mode="c")
        if len(data) != total:
            raise TrainError(f"{path} is damaged: {len(data)} frames, the pool has {total}; make it again with: unitoken train codebook")
        super().__init__(torch.from_numpy(data), offsets, hop)

    def crop(self, crops: Sequence[Crop], width: int) -> Tensor:
        """Return int64 `(batch, width)`, 0 behind the end of each crop."""
        return super().crop(crops, width).long() & 0xFFFF


def tokenize_pool(student: SemanticStudent | Codec, codebook: Tensor, pool: Pool, folder: str | os.PathLike[str]) -> Tensor:
    """Write the S tokens of a whole pool and return how often each is used, int64 `(size,)` on the CPU."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = torch.empty(frame_offsets(pool, student.config.hop_s)[1], dtype=torch.int64, device=codebook.device)
    for at, latents in pool_latents(student, AudioStore(pool).to(codebook.device), pool.utterances):
        tokens[at] = nearest(latents, codebook)
    with replacing(folder / DATA) as temporary:
        tokens.cpu().numpy().astype("<u2").tofile(temporary)
    mark(folder / DATA, pool)
    return torch.bincount(tokens, minlength=len(codebook)).cpu()
