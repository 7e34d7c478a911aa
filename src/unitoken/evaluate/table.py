"""The run: every clip of a manifest through every codec, one row of figures each."""

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._version import __version__
from ..audio import load_audio
from ..errors import AudioError, ConfigError, MissingDependencyError
from .codecs import SAMPLE_RATE, Codec, Roundtrip
from .journal import Journal, Measured
from .manifest import Clip, read_manifest
from .measures import METRICS, Chosen, Measure, choose
from .mos import Dnsmos
from .speakers import SpeakerEmbedder
from .summary import Report, Row
from .usage import count_codebooks, stream_tokens
from .words import NOT_TRANSCRIBED, CachedTranscriber, Errors, Transcriber, count_errors, load_whisper


@dataclass(frozen=True)
class _Judges:
    """What a run measures with."""

    measures: list[Measure]
    words: CachedTranscriber | None
    codebooks: bool


@dataclass(frozen=True)
class _Reference:
    """One original clip, with what is computed from it once for all codecs."""

    clip: Clip
    waveform: Tensor
    text: str | None
    prepared: list[Any]


def evaluate(
    manifest: str | os.PathLike[str],
    codecs: Sequence[Codec],
    *,
    metrics: Sequence[str] | None = None,
    asr: str | os.PathLike[str] | Transcriber | None = None,
    speakers: SpeakerEmbedder | None = None,
    dnsmos: Dnsmos | None = None,
    language: str = "",
    limit: int | None = None,
    threads: int = 1,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure codecs on the clips of a manifest.

    Each codec runs the first clip once more, before the others and not counted, so that what it sets up is not in its times.

    Args:
        manifest: a TSV or JSONL file, or a folder of clips; see `read_manifest`.
        codecs: what to compare, with different names.
        metrics: some of `signal`, `mos`, `speakers`, `pitch`, `words` and `codebooks`; None takes all that the other arguments and the
            installed packages allow, and the report says what is missing for the others.
        asr: a folder or Hub name of a Whisper model in CTranslate2's format, or a transcriber; for `words`.
        speakers: a speaker embedder; for `speakers`.
        dnsmos: a predictor of opinion scores; for `mos`.
        language: of the clips whose manifest has none; without one, their words are not measured.
        limit: take this many clips, evenly over the manifest.
        threads: CPU threads of the recogniser and the F0 tracker; the codecs' own are as torch is set.
        journal: a file for the clips that are done, one line each: the same run, started again, goes on from it. None keeps nothing.
        progress: called after each clip with the clips done and the clips there are.

    Returns:
        The report, with a row for each clip and codec.

    Raises:
        ConfigError: on unknown metrics, codecs of one name, a manifest that cannot be used, or a journal of another run.
        AudioError: if a clip cannot be read, or a codec returns samples of another number, or samples that are not finite.
        MissingDependencyError: if a package of the extra `[evaluate]` is missing for a metric asked for by name.
    """
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected one or more codecs of different names, got {names}; give each a name of its own")
    chosen = choose(metrics, {"words": asr, "speakers": speakers, "mos": dnsmos}, threads)
    clips = read_manifest(manifest, limit=limit, language=language)
    words = _transcriber(asr, threads, chosen, asked=metrics is not None)
    judges = _Judges(chosen.measures, words, "codebooks" in chosen.groups)
    context = _context(clips, chosen, words, threads)
    kept = Journal(journal, context | {"codecs": [_identity(codec) for codec in codecs], "manifest": _digest(clips)})
    warm = False
    for done, clip in enumerate(clips):
        if clip.name not in kept.done:
            reference = _reference(clip, judges)
            if not warm:
                for codec in codecs:
                    codec.roundtrip(reference.waveform, clip.name)
                warm = True
            kept.add(clip.name, [_measure(codec, reference, judges) for codec in codecs])
        if progress is not None:
            progress(done + 1, len(clips))
    measured = [each for clip in clips for each in kept.done[clip.name]]
    usage = {name: count_codebooks(each.tokens for each in measured if each.row.codec == name) for name in names}
    return Report(context, names, [each.row for each in measured], usage)


def _transcriber(asr: str | os.PathLike[str] | Transcriber | None, threads: int, chosen: Chosen, *, asked: bool) -> CachedTranscriber | None:
    if asr is None or "words" not in chosen.groups:
        return None
    try:
        return CachedTranscriber(load_whisper(asr, threads=threads) if isinstance(asr, str | os.PathLike) else asr)
    except MissingDependencyError as error:
        if asked:
            raise
        chosen.groups.remove("words")
        chosen.absent["words"] = str(error)
        return None


def _reference(clip: Clip, judges: _Judges) -> _Reference:
    waveform, _ = load_audio(clip.path, sample_rate=SAMPLE_RATE)
    spoken = judges.words is not None and clip.language not in NOT_TRANSCRIBED and judges.words.knows(clip.language)
    return _Reference(
        clip,
        waveform,
        judges.words.remember(waveform, clip.language) if judges.words is not None and spoken else None,
        [measure.prepare(waveform) for measure in judges.measures],
    )


def _measure(codec: Codec, reference: _Reference, judges: _Judges) -> Measured:
    trip = codec.roundtrip(reference.waveform, reference.clip.name)
    _check(codec.name, reference.clip, reference.waveform, trip.waveform)
    tokens = {} if trip.bundle is None or not judges.codebooks else stream_tokens(trip.bundle)
    return Measured(_row(codec.name, reference, trip, judges), tokens)


def _check(name: str, clip: Clip, waveform: Tensor, decoded: Tensor) -> None:
    if decoded.shape != waveform.shape:
        raise AudioError(
            f"{name} returned samples of shape {tuple(decoded.shape)} for {clip.name} of {tuple(waveform.shape)}; a codec must return as many"
        )
    if not bool(decoded.isfinite().all()):
        raise AudioError(f"{name} returned samples that are not finite for {clip.name}; nothing can be measured on them")


def _row(name: str, reference: _Reference, trip: Roundtrip, judges: _Judges) -> Row:
    clip, decoded = reference.clip, trip.waveform
    values: dict[str, float | None] = {}
    for measure, prepared in zip(judges.measures, reference.prepared, strict=True):
        values |= measure.compare(reference.waveform, prepared, decoded)
    text, errors = _words(reference, decoded, judges)
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


def _words(reference: _Reference, decoded: Tensor, judges: _Judges) -> tuple[str | None, dict[str, Errors | None]]:
    if judges.words is None:
        return None, {}
    if reference.text is None:
        return None, {"wer": None, "self_cer": None}
    text = judges.words.transcribe(decoded, reference.clip.language)
    return text, {"wer": count_errors(reference.clip.transcript, text, "word"), "self_cer": count_errors(reference.text, text, "char")}


def _context(clips: list[Clip], chosen: Chosen, words: CachedTranscriber | None, threads: int) -> dict[str, Any]:
    return {
        "unitoken": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch_threads": torch.get_num_threads(),
        "judge_threads": threads,
        "clips": len(clips),
        "sources": sorted({clip.source for clip in clips}),
        "metrics": [metric for metric in METRICS if metric in chosen.groups],
        "absent": chosen.absent,
        "asr": words.name if words is not None else "none",
    }


def _identity(codec: Codec) -> list[str]:
    """Return what a codec is: its name and, of a tokenizer, the weights."""
    return [codec.name, str(getattr(getattr(codec, "tokenizer", None), "fingerprint", ""))]


def _digest(clips: Sequence[Clip]) -> str:
    return hashlib.sha256("\n".join(f"{clip.name}\t{clip.transcript}\t{clip.language}" for clip in clips).encode()).hexdigest()[:32]
