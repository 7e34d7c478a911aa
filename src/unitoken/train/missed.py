"""How well stage 0 does, and how well it generalises: the share of the teacher's features that a student misses on clean speech."""

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import TrainError
from .pool import Utterance
from .refine import QuantizedStudent
from .semantic import LessonMaker, SemanticStudent, regression_loss

BATCH = 16


@torch.no_grad()
def missed(student: SemanticStudent | QuantizedStudent, lessons: LessonMaker[Any], utterances: Sequence[Utterance], *, limit: int = 240) -> float:
    """Return the mean squared error of what a student foretells, over the variance of the targets; 1 where it has learnt nothing.

    Nothing is perturbed or noisy, other than in training. A student that quantizes foretells from codewords.

    Args:
        student: of `train_semantic` or `train_refine`, on the lessons' device.
        lessons: what it learnt from.
        utterances: of the lessons' pool: held out, or learnt.
        limit: how many of them at most, at equal distances.

    Raises:
        TrainError: without utterances.
    """
    if not utterances or limit < 1:
        raise TrainError(f"nothing to foretell: {len(utterances)} utterances and limit={limit}")
    count, was_training = min(limit, len(utterances)), student.training
    chosen = sorted((utterances[index * len(utterances) // count] for index in range(count)), key=lambda utterance: utterance.samples)
    error = frames = 0.0
    student.eval()
    for start in range(0, count, BATCH):
        lesson = lessons.clean(chosen[start : start + BATCH])
        weight = float(lesson.mask.sum())
        error += weight * float(regression_loss(student.foretell(lesson.magnitudes, lesson.mask), lesson.target, lesson.mask))
        frames += weight
    student.train(was_training)
    return error / frames
