"""Words kept: transcription by Whisper, one text normalisation, and error counts that one looping transcript cannot carry.

Normalisation (`normalise`): Unicode NFKC, lower case, punctuation and symbols dropped except apostrophes between letters or digits,
spaces collapsed. Digits stay as they are, nothing is spelled out.
"""

import os
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .extras import require

WINDOW_SAMPLES = 480000
"""30 s at 16 kHz, what Whisper hears at a time."""
NOT_TRANSCRIBED = frozenset({"ar"})
"""Languages that the recogniser is not asked about: on Arabic clips of single words its text is noise."""


class Transcriber(Protocol):
    """Anything that writes down what it hears; `name` is for reports."""

    name: str

    def knows(self, language: str) -> bool:
        """Say whether it writes down a language, given as its ISO 639 code."""
        ...

    def transcribe(self, waveform: Tensor, language: str) -> str:
        """Return the words of float32 `(samples,)` at 16 kHz, spoken in `language` (ISO 639-1)."""
        ...


class WhisperTranscriber:
    """Whisper through faster-whisper: greedy (beam 1, temperature 0), no conditioning on previous text, no timestamps.

    Samples are padded with zeros to 30 s before the log-mel, so that a figure repeats; longer clips are heard in pieces of 30 s.

    Args:
        model: a `faster_whisper.WhisperModel`.
        name: what to call it in reports.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name

    def knows(self, language: str) -> bool:
        """Say whether the model has a token for a language; an English-only model has one for English."""
        return language in self.model.supported_languages

    def transcribe(self, waveform: Tensor, language: str) -> str:
        """Return the words; see `Transcriber.transcribe`."""
        return " ".join(self._window(piece, language) for piece in waveform.split(WINDOW_SAMPLES) if len(piece)).strip()

    def _window(self, piece: Tensor, language: str) -> str:
        segments, _ = self.model.transcribe(
            F.pad(piece, (0, WINDOW_SAMPLES - len(piece))).numpy(),
            language=language,
            task="transcribe",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(segment.text.strip() for segment in segments)


def load_whisper(name_or_path: str | os.PathLike[str], *, threads: int = 1, device: str = "cpu") -> WhisperTranscriber:
    """Load a Whisper model in CTranslate2's format, computed in int8.

    Args:
        name_or_path: a local folder, a size such as `base`, or a Hub name (the last two may download).
        threads: CPU threads.
        device: `cpu` or `cuda`.

    Raises:
        MissingDependencyError: without the extra `[evaluate]`.
    """
    name = os.fspath(name_or_path)
    model = require("faster_whisper", "transcription").WhisperModel(name, device=device, compute_type="int8", cpu_threads=threads)
    return WhisperTranscriber(model, os.path.basename(os.path.normpath(name)))


def normalise(text: str) -> str:
    """Return the text as it is compared; the rules are in the module's docstring.

    >>> normalise("Don't  STOP -- it's 7 o'clock, 'Mr. Muller'!")
    "don't stop it's 7 o'clock mr muller"
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    kept = (char if char == "'" or unicodedata.category(char)[0] in "LMN" else " " for char in text)
    return " ".join("".join(kept).split())


@dataclass(frozen=True)
class Errors:
    """Edit errors against a reference.

    Attributes:
        errors: substitutions, deletions and insertions, at most `length`.
        length: words or characters of the reference.
    """

    errors: int
    length: int

    @property
    def rate(self) -> float:
        """Errors per reference word or character, 0 to 1."""
        return self.errors / self.length


def count_errors(reference: str, hypothesis: str, unit: Literal["word", "char"]) -> Errors | None:
    """Count the errors of a transcript, after `normalise`; each reference word or character counts at most once.

    Args:
        reference: what was said.
        hypothesis: what was heard.
        unit: compare words, or characters (spaces included).

    Returns:
        The counts, or None if the reference has no words.

    Raises:
        MissingDependencyError: without the extra `[evaluate]`.
    """
    jiwer = require("jiwer", "error rates")
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return None
    found = (jiwer.process_words if unit == "word" else jiwer.process_characters)(reference, hypothesis)
    length = found.hits + found.substitutions + found.deletions
    return Errors(min(found.substitutions + found.deletions + found.insertions, length), length)


def pool_errors(counts: list[Errors]) -> float | None:
    """Return the corpus figure: the sum of the errors over the sum of the reference lengths; None for no counts."""
    return sum(c.errors for c in counts) / sum(c.length for c in counts) if counts else None


class CachedTranscriber:
    """Remembers one clip's transcripts, so that an original, or a decoded copy equal to it, is heard once.

    Args:
        transcriber: what does the work.
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber = transcriber
        self.name = transcriber.name
        self._last: tuple[Tensor, str, str] | None = None

    def knows(self, language: str) -> bool:
        """See `Transcriber.knows`."""
        return self.transcriber.knows(language)

    def remember(self, waveform: Tensor, language: str) -> str:
        """Transcribe an original and keep the result until the next one."""
        self._last = waveform, language, self.transcriber.transcribe(waveform, language)
        return self._last[2]

    def transcribe(self, waveform: Tensor, language: str) -> str:
        """Return the kept transcript if the samples are the same, else a new one."""
        if self._last is not None and self._last[1] == language and torch.equal(self._last[0], waveform):
            return self._last[2]
        return self.transcriber.transcribe(waveform, language)
