"""Sequences of ids as tensors: padded, or several of them in one row."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import LayoutError
from .bodies import Ids
from .layout import Layout
from .vocabulary import as_ids

IGNORED = -100  # the label that losses of torch and transformers leave out


def collate(
    layout: Layout, sequences: Sequence[Any], *, g: bool = False, text: bool = False, multiple: int = 1, left: bool = False
) -> dict[str, Tensor]:
    """Return a batch that causal models of transformers take as it is.

    Args:
        layout: of the sequences.
        sequences: ids `(ids,)` each.
        g: whether G is learnt, see `Layout.loss_mask`.
        text: whether text is.
        multiple: the length is a multiple of this many ids.
        left: pad before the sequences, as for generating, and not after them.

    Returns:
        `input_ids` int64 `(batch, ids)`, `attention_mask` int64 of the same shape, 0 on padding, and `labels`, the ids that are learnt and else -100.

    Raises:
        LayoutError: if there is no sequence, or `multiple` is below 1.
    """
    if not len(sequences) or multiple < 1:
        raise LayoutError(f"collate needs sequences and a multiple of 1 or more, got {len(sequences)} sequences and {multiple}")
    rows = [as_ids(sequence) for sequence in sequences]
    length = -(-max(map(len, rows)) // multiple) * multiple
    ids = np.full((len(rows), length), layout.vocabulary.pad, np.int64)
    seen, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
    for row, sequence in enumerate(rows):
        place = slice(length - len(sequence), None) if left else slice(len(sequence))
        ids[row, place] = sequence
        seen[row, place] = 1
        labels[row, place] = np.where(layout.loss_mask(sequence, g=g, text=text), sequence, IGNORED)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(seen), "labels": torch.from_numpy(labels)}


def pack(layout: Layout, sequences: Iterable[Any], length: int, *, g: bool = False, text: bool = False) -> Iterator[dict[str, Tensor]]:
    """Yield rows of `length` ids, as many whole sequences in each as fit, in their order; nothing is cut, nothing left out.

    Args:
        layout: of the sequences.
        sequences: ids `(ids,)` each, taken one at a time.
        length: ids in a row.
        g: whether G is learnt, see `Layout.loss_mask`.
        text: whether text is.

    Yields:
        `input_ids`, `labels`, `position_ids`, which begin anew with each sequence, and `sequence_ids`, 1, 2, ... and 0 on padding, for `block_mask`;
        int64 `(length,)` each. `torch.utils.data.default_collate` makes batches of them.

    Raises:
        LayoutError: if a sequence is longer than a row.
    """
    row, used, number = _new_row(layout, length), 0, 0
    for index, sequence in enumerate(map(as_ids, sequences)):
        if len(sequence) > length:
            raise LayoutError(f"sequence {index} has {len(sequence)} ids, a row {length}; take longer rows, or cut the bundle: bundle[:frames]")
        if used + len(sequence) > length:
            yield _tensors(row)
            row, used, number = _new_row(layout, length), 0, 0
        place = slice(used, used + len(sequence))
        row["input_ids"][place] = sequence
        row["labels"][place] = np.where(layout.loss_mask(sequence, g=g, text=text), sequence, IGNORED)
        row["position_ids"][place] = np.arange(len(sequence))
        number += 1
        row["sequence_ids"][place] = number
        used += len(sequence)
    if used:
        yield _tensors(row)


def _new_row(layout: Layout, length: int) -> dict[str, Ids]:
    fill = {"input_ids": layout.vocabulary.pad, "labels": IGNORED, "position_ids": 0, "sequence_ids": 0}
    return {name: np.full(length, value, np.int64) for name, value in fill.items()}


def _tensors(row: dict[str, Ids]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in row.items()}


def block_mask(sequence_ids: Tensor) -> Tensor:
    """Return which ids each id of packed rows may attend to: bool `(batch, 1, ids, ids)`, those before it in its own sequence, and itself.

    Args:
        sequence_ids: of `pack`, int64 `(batch, ids)`.
    """
    same = sequence_ids[:, :, None] == sequence_ids[:, None, :]
    return (same & torch.ones_like(same).tril())[:, None]
