"""What can be read of a sequence with missing, doubled, foreign or impossible ids.

Every codebook has its own ids, so each id says by itself which part of a frame it is. Frames are put together again from what is there; S and P are
brought back into step wherever one of P follows one of S; a frame that lacks something is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .bodies import Body, Ids, Interleaved, Runs, Semantic, Sequential, numbers_of, ratio
from .pieces import Pieces
from .report import Report
from .rules import TextOrder
from .segments import Item, segments_of
from .vocabulary import Vocabulary

Frame = tuple[int, ...]
Group = list[Frame] | None  # frames of one stream, or None where some are missing


@dataclass(frozen=True)
class Mended:
    """What was read: tokens in one row for each stream, G if all of it is there, text and frames of S of each span, and the report."""

    g: Ids | None
    s: Ids
    p: Ids
    spans: list[tuple[tuple[int, ...], int]]
    report: Report


def mend(vocabulary: Vocabulary, body: Body, ids: Ids, *, text: TextOrder) -> Mended:
    """Read what can be read.

    Args:
        vocabulary: of the ids.
        body: how frames lie.
        ids: int64 `(ids,)`, of any values.
        text: in which order spans of text and of frames alternate, if they do.
    """
    report = Report()
    numbers = vocabulary.numbers_of(ids)
    g = _voice(vocabulary, ids, numbers, report)
    s, p, spans = list[Frame](), list[Frame](), list[tuple[tuple[int, ...], int]]()
    for segment in segments_of(vocabulary, body, ids, numbers, text, report):
        more = _READ[type(body)](vocabulary, body, segment.items, report) if segment.items else ([], [])
        s += more[0]
        p += more[1]
        spans.append((tuple(segment.words), len(more[0])))
    report.repairs.sort(key=lambda repair: repair.index)
    return Mended(g, _in_one_row(s), _in_one_row(p), spans, report)


def _in_one_row(frames: list[Frame]) -> Ids:
    return np.array([token for frame in frames for token in frame], np.int64)


def _voice(vocabulary: Vocabulary, ids: Ids, numbers: Ids, report: Report) -> Ids | None:
    """Return G, the first token of each codebook, if none is missing."""
    found: dict[int, int] = {}
    for index in np.flatnonzero(np.isin(numbers, numbers_of(vocabulary, "g"))).tolist():
        kind = vocabulary.kinds[numbers[index]]
        if kind.codebook in found:
            report.add(index, f"a second token of {kind.name} left out")
        found.setdefault(kind.codebook, int(ids[index]) - kind.first)
    missing = [str(book) for book in range(vocabulary.info.num_g) if book not in found]
    if found and missing:
        report.add(len(ids), f"G lacks codebook {', '.join(missing)} and is left out")
    return None if missing else np.array([found[book] for book in range(vocabulary.info.num_g)], np.int64)


class _Frames:
    """Puts the ids of one stream together to frames; one that lacks an id is None."""

    def __init__(self, books: int, report: Report) -> None:
        self._books, self._report = books, report
        self.done: list[Frame | None] = []
        self._tokens: list[int] = []
        self._next, self._index = 0, 0

    def take(self, item: Item) -> None:
        """Take one more id."""
        if item.book < self._next:
            self.close()
        if self._next == 0:
            self._index = item.index
        if item.book == self._next:
            self._tokens.append(item.token)
        self._next = item.book + 1
        if self._next == self._books:
            self.close()

    def close(self) -> None:
        """End the frame that has begun, if one has."""
        if self._next:
            whole = len(self._tokens) == self._books
            if not whole:
                self._report.add(self._index, "a frame with missing tokens is left out")
            self.done.append(tuple(self._tokens) if whole else None)
        self._tokens, self._next = [], 0


def _frames(books: int, items: Sequence[Item], report: Report) -> list[Frame | None]:
    frames = _Frames(books, report)
    for item in items:
        frames.take(item)
    frames.close()
    return frames.done


def _semantic(vocabulary: Vocabulary, body: Body, items: list[Item], report: Report) -> tuple[list[Frame], list[Frame]]:
    items = [item for item in items if item.stream == "s"]
    return [frame for frame in _frames(vocabulary.info.s.num_codebooks, items, report) if frame is not None], []


def _sequential(vocabulary: Vocabulary, body: Body, items: list[Item], report: Report) -> tuple[list[Frame], list[Frame]]:
    """Cut where the fewest ids are on the wrong side; one that is stands for a frame that is missing."""
    wrong_before = np.cumsum([0, *(item.stream == "p" for item in items)])
    wrong_after = np.cumsum([0, *(item.stream == "s" for item in items[::-1])])[::-1]
    cut = int(np.argmin(wrong_before + wrong_after))
    groups: list[list[Group]] = []
    for stream, part, own, per_group in zip(
        "sp", (items[:cut], items[cut:]), (vocabulary.info.s, vocabulary.info.p), ratio(vocabulary.info), strict=True
    ):
        frames: list[Frame | None] = []
        run: list[Item] = []
        for item in [*part, None]:
            if item is not None and item.stream == stream:
                run.append(item)
                continue
            frames += _frames(own.num_codebooks, run, report)
            run = []
            if item is not None:
                frames.append(None)
                if item.stream != "?":
                    report.add(item.index, f"{item.kind} among tokens of {stream.upper()} is left out")
        groups.append([_whole(frames[start : start + per_group]) for start in range(0, len(frames), per_group)])
    return _pairs(vocabulary, groups[0], groups[1], report, items)


def _whole(frames: Sequence[Frame | None]) -> Group:
    whole = [frame for frame in frames if frame is not None]
    return whole if len(whole) == len(frames) else None


def _interleaved(vocabulary: Vocabulary, body: Body, items: list[Item], report: Report) -> tuple[list[Frame], list[Frame]]:
    """Bring S and P into step where one of P follows one of S: there their numbers differ by the delay."""
    delay = body.delay if isinstance(body, Interleaved) else 0
    parts = _parts(vocabulary, [item for item in items if item.stream != "?"], report)
    s: list[Group] = []
    p: list[Group] = []
    left = sum(stream == "s" for stream, _ in parts)
    after_s = False
    for stream, group in parts:
        if stream == "s":
            left -= 1
            s.append(group)
        else:
            if left or after_s:
                p += [None] * (len(s) - 1 - len(p) - delay)
            if left:  # else this is the end, where P follows P
                s += [None] * (len(p) + delay - len(s) + 1)
            p.append(group)
        after_s = stream == "s"
    return _pairs(vocabulary, s, p, report, items)


def _parts(vocabulary: Vocabulary, items: list[Item], report: Report) -> list[tuple[str, Group]]:
    """Return the groups of each stream in their order."""
    info = vocabulary.info
    size = dict(zip("sp", ratio(info), strict=True))
    books = {"s": info.s.num_codebooks, "p": info.p.num_codebooks}
    parts: list[tuple[str, Group]] = []
    start = 0
    for stop in range(1, len(items) + 1):
        if stop == len(items) or items[stop].stream != items[start].stream:
            stream = items[start].stream
            frames = _frames(books[stream], items[start:stop], report)
            parts += [(stream, _whole(frames[at : at + size[stream]])) for at in range(0, len(frames), size[stream])]
            start = stop
    return parts


def _pairs(vocabulary: Vocabulary, s: list[Group], p: list[Group], report: Report, items: list[Item]) -> tuple[list[Frame], list[Frame]]:
    """Return the groups that are whole in both streams; the last may have fewer frames of the faster stream."""
    of_s, of_p = ratio(vocabulary.info)
    frames_s, frames_p = list[Frame](), list[Frame]()
    lost = abs(len(s) - len(p))
    pairs = list(zip(s, p, strict=False))
    for index, (one, other) in enumerate(pairs):
        if one and other and (index == len(pairs) - 1 or (len(one), len(other)) == (of_s, of_p)):
            frames_s += one
            frames_p += other
        else:
            lost += 1
    if lost:
        report.add(items[-1].index + 1, f"{lost} frame{'s' * (lost > 1)} without S or P left out")
    return frames_s, frames_p


def _runs(vocabulary: Vocabulary, body: Body, items: list[Item], report: Report) -> tuple[list[Frame], list[Frame]]:
    frames: list[Frame] = []
    held: Item | None = None
    for item in [*items, None]:
        if item is not None and item.kind == "run":
            if held is None:
                report.add(item.index, "a length without a token is left out")
            else:
                frames += [(held.token,)] * (item.token + 1)
            held = None
        elif item is None or item.kind == "s0":
            if held is not None:
                report.add(held.index, "a token without a length is taken for one frame")
                frames.append((held.token,))
            held = item
    return frames, []


def _pieces(vocabulary: Vocabulary, body: Body, items: list[Item], report: Report) -> tuple[list[Frame], list[Frame]]:
    items = [item for item in items if item.stream == "s"]
    return [(token,) for item in items for token in body.spread(vocabulary, item.kind, item.token, 0)], []


_Read = Callable[[Vocabulary, Body, list[Item], Report], tuple[list[Frame], list[Frame]]]
_READ: dict[type[Body], _Read] = {Semantic: _semantic, Sequential: _sequential, Interleaved: _interleaved, Runs: _runs, Pieces: _pieces}
