"""One row of ids for each codebook, all of a frame in one step: for models with a head a codebook."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, LayoutError
from ..token_info import TokenizerInfo
from ..tokens import TokenBundle
from .bodies import Ids, books, frames_of, ratio
from .vocabulary import Vocabulary, load_json, save_json

_FORMAT = 1


@dataclass(frozen=True)
class Step:
    """Where in a sequence of steps one is. A value.

    Attributes:
        part: `start`, `opened` (after BOS), `voice`, `frames`, or `end`.
        at: steps in that part.
        frames: how many there are, once the first row has said so by its padding.
    """

    part: str
    at: int = 0
    frames: int | None = None


class Parallel:
    """Frames as columns of ids, each row later than the first by its delay (arXiv 2306.05284): `BOS [G] frames EOS`.

    G's tokens come one a step in the first row, after a step of its marker. The other rows have `PAD` there, and where a delay leaves them nothing.
    The first row, which has no delay, says that the frames end by `PAD`, or by `EOS` if no row has a delay. Rates of S and P must be equal.

    Args:
        vocabulary: which id means what; all rows share it.
        streams: `s` or `sp`.
        delays: of each row in frames, S's codebooks first, from 0 on; default: none.

    Raises:
        ConfigError: if rates differ, or the delays are not one a row, begin with another than 0, or are negative.
    """

    def __init__(self, vocabulary: Vocabulary, streams: str = "sp", delays: Sequence[int] | None = None) -> None:
        if streams not in ("s", "sp"):
            raise ConfigError(f"streams must be s or sp, got {streams!r}")
        if streams == "sp" and ratio(vocabulary.info) != (1, 1):
            raise ConfigError(
                f"parallel rows need equal rates of S and P, got hops of {vocabulary.info.s.hop} and {vocabulary.info.p.hop}; take Interleaved"
            )
        self.vocabulary, self.streams = vocabulary, streams
        self.rows = tuple(name for stream in streams for name in books(vocabulary, stream))
        self.delays = (0,) * len(self.rows) if delays is None else tuple(delays)
        if len(self.delays) != len(self.rows) or self.delays[0] != 0 or min(self.delays) < 0:
            raise ConfigError(f"delays must be one of 0 or more for each of {', '.join(self.rows)}, the first 0, got {self.delays}")

    @property
    def info(self) -> TokenizerInfo:
        """Of the tokenizer whose tokens the ids are."""
        return self.vocabulary.info

    @property
    def longest(self) -> int:
        """The longest delay."""
        return max(self.delays)

    def _column(self, first: int, others: int) -> Ids:
        return np.array([[first], *([[others]] * (len(self.rows) - 1))], np.int64)

    def prefix(self, g: Any = None) -> Ids:
        """Return the steps before the frames, int64 `(rows, steps)`.

        Raises:
            TokenError: if `g` is none.
        """
        vocabulary = self.vocabulary
        g = TokenBundle(torch.zeros(0, dtype=torch.int64), None, g, 0, self.info).g
        opening = np.full((len(self.rows), 1), vocabulary.bos, np.int64)
        if g is None:
            return opening
        spoken = [vocabulary.kind("global").first, *(vocabulary.kind(f"g{book}").first + token for book, token in enumerate(g.tolist()))]
        return np.concatenate([opening, *(self._column(id, vocabulary.pad) for id in spoken)], 1)

    def to_ids(self, bundle: TokenBundle) -> Ids:
        """Return ids, int64 `(rows, steps)`.

        Raises:
            LayoutError: if the bundle is another tokenizer's, or has no P and it is carried.
        """
        s, p = frames_of(self.info, bundle, self.streams)
        frames, row_tokens = len(s), (np.concatenate([s, p], 1) if "p" in self.streams else s).T
        body = np.full((len(self.rows), frames + self.longest if frames else 0), self.vocabulary.pad, np.int64)
        for row, (name, delay) in enumerate(zip(self.rows, self.delays, strict=True)):
            body[row, delay : delay + frames] = row_tokens[row] + self.vocabulary.kind(name).first
        return np.concatenate([self.prefix(bundle.g), body, np.full((len(self.rows), 1), self.vocabulary.eos, np.int64)], 1)

    def from_ids(self, ids: Any, *, num_samples: int | None = None) -> TokenBundle:
        """Return the bundle of ids `(rows, steps)`; padding after EOS is left out.

        Raises:
            LayoutError: at the first step that may not be where it is, or if the sequence is not complete.
            TokenError: if the frames do not fit `num_samples`.
        """
        ids = np.asarray(ids)
        if ids.ndim != 2 or ids.shape[0] != len(self.rows) or ids.dtype.kind not in "iu":
            raise LayoutError(f"ids must be integers of the shape ({len(self.rows)}, steps), got {ids.dtype} {ids.shape}")
        step = Step("start")
        for index, column in enumerate(ids.T.tolist()):
            step = self._step(step, column, f"at step {index}: ")
        if step.part != "end":
            raise LayoutError(f"the sequence ends after {ids.shape[1]} steps, without a step of EOS")
        begin = 2 + self.info.num_g if ids[0, 1] == self.vocabulary.kind("global").first else 1
        first = [self.vocabulary.kind(name).first for name in self.rows]
        frames = step.frames or 0
        tokens = [ids[row, begin + delay : begin + delay + frames] - first[row] for row, delay in enumerate(self.delays)]
        books_s = self.info.s.num_codebooks
        s, p = (np.stack(part, 1) if len(part) > 1 else part[0] if part else None for part in (tokens[:books_s], tokens[books_s:]))
        g = ids[0, 2:begin] - [self.vocabulary.kind(f"g{book}").first for book in range(self.info.num_g)] if begin > 1 else None
        samples = frames * self.info.s.hop if num_samples is None else num_samples
        return TokenBundle(s, p, g, samples, self.info)  # pyright: ignore[reportArgumentType] integers of any form

    def step(self, step: Step, column: Sequence[int]) -> Step:
        """Return where one is after one more step, in constant time.

        Args:
            step: where one is; `Step("start")` at the beginning.
            column: one id a row.

        Raises:
            LayoutError: if it may not come here.
        """
        return self._step(step, column, "")

    def _step(self, step: Step, column: Sequence[int], where: str) -> Step:
        numbers = self.vocabulary.numbers_of(np.asarray(column, np.int64)).tolist()
        names = [self.vocabulary.kinds[number].name if number >= 0 else "" for number in numbers]
        for row, (id, name) in enumerate(zip(column, names, strict=True)):
            kinds = self._kinds(step, row, names[0])
            if name not in kinds:
                raise LayoutError(f"{where}row {row} ({self.rows[row]}): expected {' or '.join(kinds)}, got {self.vocabulary.describe(id)} (id {id})")
        return self._after(step, names[0])

    def _after(self, step: Step, first: str) -> Step:
        if step.part == "start":
            return Step("opened")
        if first == "global":
            return Step("voice")
        if step.part == "voice":
            return Step("frames") if step.at == self.info.num_g - 1 else Step("voice", step.at + 1)
        if step.part == "end" or first == "eos":
            return Step("end", 0, step.at if step.frames is None else step.frames)
        return Step("frames", step.at + 1, step.at if first == "pad" and step.frames is None else step.frames)

    def _kinds(self, step: Step, row: int, first: str) -> tuple[str, ...]:
        """Return what a row may have next, given what the first row has there; for the first row itself that does not matter."""
        if step.part in ("start", "end"):
            return ("bos",) if step.part == "start" else ("pad",)
        if step.part == "voice":
            return (f"g{step.at}",) if row == 0 else ("pad",)
        if step.frames is not None:  # the first row has ended
            if step.at == step.frames + self.longest:
                return ("eos",)
            return self._frame(step.at, row, step.frames)
        if row == 0:
            ends = "pad" if self.longest and step.at else "eos"  # without frames there are no steps of padding
            return (self.rows[0], ends, "global") if step.part == "opened" else (self.rows[0], ends)
        if first in ("eos", "global"):
            return ("eos",) if first == "eos" else ("pad",)
        return self._frame(step.at, row, step.at if first == "pad" else step.at + 1)

    def _frame(self, at: int, row: int, frames: int) -> tuple[str, ...]:
        """Return what a row has where there are `frames` frames, at least."""
        return (self.rows[row],) if self.delays[row] <= at < frames + self.delays[row] else ("pad",)

    def allowed(self, step: Step, first: int | None = None) -> Tensor:
        """Return which ids each row may have next: bool `(rows, vocabulary.size)`, in constant time.

        Args:
            step: where one is.
            first: what the first row has got. Draw it first, and then, by the mask with it, the others: they end where it does.
        """
        mask = torch.zeros(len(self.rows), self.vocabulary.size, dtype=torch.bool)
        given = self._kinds(step, 0, "") if first is None else (self.vocabulary.kinds[int(self.vocabulary.numbers_of(np.array([first]))[0])].name,)
        for row in range(len(self.rows)):
            for name in {name for one in given for name in self._kinds(step, row, one)}:
                kind = self.vocabulary.kind(name)
                mask[row, kind.first : kind.stop] = True
        return mask

    def loss_mask(self, ids: Any) -> NDArray[np.bool_]:
        """Return which ids a model should learn to write, bool `(rows, steps)`: those of frames, EOS, and the padding that ends the first row."""
        ids = np.asarray(ids)
        numbers = self.vocabulary.numbers_of(ids.reshape(-1)).reshape(ids.shape)
        learnt = np.isin(numbers, [self.vocabulary.number(name) for name in (*self.rows, "eos")])
        if self.longest:
            spoken = np.flatnonzero(learnt[0] & (numbers[0] != self.vocabulary.number("eos")))
            if len(spoken):
                learnt[0, spoken[-1] + 1] = True
        return learnt

    def seconds(self, ids: Any) -> NDArray[np.float64]:
        """Return when the frame of each id begins, float64 `(rows, steps)`, NaN for ids that are of no frame."""
        ids = np.asarray(ids)
        numbers = self.vocabulary.numbers_of(ids.reshape(-1)).reshape(ids.shape)
        said = np.isin(numbers, [self.vocabulary.number(name) for name in self.rows])
        return np.where(said, (np.cumsum(said, 1) - 1) * (self.info.s.hop / self.info.sample_rate), np.nan)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file with the vocabulary in it; an existing one is replaced once the new one is complete."""
        parallel = {"streams": self.streams, "delays": list(self.delays)}
        save_json(path, {"format": _FORMAT, "vocabulary": self.vocabulary.to_json(), "parallel": parallel})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Parallel":
        """Read what `save` wrote.

        Raises:
            ConfigError: if it is no parallel layout, or of another format.
            OSError: if it cannot be read.
        """
        data = load_json(path)
        try:
            parallel = data["parallel"]
            if data["format"] != _FORMAT:
                raise ConfigError(f"{path} is a parallel layout of format {data['format']}, this release reads {_FORMAT}; write it again with save")
            return cls(Vocabulary.from_json(data["vocabulary"]), parallel["streams"], parallel["delays"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no parallel layout: {error}; write it again with save, or read it with Layout.load") from error
