"""The run: every clip of a manifest through every codec, one row of figures each."""

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .._version import __version__
from ..errors import ConfigError
from .bench import Setup
from .codecs import Codec
from .jobs import measure_clips, threads_each
from .journal import Journal
from .manifest import Clip, read_manifest
from .measures import METRICS, Chosen
from .mos import Dnsmos
from .speakers import SpeakerEmbedder
from .summary import Report
from .usage import count_codebooks
from .words import Transcriber


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
    jobs: int = 1,
    journal: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure codecs on the clips of a manifest.

    Each codec runs the first clip (of each process) once more, before the others and not counted, so that what it sets up is not in its times.

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
        jobs: clips measured at once, each in a process of its own, which share the threads that torch is set to. The figures are the same; the
            times, as of all things that run side by side, are longer. A script that asks for several needs `if __name__ == "__main__":`.
        journal: a file for the clips that are done, one line each: the same run, started again, goes on from it. None keeps nothing.
        progress: called after each clip with the clips done and the clips there are.

    Returns:
        The report, with a row for each clip and codec.

    Raises:
        ConfigError: on unknown metrics, codecs of one name, a manifest that cannot be used, a journal of another run, `jobs` below 1, or codecs
            and judges that cannot be handed to other processes.
        AudioError: if a clip cannot be read, or a codec returns samples of another number, or samples that are not finite.
        MissingDependencyError: if a package of the extra `[evaluate]` is missing for a metric asked for by name.
        UnitokenError: if the process of a job ended before its work.
    """
    names = [codec.name for codec in codecs]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected one or more codecs of different names, got {names}; give each a name of its own")
    if jobs < 1:
        raise ConfigError(f"jobs must be 1 or more, got {jobs}")
    setup = Setup(codecs, metrics, {"words": asr, "speakers": speakers, "mos": dnsmos}, threads)
    bench, chosen = setup.build()
    clips = read_manifest(manifest, limit=limit, language=language)
    context = _context(clips, chosen, bench.words.name if bench.words is not None else "none", threads, jobs)
    kept = Journal(journal, context | {"codecs": [_identity(codec) for codec in codecs], "manifest": _digest(clips)})
    missing = [clip for clip in clips if clip.name not in kept.done]
    for done, (clip, measured) in enumerate(measure_clips(missing, bench, setup, jobs), len(clips) - len(missing) + 1):
        kept.add(clip.name, measured)
        if progress is not None:
            progress(done, len(clips))
    found = [each for clip in clips for each in kept.done[clip.name]]
    usage = {name: count_codebooks(each.tokens for each in found if each.row.codec == name) for name in names}
    return Report(context, names, [each.row for each in found], usage)


def _context(clips: list[Clip], chosen: Chosen, asr: str, threads: int, jobs: int) -> dict[str, Any]:
    return {
        "unitoken": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch_threads": threads_each(jobs),
        "judge_threads": threads,
        "jobs": jobs,
        "clips": len(clips),
        "sources": sorted({clip.source for clip in clips}),
        "metrics": [metric for metric in METRICS if metric in chosen.groups],
        "absent": chosen.absent,
        "asr": asr,
    }


def _identity(codec: Codec) -> list[str]:
    """Return what a codec is: its name and, of a tokenizer, the weights."""
    return [codec.name, str(getattr(getattr(codec, "tokenizer", None), "fingerprint", ""))]


def _digest(clips: Sequence[Clip]) -> str:
    return hashlib.sha256("\n".join(f"{clip.name}\t{clip.transcript}\t{clip.language}" for clip in clips).encode()).hexdigest()[:32]
