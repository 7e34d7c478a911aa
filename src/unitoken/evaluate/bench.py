"""One clip at a time through all codecs: what a run measures with, and the rows that come of it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..audio import load_audio
from ..errors import AudioError, MissingDependencyError
from .codecs import SAMPLE_RATE, Codec, Roundtrip
from .degraded import Degraded, moved
from .journal import Measured
from .manifest import Clip
from .measures import Chosen, Measure, choose
from .summary import Row
from .usage import stream_tokens
from .words import NOT_TRANSCRIBED, CachedTranscriber, Errors, count_errors, load_whisper


@dataclass(frozen=True)
class _Reference:
    """One original clip, with what is computed from it once for all codecs."""

    clip: Clip
    waveform: Tensor
    text: str | None
    prepared: list[Any]


class Bench:
    """Measures clips, each through all codecs.

    The first clip goes through each codec once more, before the others and not counted, so that what a codec sets up is not in its times.

    Args:
        codecs: what is compared.
        measures: what compares a decoded clip with its original.
        words: writes down what is heard; None leaves words out.
        codebooks: whether tokens are kept, to be counted.
    """

    def __init__(self, codecs: Sequence[Codec], measures: Sequence[Measure], words: CachedTranscriber | None, codebooks: bool) -> None:
        self.codecs, self.measures, self.words, self.codebooks = list(codecs), list(measures), words, codebooks
        self._warm = False

    def measure(self, clip: Clip) -> list[Measured]:
        """Return what each codec makes of a clip.

        Raises:
            AudioError: if the clip cannot be read, or a codec returns samples of another number, or samples that are not finite.
        """
        reference = self._reference(clip)
        if not self._warm:
            for codec in self.codecs:
                codec.roundtrip(reference.waveform, clip.name)
            self._warm = True
        found = {codec.name: self._measure(codec, reference) for codec in self.codecs}
        for codec in self.codecs:
            if isinstance(codec, Degraded) and codec.codec.name in found:
                found[codec.name].row.values.update(moved(found[codec.codec.name].tokens, found[codec.name].tokens))
        return list(found.values())

    def _reference(self, clip: Clip) -> _Reference:
        waveform, _ = load_audio(clip.path, sample_rate=SAMPLE_RATE)
        spoken = self.words is not None and clip.language not in NOT_TRANSCRIBED and self.words.knows(clip.language)
        return _Reference(
            clip,
            waveform,
            self.words.remember(waveform, clip.language) if self.words is not None and spoken else None,
            [measure.prepare(waveform) for measure in self.measures],
        )

    def _measure(self, codec: Codec, reference: _Reference) -> Measured:
        trip = codec.roundtrip(reference.waveform, reference.clip.name)
        _check(codec.name, reference.clip, reference.waveform, trip.waveform)
        tokens = {} if trip.bundle is None or not self.codebooks else stream_tokens(trip.bundle)
        return Measured(self._row(codec.name, reference, trip), tokens)

    def _row(self, name: str, reference: _Reference, trip: Roundtrip) -> Row:
        clip, decoded = reference.clip, trip.waveform
        values: dict[str, float | None] = {}
        for measure, prepared in zip(self.measures, reference.prepared, strict=True):
            values |= measure.compare(reference.waveform, prepared, decoded)
        text, errors = self._words(reference, decoded)
        return Row(
            codec=name,
            clip=clip.name,
            source=clip.source,
            language=clip.language,
            seconds=len(decoded) / SAMPLE_RATE,
            bits=trip.bits,
            global_bits=trip.global_bits,
            encode_seconds=trip.encode_seconds,
            decode_seconds=trip.decode_seconds,
            values=values,
            errors=errors,
            original_text=reference.text,
            text=text,
        )

    def _words(self, reference: _Reference, decoded: Tensor) -> tuple[str | None, dict[str, Errors | None]]:
        if self.words is None:
            return None, {}
        if reference.text is None:
            return None, {"wer": None, "self_cer": None}
        text = self.words.transcribe(decoded, reference.clip.language)
        return text, {"wer": count_errors(reference.clip.transcript, text, "word"), "self_cer": count_errors(reference.text, text, "char")}


@dataclass(frozen=True)
class Setup:
    """All that a bench is made of, to be made again in another process.

    Attributes:
        codecs: what is compared.
        metrics: groups of figures; see `choose`.
        given: what was given for groups that need something; for `words` a Whisper model's folder or name, or a transcriber.
        threads: CPU threads of recogniser and F0 tracker.
    """

    codecs: Sequence[Codec]
    metrics: Sequence[str] | None
    given: Mapping[str, Any]
    threads: int

    def build(self) -> tuple[Bench, Chosen]:
        """Return the bench, and what it measures.

        Raises:
            ConfigError: see `choose`.
            MissingDependencyError: see `choose`.
        """
        chosen = choose(self.metrics, self.given, self.threads)
        words = self._transcriber(chosen)
        return Bench(self.codecs, chosen.measures, words, "codebooks" in chosen.groups), chosen

    def _transcriber(self, chosen: Chosen) -> CachedTranscriber | None:
        asr = self.given.get("words")
        if asr is None or "words" not in chosen.groups:
            return None
        try:
            return CachedTranscriber(load_whisper(asr, threads=self.threads) if isinstance(asr, str | os.PathLike) else asr)
        except MissingDependencyError as error:
            if self.metrics is not None:
                raise
            chosen.groups.remove("words")
            chosen.absent["words"] = str(error)
            return None


def _check(name: str, clip: Clip, waveform: Tensor, decoded: Tensor) -> None:
    if decoded.shape != waveform.shape:
        raise AudioError(
            f"{name} returned samples of shape {tuple(decoded.shape)} for {clip.name} of {tuple(waveform.shape)}; a codec must return as many"
        )
    if not bool(decoded.isfinite().all()):
        raise AudioError(f"{name} returned samples that are not finite for {clip.name}; nothing can be measured on them")
