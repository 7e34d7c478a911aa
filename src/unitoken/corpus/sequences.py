"""A corpus as sequences of ids, in another order each epoch, to go on from wherever one stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import CorpusError
from ..lm import Layout, Span, collate
from ..tokens import TokenBundle
from .reader import Corpus, Utterance
from .shard import bundle_of


class Sequences(IterableDataset[NDArray[np.int64]]):
    """The utterances of a corpus as ids of a language model: a dataset for `torch.utils.data.DataLoader`.

    An iteration is one epoch: every utterance once, the order decided by the seed and the epoch's number, shards mixed, each read once.
    A DataLoader's workers share an epoch among them. Where one stopped is `state_dict()`, and `load_state_dict` goes on there with the very next
    sequence; with workers that needs a loader that keeps their states, as torchdata's `StatefulDataLoader` does.

    Args:
        corpus: what `unitoken.corpus.open` gave, or a part of it.
        layout: how tokens are written.
        seed: of the order.
        shuffle: whether there is one; else that of the corpus.
        frames: utterances of more coarse frames are cut into pieces of so many, the last shorter; each with the utterance's G.
        text: gives an utterance's ids of text, in a layout with text, or its spans where it is known which frames a word or phrase is spoken in.
        part: which share of the corpus, and how many there are: `(rank, ranks)`. They differ by one utterance at most.

    Raises:
        CorpusError: if the corpus is of another tokenizer, text is missing or out of place, text and `frames` are both given, or a number is none.
    """

    def __init__(
        self,
        corpus: Corpus,
        layout: Layout,
        *,
        seed: int = 0,
        shuffle: bool = True,
        frames: int | None = None,
        text: Callable[[Utterance], Sequence[int] | Sequence[Span]] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        check_layout(corpus, layout)
        if (text is None) != (layout.text == "none"):
            raise CorpusError(f"a layout with text={layout.text!r} {'needs text=' if text is None else 'takes no text='}")
        if frames is not None and (text is not None or frames < 1):
            raise CorpusError(f"frames must be 1 or more, and go without text, which is of a whole utterance; got {frames}")
        corpus.part(*part)  # refuses a share that there is not
        self._corpus, self._layout, self._seed, self._shuffle = corpus, layout, seed, shuffle
        self._frames, self._text, self._part = frames, text, part
        self._epoch, self._given = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin at the first sequence of an epoch, from 0 on. With workers call it before each; without them the next one comes by itself."""
        self._epoch, self._given = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Return where the iteration is: the epoch's number, and how many sequences of it have been given."""
        return {"epoch": self._epoch, "given": self._given, "seed": self._seed, "utterances": len(self._corpus)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where a state was taken: the next iteration begins there.

        Raises:
            CorpusError: if it is of another seed or of a corpus of another size.
        """
        ours = self.state_dict()
        for name in ("seed", "utterances"):
            if state[name] != ours[name]:
                raise CorpusError(f"the state is of {name} {state[name]}, this dataset of {ours[name]}; build it as it was then")
        self._epoch, self._given = state["epoch"], state["given"]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the ids `(ids,)` of each utterance or piece, int64."""
        worker = get_worker_info()
        rank, ranks = self._part
        share = (rank, ranks) if worker is None else (rank * worker.num_workers + worker.id, ranks * worker.num_workers)
        whole = self._corpus.shuffled((self._seed << 32) + self._epoch) if self._shuffle else self._corpus
        order = whole.part(*share)
        ends = np.cumsum(self._counts(order))
        first = int(np.searchsorted(ends, self._given, "right"))  # the utterance that the next sequence is of
        skip = self._given - (int(ends[first - 1]) if first else 0)
        for utterance in order[first:]:
            for piece in self._pieces(utterance)[skip:]:
                self._given += 1  # before it is given, so that a state taken after it does not give it again
                yield self._ids(utterance, piece)
            skip = 0
        self.set_epoch(self._epoch + 1)

    def _counts(self, order: Corpus) -> NDArray[np.int64]:
        """Return into how many pieces each utterance is cut."""
        samples = np.asarray(order.column("samples"), np.int64)
        return np.ones_like(samples) if self._frames is None else np.maximum(1, -(-samples // (self._layout.info.hop * self._frames)))

    def _pieces(self, utterance: Utterance) -> list[TokenBundle]:
        bundle = utterance.bundle
        if self._frames is None or len(bundle) <= self._frames:
            return [bundle]
        return [bundle[start : start + self._frames] for start in range(0, len(bundle), self._frames)]

    def _ids(self, utterance: Utterance, bundle: TokenBundle) -> NDArray[np.int64]:
        return self._layout.to_ids(bundle, None if self._text is None else _spans(self._text(utterance), len(bundle.s)))


def _spans(text: Sequence[Any], frames: int) -> Sequence[Span]:
    """Return spans as they are, and ids of text as one span of all frames."""
    return text if len(text) and isinstance(text[0], Span) else [Span(tuple(text), frames)]


def check_layout(corpus: Corpus, layout: Layout) -> None:
    """Refuse a layout of another tokenizer than a corpus."""
    if corpus.info != layout.info:
        raise CorpusError(f"the corpus is of {corpus.info.name}, the layout of {layout.info.name}; build a vocabulary from corpus.info")


def ids_of_rows(layout: Layout) -> Callable[[Mapping[str, Any]], dict[str, list[int]]]:
    """Return a function for `map` of Hugging Face's `datasets`: from a row of a corpus' Parquet files to `input_ids`, `attention_mask` and `labels`.

    `load_dataset("parquet", data_files="tokens/part-*.parquet").map(corpus.ids_of_rows(layout))`

    Args:
        layout: without text.

    Raises:
        CorpusError: if the layout has text.
    """
    if layout.text != "none":
        raise CorpusError("ids_of_rows is for layouts without text; map a function of your own that calls layout.to_ids with spans")

    def ids(row: Mapping[str, Any]) -> dict[str, list[int]]:
        batch = collate(layout, [layout.to_ids(bundle_of(row, layout.info, "unknown"))])
        return {name: values[0].tolist() for name, values in batch.items()}

    return ids
