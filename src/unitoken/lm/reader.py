"""Reading a sequence id by id, as a model writes it."""

import torch
from torch import Tensor

from ..errors import LayoutError
from ..tokens import TokenBundle
from .bodies import ratio
from .layout import Layout


class Reader:
    """Reads a sequence as a model writes it.

    Args:
        layout: of the sequence.

    Attributes:
        place: where in the sequence the reader is; `layout.allowed(reader.place)` says what may come.
        g: global tokens int64 `(num_g,)`, once all of them have come; None before, and without them.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout, self.place = layout, layout.grammar.start
        self.g: Tensor | None = None
        self._tokens: dict[str, list[int]] = {"g": [], "s": [], "p": []}
        self._last, self._given = 0, 0
        info = layout.info
        of_s, of_p = ratio(info)
        self._group = {"s": of_s * info.s.num_codebooks, "p": of_p * info.p.num_codebooks}
        self._nothing = layout.bundle_of(None, [], [])

    @property
    def finished(self) -> bool:
        """Whether the sequence is complete."""
        return self.place.state == self._layout.grammar.end.state

    def push(self, id: int) -> TokenBundle:
        """Take one more id.

        Returns:
            the frames that are complete in all streams now, maybe none; with `g` once it is known.

        Raises:
            LayoutError: if the id may not come here; the reader stays where it was.
        """
        layout = self._layout
        self.place = layout.grammar.step(self.place, int(id))
        kind = layout.vocabulary.kinds[layout.grammar.number_of(int(id))]
        token = int(id) - kind.first
        if kind.stream == "s" or kind.name in layout.body.needs():
            self._tokens["s"] += layout.body.spread(layout.vocabulary, kind.name, token, self._last)
        elif kind.stream is not None:
            self._tokens[kind.stream].append(token)
            if self.g is None and len(self._tokens["g"]) == layout.info.num_g:
                self.g = torch.tensor(self._tokens["g"])
        self._last = token
        return self._take()

    def finish(self) -> TokenBundle:
        """Return the frames of the last group, if it has fewer than others; all others have been given.

        Raises:
            LayoutError: if the sequence is not complete.
        """
        if not self.finished:
            raise LayoutError(f"the sequence ends where {self._layout.grammar.expected(self.place)} should follow; push the rest first")
        return self._take(rest=True)

    def _take(self, *, rest: bool = False) -> TokenBundle:
        carried = self._layout.body.streams
        ready = min(len(self._tokens[stream]) // self._group[stream] for stream in carried)
        if ready == self._given and not rest:
            return self._nothing
        cut = {stream: slice(self._given * size, None if rest else ready * size) for stream, size in self._group.items()}
        self._given = ready
        return self._layout.bundle_of(self.g, self._tokens["s"][cut["s"]], self._tokens["p"][cut["p"]])
