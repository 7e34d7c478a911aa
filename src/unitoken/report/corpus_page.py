"""A page about a corpus: hours, lengths, and how its tokens are spread."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..corpus import Corpus
from ..corpus.statistics import Statistics
from ..errors import missing_extra
from ..files import replacing

TEMPLATE = Path(__file__).parent / "corpus.html.jinja"
NAMES = {"g": "global", "s": "semantic", "p": "residual"}


def save_corpus_page(corpus: Corpus, found: Statistics, path: str | os.PathLike[str]) -> None:
    """Write what a corpus is made of as one HTML file that needs no other and no network.

    Args:
        corpus: what was counted.
        found: what `statistics_of` found.
        path: the file; an old one is replaced at once or not at all.

    Raises:
        MissingDependencyError: without the extra `[report]`.
    """
    try:
        import jinja2
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("an HTML report", "report") from error

    def drawn(draw: Any) -> str:
        with mpl.rc_context({"svg.hashsalt": "unitoken", "svg.fonttype": "none"}):  # the same corpus gives the same picture
            canvas: Any = Figure(figsize=(9, 3), layout="constrained")
            draw(canvas.subplots())
            file = io.StringIO()
            canvas.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()[file.getvalue().index("<svg") :]

    def lengths(axes: Any) -> None:
        axes.hist(found.lengths, bins=60, weights=found.lengths / 3600)
        axes.set(xlabel="length of an utterance, s", ylabel="hours")

    def use(name: str) -> Any:
        def draw(axes: Any) -> None:
            for book, counts in enumerate(found.streams[name].counts):
                order = np.sort(counts)[::-1]
                axes.plot(np.arange(1, len(order) + 1), order / max(1, order.sum()), color=f"C{book % 10}", linewidth=1)
            axes.set(xscale="log", yscale="log", xlabel="codewords, most frequent first", ylabel="share of the tokens")

        return draw

    pictures = {"Lengths": drawn(lengths)} | {f"Tokens of {name} ({NAMES[name]})": drawn(use(name)) for name in found.streams}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(found=found, info=corpus.info, names=NAMES, pictures=pictures)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
