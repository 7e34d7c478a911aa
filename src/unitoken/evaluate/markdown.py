"""The report as Markdown: one table of figures, words by source, what was left out, and what each column means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .confidence import Interval

CLEAN_SOURCE = "librispeech"
"""The source whose word error rate has a column of its own: the recogniser's own errors are fewest there."""

Summary = dict[str, Any]


@dataclass(frozen=True)
class _Column:
    title: str
    get: Callable[[Summary], float | None]
    digits: int


def _figure(key: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary[key]


def _part(key: str, part: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary[key].get(part)


def _codebook(stream: str, figure: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary["codebooks"].get(stream, {}).get(figure)


def _code_columns(stream: str) -> list[_Column]:
    letter = stream.upper()
    return [
        _Column(f"{letter} used", _codebook(stream, "used"), 0),
        _Column(f"{letter} perplexity", _codebook(stream, "perplexity"), 0),
        _Column(f"{letter} of codebook", _codebook(stream, "fraction"), 3),
    ]


COLUMNS = [
    _Column("b/s", _figure("bitrate_bps"), 0),
    _Column("+ bits a clip", lambda summary: summary["global_bits_per_clip"] or None, 0),
    _Column("STOI", _figure("stoi"), 3),
    _Column("ESTOI", _figure("estoi"), 3),
    _Column("PESQ-WB", _figure("pesq_wb"), 2),
    _Column("mel dB", _figure("mel_distance_db"), 2),
    _Column("P.808", _figure("p808"), 2),
    _Column("F0 corr", _figure("f0_correlation"), 3),
    _Column("V/UV err", _figure("vuv_error"), 3),
    _Column("F0 gross err", _figure("gross_pitch_error"), 3),
    _Column("speaker cos", _figure("speaker_cosine"), 3),
    _Column(f"WER {CLEAN_SOURCE}", _part("wer", CLEAN_SOURCE), 3),
    _Column("WER", _part("wer", "all"), 3),
    _Column("self-CER", _part("self_cer", "all"), 3),
    _Column("S moved", _figure("s_moved"), 3),
    _Column("P moved", _figure("p_moved"), 3),
    *_code_columns("s"),
    *_code_columns("p"),
    _Column("encode xRT", _figure("encode_xrt"), 0),
    _Column("decode xRT", _figure("decode_xrt"), 0),
]

WORD_TITLES = {"wer": "WER", "self_cer": "self-CER"}

REASONS = {
    "stoi": "less than about 0.4 s of speech",
    "estoi": "less than about 0.4 s of speech",
    "pesq_wb": "no utterance found, or longer than 20 s",
    "mel_distance_db": "no samples",
    "p808": "no samples, or digital silence",
    "f0_correlation": "fewer than 10 frames voiced in both, or an F0 that does not vary",
    "vuv_error": "no samples",
    "gross_pitch_error": "fewer than 10 frames voiced in both",
    "speaker_cosine": "no samples",
    "s_moved": "no samples",
    "p_moved": "no samples",
    "wer": "no transcript, or a language that is not transcribed",
    "self_cer": "no words heard in the original, or a language that is not transcribed",
}

NOTES = """\
- b/s: bits of the time-varying streams over seconds of audio; global tokens are sent once a clip and come on top (+ bits a clip).
- P.808: the opinion score that DNSMOS foretells, 1 to 5; the only figure that does not hear the original.
- mel dB: mean absolute difference of 80-band log-mel spectrograms. F0: swift-f0, 60-500 Hz; correlation of log F0 where both are voiced; \
V/UV err: share of frames voiced in one only; gross err: off by more than 20 %. Means over clips.
- WER: against the manifest's transcript. self-CER: against what the recogniser hears in the original. Each reference word or character \
counts as wrong at most once a clip; sums of errors over sums of lengths.
- How sure: 95 % of draws of as many clips, with replacement, the same for all codecs. Where a difference lies on both sides of 0, other clips \
might turn it round.
- Texts are compared in NFKC, lower case, without punctuation save apostrophes inside words, single spaces, digits as they are.
- moved: unit edit distance of a changed clip's tokens to the clip's own, runs of a token counted once: 0 for the same, about 1 for others. \
All other figures of a changed clip are against the clip as it was, level and time of what was decoded set back.
- S, P, used: different tokens seen, perplexity of their distribution, and that over the codebook size.
- xRT: seconds of audio for each second of wall time, the codec given one clip at a time, after a first clip that is \
not counted; with several jobs they share the machine."""


def render(context: dict[str, Any], summaries: Sequence[Summary], confidence: Mapping[str, Mapping[str, Interval]], base: str) -> str:
    """Return the whole report as Markdown; columns that nothing fills are left out.

    Args:
        context: what `Report.context` holds.
        summaries: what `Report.summaries` returns.
        confidence: what `Report.confidence` returns.
        base: the codec that others are compared with.
    """
    sections = [
        "# Evaluation",
        title_line(context, summaries),
        lay_out(figure_table(summaries)),
        "## Words by source\n\n" + lay_out(sources) if (sources := source_table(summaries)) else "",
        _how_sure(summaries, confidence, base),
        _left_out(summaries),
        _absent(context["absent"]),
        "## What the columns mean",
        NOTES,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def title_line(context: dict[str, Any], summaries: Sequence[Summary]) -> str:
    """Return what was measured, with what, in a line."""
    jobs = f", {context['jobs']} clips at a time" if context["jobs"] > 1 else ""
    return (
        f"{context['clips']} clips, {summaries[0]['seconds']:.0f} s, of {', '.join(context['sources'])}. Recogniser: {context['asr']}. "
        f"unitoken {context['unitoken']}, torch {context['torch']} with {context['torch_threads']} threads, {context['machine']}{jobs}."
    )


def figure_table(summaries: Sequence[Summary]) -> list[list[str]]:
    """Return the cells of the table of figures, its header first, one row a codec."""
    columns = [column for column in COLUMNS if any(column.get(summary) is not None for summary in summaries)]
    body = [[summary["codec"], *(number(column.get(summary), column.digits) for column in columns)] for summary in summaries]
    return [["codec", *(column.title for column in columns)], *body]


def source_table(summaries: Sequence[Summary]) -> list[list[str]]:
    """Return the cells of the table of words by source, its header first; none where no words were measured."""
    keys = [(figure, source) for figure in ("wer", "self_cer") for source in sorted({s for summary in summaries for s in summary[figure]} - {"all"})]
    if not keys:
        return []
    body = [[summary["codec"], *(number(summary[figure].get(source), 3) for figure, source in keys)] for summary in summaries]
    return [["codec", *(f"{WORD_TITLES[figure]} {source}" for figure, source in keys)], *body]


def _how_sure(summaries: Sequence[Summary], confidence: Mapping[str, Mapping[str, Interval]], base: str) -> str:
    if not confidence:
        return ""
    columns = [(figure, part) for figure in confidence for part in ("rate", "difference")]
    titles = [WORD_TITLES[figure] if part == "rate" else f"{WORD_TITLES[figure]} less that of {base}" for figure, part in columns]
    names = [summary["codec"] for summary in summaries]
    body = [[name, *(_between(getattr(confidence[figure][name], part), signed=part == "difference") for figure, part in columns)] for name in names]
    return "## How sure the words are\n\n" + lay_out([["codec", *titles], *body])


def _between(ends: tuple[float, float] | None, *, signed: bool) -> str:
    return "-" if ends is None else " to ".join(f"{end:+.3f}" if signed else f"{end:.3f}" for end in ends)


def _left_out(summaries: Sequence[Summary]) -> str:
    groups: dict[tuple[str, int, int], list[str]] = {}
    for summary in summaries:
        for figure, count in summary["left_out"].items():
            if count:
                groups.setdefault((figure, count, summary["measured"][figure]), []).append(summary["codec"])
    if not groups:
        return "Every figure rests on every clip."
    body = [
        [figure, "all" if len(codecs) == len(summaries) else ", ".join(codecs), REASONS[figure], str(count), str(measured)]
        for (figure, count, measured), codecs in groups.items()
    ]
    return "## Clips left out\n\n" + lay_out([["figure", "codecs", "because", "left out", "measured"], *body], text=3)


def _absent(absent: dict[str, str]) -> str:
    return "## Not measured\n\n" + "\n".join(f"- {figure}: {reason}" for figure, reason in absent.items()) if absent else ""


def number(value: float | None, digits: int) -> str:
    """Return a figure as text; None is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def lay_out(cells: Sequence[Sequence[str]], text: int = 1) -> str:
    """Lay out a table whose first row is its header; the first `text` columns hold words, the others numbers."""
    header, *body = cells
    rows = [header, ["---" if index < text else "---:" for index in range(len(header))], *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
