"""Validation on held-out speakers, short enough to run between two pieces of training."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import TrainError
from ..evaluate.pitch import compare_f0, track_f0
from ..evaluate.signal import mel_distance
from ..evaluate.words import Errors, Transcriber, count_errors, pool_errors
from ..hub import Stored
from ..model.codec import Codec
from ..tokenizer import Tokenizer
from .pool import Pool, Utterance

SAMPLE_RATE = 16000


@dataclass
class _Sums:
    mel: list[float] = field(default_factory=list[float])
    pitch: list[float] = field(default_factory=list[float])
    errors: list[Errors] = field(default_factory=list[Errors])


def spread(utterances: Sequence[Utterance], limit: int) -> list[Utterance]:
    """Return at most `limit` utterances at equal distances: always the same ones, from all speakers and corpora in turn.

    Raises:
        TrainError: if `limit` is below 1, or there are no utterances.
    """
    if limit < 1 or not utterances:
        raise TrainError(f"validation needs a clip at least, got {len(utterances)} utterances and limit={limit}")
    count = min(limit, len(utterances))
    return [utterances[index * len(utterances) // count] for index in range(count)]


def validate(
    model: Tokenizer | Codec, pool: Pool, utterances: Sequence[Utterance], *, limit: int, asr: Transcriber | None = None
) -> dict[str, float | int | None]:
    """Encode and decode held-out clips and compare.

    Args:
        model: a tokenizer, or a codec on the CPU or a GPU, as it is in training.
        pool: the audio.
        utterances: of held-out speakers.
        limit: how many of them at most; see `spread`.
        asr: writes down originals and decoded clips; None leaves `self_cer` out.

    Returns:
        `clips`; `mel_db`, the mean mel distance; `f0_correlation`, the mean over `f0_clips` clips that have one; with `asr`, `self_cer`:
        character errors of the decoded clips' transcripts against the originals', pooled. None where no clip could be measured.

    Raises:
        TrainError: see `spread`.
        MissingDependencyError: without the packages of a measure.
    """
    tokenizer = model if isinstance(model, Tokenizer) else _tokenizer(model)
    chosen, sums = spread(utterances, limit), _Sums()
    for utterance in chosen:
        original = torch.from_numpy(pool.wave(utterance))
        decoded = tokenizer.decode(tokenizer.encode(original, sample_rate=SAMPLE_RATE))
        _measure(original, decoded, utterance.language, asr, sums)
    result: dict[str, float | int | None] = {"clips": len(chosen), "mel_db": _mean(sums.mel)}
    result |= {"f0_correlation": _mean(sums.pitch), "f0_clips": len(sums.pitch)}
    return result if asr is None else result | {"self_cer": pool_errors(sums.errors)}


def _measure(original: Tensor, decoded: Tensor, language: str, asr: Transcriber | None, sums: _Sums) -> None:
    if (distance := mel_distance(original, decoded)) is not None:
        sums.mel.append(distance)
    if (correlation := compare_f0(track_f0(original), track_f0(decoded)).f0_correlation) is not None:
        sums.pitch.append(correlation)
    if asr is not None and asr.knows(language):
        said, heard = asr.transcribe(original, language), asr.transcribe(decoded, language)
        if (errors := count_errors(said, heard, "char")) is not None:
            sums.errors.append(errors)


def _tokenizer(codec: Codec) -> Tokenizer:
    """Return a tokenizer with a copy of the codec's weights; nothing it makes is kept, so its fingerprint stands for nothing."""
    state = {name: value.detach().cpu() for name, value in codec.state_dict().items()}
    return Tokenizer(Stored(codec.config, state, "0" * 32), next(codec.parameters()).device)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
