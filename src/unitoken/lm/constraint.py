"""Logits of ids that a layout does not allow are taken out: for a loop of one's own, or for `generate` of transformers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LayoutError
from .grammar import Place
from .layout import Layout


@dataclass(frozen=True)
class _Row:
    """What is known of a sequence: its ids, and the place after them, None outside of speech."""

    ids: Tensor
    place: Place | None


class Constraint:
    """Keeps a model to a layout: between BOS and EOS of the vocabulary only what the layout allows, outside of them text and BOS.

    Call it with the ids so far and the next logits; it is a logits processor of transformers, too::

        model.generate(ids, logits_processor=[Constraint(layout)], eos_token_id=layout.vocabulary.eos, pad_token_id=layout.vocabulary.pad)

    A step takes constant time but for one comparison of the ids with those of the last call, by which it finds rows again that a beam search has
    moved. The same object can be used again for other sequences.

    Args:
        layout: what is allowed.
        text: whether text may be written outside of speech; without it, or in a vocabulary without text, only BOS can come there, and after EOS only
            padding.
    """

    def __init__(self, layout: Layout, *, text: bool = True) -> None:
        self._layout = layout
        vocabulary = layout.vocabulary
        self._outside = torch.zeros(vocabulary.size, dtype=torch.bool)
        self._outside[vocabulary.bos] = True
        if text and vocabulary.text_size:
            kind = vocabulary.kind("text")
            self._outside[kind.first : kind.stop] = True
        self._free = text and vocabulary.text_size > 0
        self._rows: list[_Row] = []
        self._forbidden: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the logits with minus infinity where an id is not allowed.

        Args:
            input_ids: int64 `(batch, ids)`: the sequences so far, padded on the left if some are shorter.
            scores: float `(batch, size)`: logits of the next id; of at least as many ids as the vocabulary has.

        Raises:
            LayoutError: if there are fewer logits than ids, or a sequence breaks the layout already.
        """
        if input_ids.ndim != 2 or scores.ndim != 2 or len(input_ids) != len(scores) or scores.shape[1] < self._layout.vocabulary.size:
            raise LayoutError(
                f"expected ids (batch, ids) and logits (batch, at least {self._layout.vocabulary.size}), got {tuple(input_ids.shape)} and "
                f"{tuple(scores.shape)}; resize_embeddings gives a model as many"
            )
        ids = input_ids.cpu()
        self._rows = [_Row(row, self._place(index, row)) for index, row in enumerate(ids)]
        forbidden = torch.stack([self._forbidden_at(row.place, scores) for row in self._rows])
        return scores.masked_fill(forbidden, -torch.inf)

    def _place(self, index: int, ids: Tensor) -> Place | None:
        """Return the place after a row, from that of the row it goes on from."""
        before = ids[:-1]
        for row in [*self._rows[index : index + 1], *self._rows]:
            if row.ids.equal(before):
                return self._after(row.place, int(ids[-1]))
        place = None
        vocabulary = self._layout.vocabulary
        begins = (ids == vocabulary.bos).nonzero().flatten()
        for id in ids[begins[-1] :].tolist() if len(begins) else []:
            place = self._after(place, id)
        return place

    def _after(self, place: Place | None, id: int) -> Place | None:
        grammar, vocabulary = self._layout.grammar, self._layout.vocabulary
        if place is None:
            return grammar.step(grammar.start, id) if id == vocabulary.bos else None
        after = grammar.step(place, id)
        return None if after == grammar.end and self._free else after

    def _forbidden_at(self, place: Place | None, scores: Tensor) -> Tensor:
        """Return which logits to take out: bool `(size,)` on their device; the same tensor for the same choice."""
        allowed = self._outside if place is None else self._layout.allowed(place)
        key = (id(allowed), scores.shape[1], scores.device)
        if key not in self._forbidden:
            forbidden = torch.ones(scores.shape[1], dtype=torch.bool)
            forbidden[: len(allowed)] = ~allowed
            self._forbidden[key] = allowed, forbidden.to(scores.device)  # kept with its key, whose number is then no other's
        return self._forbidden[key][1]
