"""The run: every clip of a manifest through every codec, one row of figures each."""

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._version import __version__
from ..audio import load_audio
from ..errors import AudioError, ConfigError
from .codecs import SAMPLE_RATE, Codec, Roundtrip
from .manifest import Clip, read_manifest
from .pitch import compare_f0, track_f0
from .signal import mel_distance, pesq_wb, stoi
from .speakers import SpeakerEmbedder
from .summary import Report, Row
from .usage import CodebookCounter, CodebookUsage
from .words import CachedTranscriber, Errors, Transcriber, count_errors, load_whisper

METRICS = ("signal", "words", "pitch", "codebooks", "speakers")
NOT_TRANSCRIBED = frozenset({"ar"})
"""Languages that the recogniser is not asked about: on Arabic clips of single words its text is noise."""


@dataclass(frozen=True)
class _Judges:
    """What a run measures with."""

    metrics: frozenset[str]
    words: CachedTranscriber | None
    speakers: SpeakerEmbedder | None
    threads: int


@dataclass(frozen=True)
class _Reference:
    """One original clip, with what is computed from it once for all codecs."""

    clip: Clip
    waveform: Tensor
    text: str | None
    f0: Tensor | None
    voice: Tensor | None


def evaluate(
    manifest: str | os.PathLike[str],
    codecs: Sequence[Codec],
    *,
    metrics: Sequence[str] | None = None,
    asr: str | os.PathLike[str] | Transcriber | None = None,
    speakers: SpeakerEmbedder | None = None,
    limit: int | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure codecs on the clips of a manifest.

    Each codec runs the first clip once more, before the others and not counted, so that what it sets up is not in its times.

    Args:
        manifest: a TSV file; see `read_manifest`.
        codecs: what to compare, with different names.
        metrics: some of `signal`, `words`, `pitch`, `codebooks` and `speakers`; None takes all that the other arguments allow.
        asr: a folder or Hub name of a Whisper model in CTranslate2's format, or a transcriber; for `words`.
        speakers: a speaker embedder; for `speakers`.
        limit: take this many clips, evenly over the manifest.
        threads: CPU threads of the recogniser and the F0 tracker; the codecs' own are as torch is set.
        progress: called after each clip with the clips done and the clips there are.

    Returns:
        The report, with a row for each clip and codec.

    Raises:
        ConfigError: on unknown metrics, codecs of one name, or a manifest that cannot be used.
        AudioError: if a clip cannot be read, or a codec returns samples of another number, or samples that are not finite.
        MissingDependencyError: without the extra `[evaluate]`.
    """
    chosen = _chosen(metrics, asr is not None, speakers is not None)
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected one or more codecs of different names, got {names}; give each a name of its own")
    clips = read_manifest(manifest, limit=limit)
    judges = _Judges(chosen, _transcriber(asr, threads) if "words" in chosen else None, speakers if "speakers" in chosen else None, threads)
    counters: dict[str, dict[str, CodebookCounter]] = {name: {} for name in names}
    rows: list[Row] = []
    for done, clip in enumerate(clips):
        reference = _reference(clip, judges)
        for codec in codecs:
            if not done:
                codec.roundtrip(reference.waveform)
            trip = codec.roundtrip(reference.waveform)
            _check(codec.name, clip, reference.waveform, trip.waveform)
            rows.append(_row(codec.name, reference, trip, judges))
            if "codebooks" in chosen:
                _count(counters[codec.name], trip)
        if progress is not None:
            progress(done + 1, len(clips))
    return Report(_context(clips, judges), names, rows, {name: _usage(streams) for name, streams in counters.items()})


def _chosen(metrics: Sequence[str] | None, words: bool, speakers: bool) -> frozenset[str]:
    possible = {"signal", "pitch", "codebooks"} | ({"words"} if words else set()) | ({"speakers"} if speakers else set())
    if metrics is None:
        return frozenset(possible)
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ConfigError(f"unknown metrics {unknown}; there are: {', '.join(METRICS)}")
    if "words" in metrics and not words:
        raise ConfigError("the metric 'words' needs a recogniser; give asr=, a folder or Hub name of a Whisper model for faster-whisper")
    if "speakers" in metrics and not speakers:
        raise ConfigError("the metric 'speakers' needs an embedder; give speakers=SpeakerEmbedder(path of the GE2E weights)")
    return frozenset(metrics)


def _transcriber(asr: str | os.PathLike[str] | Transcriber | None, threads: int) -> CachedTranscriber | None:
    if asr is None:
        return None
    return CachedTranscriber(load_whisper(asr, threads=threads) if isinstance(asr, str | os.PathLike) else asr)


def _reference(clip: Clip, judges: _Judges) -> _Reference:
    waveform, _ = load_audio(clip.path, sample_rate=SAMPLE_RATE)
    spoken = judges.words is not None and clip.language not in NOT_TRANSCRIBED and judges.words.knows(clip.language)
    return _Reference(
        clip,
        waveform,
        judges.words.remember(waveform, clip.language) if judges.words is not None and spoken else None,
        track_f0(waveform, threads=judges.threads) if "pitch" in judges.metrics else None,
        judges.speakers.embed(waveform) if judges.speakers is not None and len(waveform) else None,
    )


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
    if "signal" in judges.metrics:
        original = reference.waveform
        values |= {"stoi": stoi(original, decoded), "pesq_wb": pesq_wb(original, decoded), "mel_distance_db": mel_distance(original, decoded)}
    if reference.f0 is not None:
        values |= dataclasses.asdict(compare_f0(reference.f0, track_f0(decoded, threads=judges.threads)))
    if judges.speakers is not None:
        values["speaker_cosine"] = None if reference.voice is None else float(reference.voice @ judges.speakers.embed(decoded))
    text, errors = _words(reference, decoded, judges)
    return Row(
        codec=name,
        clip=clip.name,
        source=clip.source,
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


def _count(counters: dict[str, CodebookCounter], trip: Roundtrip) -> None:
    bundle = trip.bundle
    if bundle is None:
        return
    s, p = bundle.info.s, bundle.info.p
    streams = (
        ("s", bundle.s, s.num_codebooks, s.codebook_size),
        ("p", bundle.p, p.num_codebooks, p.codebook_size),
        ("g", None if bundle.g is None else bundle.g[None], bundle.info.num_g, bundle.info.g_size),
    )
    for stream, tokens, books, size in streams:
        if tokens is not None:
            counters.setdefault(stream, CodebookCounter(books, size)).add(tokens)


def _usage(counters: dict[str, CodebookCounter]) -> dict[str, CodebookUsage]:
    return {stream: found for stream, counter in counters.items() if (found := counter.usage()) is not None}


def _context(clips: list[Clip], judges: _Judges) -> dict[str, Any]:
    return {
        "unitoken": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch_threads": torch.get_num_threads(),
        "judge_threads": judges.threads,
        "clips": len(clips),
        "sources": sorted({clip.source for clip in clips}),
        "metrics": [metric for metric in METRICS if metric in judges.metrics],
        "asr": judges.words.name if judges.words is not None else "none",
    }
