"""A layout: the sequence of ids that a bundle of tokens is, and the bundle that a sequence is."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, LayoutError
from ..token_info import TokenizerInfo
from ..tokens import TokenBundle
from .bodies import Body, Ids, Interleaved, Runs, Semantic, Sequential, books, frame_ids, frames_of, numbers_of, ratio
from .grammar import Place
from .pieces import Pieces
from .repair import mend
from .report import Report
from .rules import TextOrder, grammar_of
from .timing import times
from .vocabulary import Vocabulary, as_ids, load_json, save_json

_BODIES: dict[str, type[Body]] = {body.name: body for body in (Semantic, Sequential, Interleaved, Runs, Pieces)}
_FORMAT = 1


@dataclass(frozen=True)
class Span:
    """Text and the frames that it is spoken in.

    Attributes:
        text: ids of the text tokenizer.
        frames: how many frames of S, maybe none.
    """

    text: tuple[int, ...]
    frames: int


class Layout:
    """How bundles of tokens are written as sequences of ids: `BOS [G marker, G] marker, frames EOS`, with text between spans of frames if asked for.

    G is written where a bundle has it. A sequence of ids gives back what was written: `layout.from_ids(layout.to_ids(bundle))` is the bundle, less a
    stream that the layout does not carry, as long as its frames are unless the number of samples is given.

    >>> from unitoken import Tokenizer, lm
    >>> tok = Tokenizer.from_pretrained()
    >>> layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved())
    >>> bundle = tok.encode("examples/audio/lady.flac")
    >>> ids = layout.to_ids(bundle)
    >>> ids.shape, layout.from_ids(ids, num_samples=bundle.num_samples) == bundle
    ((212,), True)

    Args:
        vocabulary: which id means what.
        body: how frames lie: `Semantic()`, `Sequential()`, `Interleaved(delay=0)`, `Runs()` or `Pieces()`.
        text: whether each span of frames has its text before it (reading aloud, T A T A), after it (transcribing, A T A T), or there is none.

    Raises:
        ConfigError: if the vocabulary lacks ids that the layout needs, or there is text and the rates of S and P differ.
    """

    def __init__(self, vocabulary: Vocabulary, body: Body, *, text: TextOrder = "none") -> None:
        if text not in get_args(TextOrder):
            raise ConfigError(f"text must be one of {', '.join(get_args(TextOrder))}, got {text!r}")
        self.vocabulary, self.body = vocabulary, body
        self.text: TextOrder = text
        for name in body.needs() if text == "none" else (*body.needs(), "text"):
            vocabulary.number(name)
        if text != "none" and body.streams == "sp" and ratio(vocabulary.info) != (1, 1):
            raise ConfigError("text lies between frames of equal rates of S and P only; take a layout of S alone, or one without text")
        self.grammar = grammar_of(vocabulary, body, text)

    @property
    def info(self) -> TokenizerInfo:
        """Of the tokenizer whose tokens the ids are."""
        return self.vocabulary.info

    @property
    def streams(self) -> str:
        """The streams that it carries: `gs` or `gsp`."""
        return "g" + self.body.streams

    def __repr__(self) -> str:
        return f"Layout({self.body}, text={self.text!r}, {self.vocabulary.size} ids, {self.info.name})"

    def prefix(self, g: Any = None, text: Sequence[int] | None = None) -> Ids:
        """Return the ids that a model is given so that it goes on with frames.

        Args:
            g: global tokens `(num_g,)`, or None.
            text: ids of the text tokenizer that are to be spoken, in a layout with text before frames.

        Raises:
            LayoutError: if there is text and the layout has none before frames, or none and it has.
            TokenError: if `g` is none.
        """
        if (text is None) == (self.text == "before"):
            raise LayoutError(f"a layout with text={self.text!r} {'needs text in' if text is None else 'has no text in'} its prefix")
        empty = TokenBundle(torch.zeros(0, dtype=torch.int64), None, g, 0, self.info)
        return np.concatenate([self._opening(empty.g), *([] if text is None else [self._text(text)]), self._marker(self.body.marker)])

    def to_ids(self, bundle: TokenBundle, spans: Sequence[Span] | None = None) -> Ids:
        """Return the sequence of a bundle, int64 `(ids,)`.

        Args:
            bundle: of the layout's tokenizer.
            spans: text and frames, which together are all of the bundle's, in a layout with text.

        Raises:
            LayoutError: if the bundle is another tokenizer's or has no P and the layout carries it, or spans do not fit.
        """
        s, p = frames_of(self.info, bundle, self.body.streams)
        opening = self._opening(bundle.g)
        if self.text == "none":
            if spans is not None:
                raise LayoutError("this layout has no text, but spans were given; build it with text='before' or 'after'")
            return np.concatenate([opening, self._marker(self.body.marker), self.body.write(self.vocabulary, s, p), self._marker("eos")])
        if spans is None or sum(span.frames for span in spans) != len(s) or any(span.frames < 0 for span in spans):
            given = "no spans" if spans is None else f"spans of {[span.frames for span in spans]}"
            raise LayoutError(f"a layout with text needs spans whose frames add up to the bundle's {len(s)} of S, got {given}")
        parts, start = [opening], 0
        for span in spans:
            stop = start + span.frames
            body = self.body.write(self.vocabulary, s[start:stop], p[start:stop])
            voiced = np.concatenate([self._marker(self.body.marker), body])
            parts += [self._text(span.text), voiced] if self.text == "before" else [voiced, self._text(span.text)]
            start = stop
        return np.concatenate([*parts, self._marker("eos")])

    def _marker(self, name: str) -> Ids:
        return self.vocabulary.firsts[[self.vocabulary.number(name)]]

    def _opening(self, g: Tensor | None) -> Ids:
        if g is None:
            return self._marker("bos")
        return np.concatenate([self._marker("bos"), self._marker("global"), frame_ids(self.vocabulary, "g", g.numpy())])

    def _text(self, text: Sequence[int]) -> Ids:
        kind, ids = self.vocabulary.kind("text"), as_ids(text)
        if ids.size and not (ids.min() >= 0 and ids.max() < kind.size):
            raise LayoutError(f"text must be ids from 0 to {kind.size - 1}, got {ids.min()} to {ids.max()}; is it another text tokenizer's?")
        return np.concatenate([self._marker("transcript"), ids + kind.first])

    @overload
    def from_ids(self, ids: Any, *, strict: Literal[True] = True, num_samples: int | None = None) -> TokenBundle: ...
    @overload
    def from_ids(self, ids: Any, *, strict: Literal[False], num_samples: int | None = None) -> tuple[TokenBundle, Report]: ...
    @overload
    def from_ids(self, ids: Any, *, strict: bool, num_samples: int | None = None) -> TokenBundle | tuple[TokenBundle, Report]: ...
    def from_ids(self, ids: Any, *, strict: bool = True, num_samples: int | None = None) -> TokenBundle | tuple[TokenBundle, Report]:
        """Return the bundle of a sequence; padding after it is left out.

        Args:
            ids: `(ids,)`.
            strict: refuse whatever the layout cannot have; else leave out what cannot be read, and say so.
            num_samples: length of the audio; without it every frame is whole.

        Returns:
            the bundle; with `strict=False` a report, too. At most the frames that a wrong id touches are lost, see `Report`.

        Raises:
            LayoutError: if `strict`, at the first id that may not be where it is, or if the sequence is not complete.
            TokenError: if the frames do not fit `num_samples`.
        """
        ids = as_ids(ids)
        if not strict:
            mended = mend(self.vocabulary, self.body, ids, text=self.text)
            return self.bundle_of(mended.g, mended.s, mended.p, num_samples), mended.report
        return self._read(ids, num_samples)

    @overload
    def spans_of(self, ids: Any, *, strict: Literal[True] = True) -> list[Span]: ...
    @overload
    def spans_of(self, ids: Any, *, strict: Literal[False]) -> tuple[list[Span], Report]: ...
    def spans_of(self, ids: Any, *, strict: bool = True) -> list[Span] | tuple[list[Span], Report]:
        """Return text and frames of a sequence of a layout with text, as `to_ids` took them.

        With `strict=False` also of one with wrong ids: with a report, as `from_ids`, which reads the same frames. Where a marker is missing a span
        ends all the same, at the text (`text="before"`) or the frames (`"after"`) that can only be another's.

        Raises:
            LayoutError: as `from_ids`; or if the layout has no text.
        """
        if self.text == "none":
            raise LayoutError("this layout has no text; build it with text='before' or 'after'")
        ids = as_ids(ids)
        if not strict:
            mended = mend(self.vocabulary, self.body, ids, text=self.text)
            return [Span(*span) for span in mended.spans], mended.report
        self._check(ids)
        numbers = self.vocabulary.numbers_of(ids)
        lengths = self.body.lengths(self.vocabulary, numbers, ids - self.vocabulary.firsts[numbers])
        first, second = ("transcript", self.body.marker) if self.text == "before" else (self.body.marker, "transcript")
        starts, turns = (np.flatnonzero(numbers == self.vocabulary.number(name)) for name in (first, second))
        text, spans = self.vocabulary.number("text"), list[Span]()
        for start, turn, stop in zip(starts, turns, [*starts, len(ids)][1:], strict=True):
            told, voiced = ((start, turn), (turn, stop)) if self.text == "before" else ((turn, stop), (start, turn))
            words = ids[slice(*told)][numbers[slice(*told)] == text] - self.vocabulary.kind("text").first
            spans.append(Span(tuple(words.tolist()), int(lengths[slice(*voiced)].sum()) // self.info.s.num_codebooks))
        return spans

    def _check(self, ids: Ids) -> None:
        place = self.grammar.after(ids)
        if place.state != self.grammar.end.state:
            raise LayoutError(
                f"the sequence ends after {len(ids)} ids where {self.grammar.expected(place)} should follow; strict=False reads what is there"
            )

    def _read(self, ids: Ids, num_samples: int | None) -> TokenBundle:
        self._check(ids)
        numbers = self.vocabulary.numbers_of(ids)
        tokens = ids - self.vocabulary.firsts[numbers]
        g, p = (tokens[np.isin(numbers, numbers_of(self.vocabulary, name))] for name in "gp")
        return self.bundle_of(g if len(g) else None, self.body.tokens_of_s(self.vocabulary, numbers, tokens), p, num_samples)

    def bundle_of(self, g: Any, s: Any, p: Any, num_samples: int | None = None) -> TokenBundle:
        """Return a bundle of tokens that lie in one row for each stream; P is left out if it is not carried.

        Args:
            g: global tokens, or None.
            s: tokens of S.
            p: tokens of P.
            num_samples: length of the audio; without it every frame is whole.
        """
        info = self.info
        s, p = np.asarray(s, np.int64), np.asarray(p, np.int64)
        frames_s, frames_p = len(s) // info.s.num_codebooks, len(p) // info.p.num_codebooks
        carried = "p" in self.body.streams
        if num_samples is None:
            num_samples = min(frames_s * info.s.hop, frames_p * info.p.hop) if carried else frames_s * info.s.hop
        s, p = (tokens if own.num_codebooks == 1 else tokens.reshape(-1, own.num_codebooks) for tokens, own in ((s, info.s), (p, info.p)))
        return TokenBundle(s, p if carried else None, g, num_samples, info)  # pyright: ignore[reportArgumentType] integers of any form

    def allowed(self, place: Place) -> Tensor:
        """Return which ids may come next, see `Grammar.allowed`."""
        return self.grammar.allowed(place)

    def seconds(self, ids: Any) -> NDArray[np.float64]:
        """Return when the frame of each id begins, float64 `(ids,)`, NaN for ids that are of no frame (G, markers, text).

        Args:
            ids: a sequence, or the beginning of one.
        """
        starts, _ = times(self.vocabulary, self.body, as_ids(ids))
        return starts

    def index_at(self, ids: Any, seconds: float) -> int:
        """Return the index of the first id of S whose frame or run covers a time.

        Raises:
            LayoutError: if no frame of the sequence does.
        """
        ids = as_ids(ids)
        starts, ends = times(self.vocabulary, self.body, ids)
        found = np.flatnonzero((starts <= seconds) & (seconds < ends))
        if not len(found):
            raise LayoutError(f"no frame is at {seconds} s; those of the sequence end at {np.nanmax(ends, initial=0.0):.3f} s")
        return int(found[0])

    def loss_mask(self, ids: Any, *, g: bool = False, text: bool = False) -> NDArray[np.bool_]:
        """Return which ids a model should learn to write, bool `(ids,)`: those of frames, the markers between them, and EOS.

        In a layout with text before frames the markers of all texts but the first are learnt, too: they say that the text before is spoken.

        Args:
            ids: a sequence; padding after it is never learnt, nor is BOS.
            g: whether G is learnt, too, not only given.
            text: whether text is.
        """
        numbers = self.vocabulary.numbers_of(as_ids(ids))
        names = {"pad", "bos"} | (set() if text else {"text", "transcript"}) | (set() if g else {"global", *books(self.vocabulary, "g")})
        learnt = ~np.isin(numbers, [number for number, kind in enumerate(self.vocabulary.kinds) if kind.name in names])
        if self.text == "before":
            learnt[np.flatnonzero(numbers == self.vocabulary.number("transcript"))[1:]] = True
        return learnt

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file with the vocabulary in it; an existing one is replaced once the new one is complete."""
        body = {"name": self.body.name, **dataclasses.asdict(self.body)}
        save_json(path, {"format": _FORMAT, "vocabulary": self.vocabulary.to_json(), "body": body, "text": self.text})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Layout":
        """Read what `save` wrote.

        Raises:
            ConfigError: if it is no layout, or of another format.
            OSError: if it cannot be read.
        """
        data = load_json(path)
        try:
            body = dict(data["body"])
            if data["format"] != _FORMAT:
                raise ConfigError(f"{path} is a layout of format {data['format']}, this release reads {_FORMAT}; write it again with save")
            return cls(Vocabulary.from_json(data["vocabulary"]), _BODIES[body.pop("name")](**body), text=data["text"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no layout: {error}; write it again with save") from error
