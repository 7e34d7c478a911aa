"""Phones of transcribed utterances, told from S while it is trained (connectionist temporal classification, Graves et al., ICML 2006).

Only in training, and only where somebody knows the phones: a second hint, beside the teacher's features, of what tells words apart. Related: PAST
(arXiv 2505.14470), whose tokenizer is trained on phones instead of a teacher's features.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainError
from .sampling import Crop


class PhoneTable:
    """Which phones are spoken in which recordings.

    Args:
        path: TSV with the columns path, as in the pool, and phones, separated by spaces; any set of symbols does. A recording that is played at
            another speed (`unitoken train speed`) says the same.

    Raises:
        TrainError: if there is no such table, a column is missing, or no phone stands in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                spoken = {row["path"]: row["phones"].split() for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
        except (OSError, KeyError, AttributeError) as error:
            raise TrainError(f"{os.fspath(path)} is no table of phones ({type(error).__name__}: {error}); its columns are path and phones") from error
        self.symbols = tuple(sorted({phone for phones in spoken.values() for phone in phones}))
        if not self.symbols:
            raise TrainError(f"{os.fspath(path)} holds no phones; a row is a path, a tab, and phones separated by spaces")
        number = {phone: index for index, phone in enumerate(self.symbols, 1)}  # 0 is the blank
        self.spoken = {name: torch.tensor([number[phone] for phone in phones]) for name, phones in spoken.items() if phones}

    def of(self, crops: Sequence[Crop]) -> list[Tensor]:
        """Return the phones of each crop, int64 from 1 on; none where they are not known, or the crop is a part of its utterance."""
        return [self._of(crop) for crop in crops]

    def _of(self, crop: Crop) -> Tensor:
        whole = crop.utterance
        name = whole.path if whole.speed == 1 else whole.path.rpartition("@")[0]
        told = self.spoken.get(name) if crop.samples == whole.samples else None
        return torch.empty(0, dtype=torch.int64) if told is None else told


class PhoneHead(nn.Module):
    """Tells phones from frames.

    Args:
        dim: of a frame.
        phones: how many there are, or None for nothing to tell: then there are no weights.
    """

    def __init__(self, dim: int, phones: int | None) -> None:
        super().__init__()
        self.out = None if phones is None else nn.Linear(dim, phones + 1)

    def forward(self, frames: Tensor) -> Tensor | None:
        """Return logits `(batch, frames, phones + 1)`, the blank first, of frames `(batch, frames, dim)`."""
        return None if self.out is None else self.out(frames)


def phone_loss(logits: Tensor | None, mask: Tensor, phones: Sequence[Tensor]) -> Tensor:
    """Return the CTC loss for each phone, over the rows whose phones are known; 0 without any.

    Args:
        logits: of `PhoneHead`, or None.
        mask: float32 `(batch, frames, 1)`: one on valid frames.
        phones: of each row, from `PhoneTable.of`; a row with more of them than frames counts nothing.
    """
    rows = [index for index, told in enumerate(phones) if len(told)]
    if logits is None or not rows:
        return mask.new_zeros(()) if logits is None else logits.float().sum() * 0  # every process of a run needs some gradient
    told = [phones[row] for row in rows]
    lengths = torch.tensor([len(one) for one in told])
    frames = mask[rows, :, 0].sum(1).long()
    scores = F.log_softmax(logits[rows].float(), -1).transpose(0, 1)
    loss = F.ctc_loss(scores, torch.cat(told).to(scores.device), frames, lengths.to(scores.device), reduction="sum", zero_infinity=True)
    return loss / int(lengths.sum())
