"""The groups of figures that compare a decoded clip with its original, and what each needs; words and codebooks are counted in `table`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..errors import ConfigError, MissingDependencyError
from .extras import require
from .mos import Dnsmos
from .pitch import compare_f0, load_tracker, track_f0
from .signal import mel_distance, pesq_wb, stoi
from .speakers import SpeakerEmbedder

METRICS = ("signal", "mos", "speakers", "pitch", "words", "codebooks")
NEEDS = {
    "mos": "a network; give dnsmos=Dnsmos(path of model_v8.onnx)",
    "speakers": "an embedder; give speakers=SpeakerEmbedder(path of the GE2E weights)",
    "words": "a recogniser; give asr=, a folder or Hub name of a Whisper model for faster-whisper",
}
"""What a group cannot be measured without."""

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Measure:
    """Figures of a decoded clip.

    Attributes:
        prepare: what is computed of an original, once for all codecs.
        compare: the figures, of the original, what `prepare` returned, and the decoded clip.
    """

    prepare: Callable[[Tensor], Any]
    compare: Callable[[Tensor, Any, Tensor], Figures]


@dataclass(frozen=True)
class Chosen:
    """What a run measures.

    Attributes:
        groups: the metrics, in the order of `METRICS`.
        measures: those of them that compare a clip with its original.
        absent: what was left out because something is missing, and what it needs.
    """

    groups: list[str]
    measures: list[Measure]
    absent: dict[str, str]


def choose(metrics: Sequence[str] | None, given: Mapping[str, Any], threads: int) -> Chosen:
    """Return what can be measured.

    Args:
        metrics: some of `METRICS`; None takes all that the others allow.
        given: what was given for the groups of `NEEDS`, None for nothing.
        threads: CPU threads of the F0 tracker.

    Raises:
        ConfigError: for unknown metrics, or one asked for by name without what it needs.
        MissingDependencyError: if a package is missing for a metric asked for by name.
    """
    if unknown := sorted(set(metrics or ()) - set(METRICS)):
        raise ConfigError(f"unknown metrics {unknown}; there are: {', '.join(METRICS)}")
    chosen = Chosen([], [], {})
    for group in METRICS if metrics is None else [group for group in METRICS if group in metrics]:
        if group in NEEDS and given.get(group) is None:
            if metrics is not None:
                raise ConfigError(f"the metric {group!r} needs {NEEDS[group]}")
            chosen.absent[group] = f"needs {NEEDS[group]}"
            continue
        found = 0
        for figure, make in _makers(group, given.get(group), threads).items():
            try:
                made = make()
            except MissingDependencyError as error:
                if metrics is not None:
                    raise
                chosen.absent[figure] = str(error)
                continue
            found += 1
            chosen.measures.extend([made] if isinstance(made, Measure) else [])
        chosen.groups.extend([group] if found else [])
    return chosen


def _makers(group: str, given: Any, threads: int) -> Mapping[str, Callable[[], Measure | None]]:
    """Return what makes the measures of a group, by the figure that is missing without it."""
    return {
        "signal": {"stoi, estoi": _intelligibility, "pesq_wb": _pesq, "mel_distance_db": _mel},
        "mos": {"mos": lambda: _mos(given)},
        "speakers": {"speakers": lambda: _speakers(given)},
        "pitch": {"pitch": lambda: _pitch(threads)},
        "words": {"words": _words},
        "codebooks": {"codebooks": lambda: None},
    }[group]


def _nothing(_: Tensor) -> None:
    return None


def _intelligibility() -> Measure:
    require("pystoi", "STOI")
    return Measure(_nothing, lambda original, _, decoded: {"stoi": stoi(original, decoded), "estoi": stoi(original, decoded, extended=True)})


def _pesq() -> Measure:
    require("pesq", "PESQ")
    return Measure(_nothing, lambda original, _, decoded: {"pesq_wb": pesq_wb(original, decoded)})


def _mel() -> Measure:
    return Measure(_nothing, lambda original, _, decoded: {"mel_distance_db": mel_distance(original, decoded)})


def _mos(judge: Dnsmos) -> Measure:
    return Measure(_nothing, lambda original, _, decoded: {"p808": judge.score(decoded)})


def _speakers(embedder: SpeakerEmbedder) -> Measure:
    def compare(original: Tensor, voice: Tensor | None, decoded: Tensor) -> Figures:
        return {"speaker_cosine": None if voice is None else float(voice @ embedder.embed(decoded))}

    return Measure(lambda original: embedder.embed(original) if len(original) else None, compare)


def _pitch(threads: int) -> Measure:
    load_tracker(threads)

    def compare(original: Tensor, f0: Tensor, decoded: Tensor) -> Figures:
        return asdict(compare_f0(f0, track_f0(decoded, threads=threads)))

    return Measure(lambda original: track_f0(original, threads=threads), compare)


def _words() -> None:
    require("jiwer", "error rates")
