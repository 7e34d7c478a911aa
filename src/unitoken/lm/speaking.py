"""From the ids that a model writes to sound, while it writes."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import LayoutError
from ..tokenizer import Tokenizer
from ..tokens import TokenBundle
from .bodies import Semantic
from .layout import Layout
from .pieces import Pieces
from .reader import Reader


def speak(tok: Tokenizer, layout: Layout, ids: Iterable[int], g: Any = None) -> Iterator[Tensor]:
    """Yield samples as soon as the ids that have come decide them.

    Args:
        tok: the layout's tokenizer, or one that decodes its bundles.
        layout: of the sequence.
        ids: the sequence from BOS on, a prompt included, one id at a time: a list, or a generator that asks a model. Where it stops before EOS the
            frames that are complete are spoken to their end.
        g: voice to speak with, instead of that of the sequence, `(num_g,)`.

    Yields:
        float32 `(samples,)` at `tok.sample_rate`, none of them empty; together what `tok.decode` gives for the sequence.

    Raises:
        LayoutError: if the layout is another tokenizer's, or at an id that may not come where it is, once all before it is spoken.
    """
    if layout.info.fingerprint not in tok.decodes:
        raise LayoutError(f"the layout is of {layout.info.name}, the tokenizer is {tok.info.name}; build a vocabulary from its info")
    stream = None
    for part in filter(None, _parts(layout, ids)):
        stream = stream or tok.stream_decode(part.g if g is None else g, with_p=part.p is not None)
        samples = stream.push(part.s, part.p)
        if len(samples):
            yield samples
    samples = torch.zeros(0) if stream is None else stream.finish()
    if len(samples):
        yield samples


def _parts(layout: Layout, ids: Iterable[int]) -> Iterator[TokenBundle]:
    """Yield the frames that each id completes, maybe none, to the end of the sequence or of the ids."""
    reader = Reader(layout)
    for id in ids:
        yield reader.push(id)
        if reader.finished:
            yield reader.finish()
            return


def ids_before_sound(tok: Tokenizer, layout: Layout, frames: int | None = None, *, g: bool = True) -> int:
    """Return how many ids after BOS a model writes before `speak` yields its first samples; in runs and pieces, at most.

    Args:
        tok: the layout's tokenizer.
        layout: of the sequence, without text.
        frames: coarse frames of the whole utterance, which matters in `Sequential`, where S comes first; default: as few as are needed for a sound.
        g: whether the sequence has G, which is often given and not written.

    Raises:
        LayoutError: if the layout has text, or the utterance ends before.
    """
    with tok.stream_decode(with_p="p" in layout.streams) as stream:
        needed = stream.lag_samples // layout.info.hop + 1
    total = needed if frames is None else frames
    if total < needed:
        raise LayoutError(f"{total} frames are fewer than the {needed} that come before the first sound")
    voice = torch.zeros(layout.info.num_g, dtype=torch.int64) if g else None
    shapes = layout.info.shapes(total * layout.info.hop)
    s, p = torch.zeros(shapes["s"], dtype=torch.int64), torch.zeros(shapes["p"], dtype=torch.int64)
    s[1::2] = 1  # no runs
    if isinstance(layout.body, Pieces):
        layout = Layout(layout.vocabulary, Semantic())  # where nothing is merged
    reader, complete = Reader(layout), 0
    ids = layout.to_ids(TokenBundle(s, p, voice, total * layout.info.hop, layout.info))
    for index, id in enumerate(ids.tolist()):
        complete += len(reader.push(id))
        if complete >= needed:
            return index
    return len(ids) - 1
