"""The ids of frames in a sequence of any ids, cut where text is between them; and the text that goes with each part."""

from dataclasses import dataclass, field

from .bodies import Body, Ids, Sequential
from .report import Report
from .rules import TextOrder
from .vocabulary import SPECIALS, Kind, Vocabulary


@dataclass(frozen=True)
class Item:
    """An id of a frame: where it is, its stream (`?` if it is none of the layout's), codebook and token."""

    index: int
    kind: str
    stream: str
    book: int
    token: int


@dataclass
class Segment:
    """Text and ids of frames that belong together.

    Attributes:
        words: ids of the text tokenizer.
        items: of frames.
        markers: those that were seen, in their order.
    """

    words: list[int] = field(default_factory=list[int])
    items: list[Item] = field(default_factory=list[Item])
    markers: list[str] = field(default_factory=list[str])


class _Cutter:
    """Puts ids into segments of text and frames.

    A segment ends where its first part comes again behind its second one, marker or not: markers may be missing. One that comes twice opens nothing.

    Args:
        order: the names of the two parts, `text` and the marker of frames.
        report: where markers that are missing or too many are written down.
    """

    def __init__(self, order: tuple[str, str], report: Report) -> None:
        self._order, self._report = order, report
        self.done = [Segment()]

    def marker(self, index: int, part: str) -> None:
        """Take the marker of a part."""
        if self._begins(part):
            self.done.append(Segment())
        elif part in self.done[-1].markers or self._holds(part):
            self._report.add(index, f"the marker of {part} comes twice or too late and is left out")
            return
        self.done[-1].markers.append(part)

    def part(self, index: int, part: str) -> Segment:
        """Return the segment that the next id of a part belongs to."""
        if part == self._order[0] and self._begins(part):
            self.done.append(Segment())
        if part not in self.done[-1].markers and not self._holds(part):
            self._report.add(index, f"the marker of {part} is missing")
        return self.done[-1]

    def _begins(self, part: str) -> bool:
        """Return whether a marker begins a segment: the first part's after anything of the second, the second's after what it marks."""
        second = self._order[1]
        return self._holds(second) or (part == self._order[0] and second in self.done[-1].markers)

    def _holds(self, part: str) -> bool:
        return bool(self.done[-1].words if part == "text" else self.done[-1].items)


def segments_of(vocabulary: Vocabulary, body: Body, ids: Ids, numbers: Ids, text: TextOrder, report: Report) -> list[Segment]:
    """Return the segments of a sequence, one if there is no text; and report special ids that are missing or where they should not be.

    Args:
        vocabulary: of the ids.
        body: how frames lie.
        ids: int64 `(ids,)`, of any values.
        numbers: of their kinds.
        text: which of text and frames is first in a segment, if there is text.
        report: where to write it.
    """
    cutter = _Cutter(("text", "frames") if text == "before" else ("frames", "text"), report)
    seen = set[str]()
    last = len(ids) - 1
    pad = vocabulary.number("pad")
    while last >= 0 and numbers[last] == pad:
        last -= 1
    marked = {"transcript": "text", body.marker: "frames"} if text != "none" else {}
    for index, (id, number) in enumerate(zip(ids[: last + 1].tolist(), numbers.tolist(), strict=False)):
        kind = None if number < 0 else vocabulary.kinds[number]
        if kind is not None and (kind.stream == "g" or kind.name == "text" or kind.name in SPECIALS):
            if kind.name in marked:
                cutter.marker(index, marked[kind.name])
            elif text != "none" and kind.name == "text":
                cutter.part(index, "text").words.append(id - kind.first)
            elif kind.stream != "g" and not _expected(kind.name, body, index == last, kind.name in seen, text != "none"):
                report.add(index, f"{kind.name} does not belong here and is left out")
            seen.add(kind.name)
            continue
        item = _item(vocabulary, body, index, id, kind, report)
        segment = cutter.done[-1] if text == "none" or item.stream == "?" else cutter.part(index, "frames")
        segment.items.append(item)
    for name, place in (("bos", 0), (body.marker, 0), ("eos", len(ids))):
        if name not in seen and name not in marked:
            report.add(place, f"{name} is missing")
    return [segment for segment in cutter.done if segment.words or segment.items or segment.markers]


def _item(vocabulary: Vocabulary, body: Body, index: int, id: int, kind: Kind | None, report: Report) -> Item:
    """Return an id of a frame, or of nothing that the layout has."""
    if kind is not None and ((kind.stream or "s") in body.streams and (kind.stream is not None or kind.name in body.needs())):
        return Item(index, kind.name, kind.stream or "s", kind.codebook, id - kind.first)
    report.add(index, f"{vocabulary.describe(id)} is no id of this layout and is left out")
    return Item(index, "?", "?", 0, 0)


def _expected(name: str, body: Body, at_end: bool, again: bool, text: bool) -> bool:
    """Return whether a special id may be where it is: EOS at the end, others once; the marker of P in each span."""
    if name == "residual" and isinstance(body, Sequential):
        return text or not again
    return at_end if name == "eos" else not again and name in ("bos", "global", body.marker)
