"""The page itself: a template and what goes into it."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import missing_extra
from ..evaluate import Report
from ..evaluate.markdown import NOTES, figure_table, source_table, title_line
from ..files import replacing
from .players import Player
from .plots import TITLES, box_plots

TEMPLATE = Path(__file__).parent / "page.html.jinja"


def save_page(report: Report, path: str | os.PathLike[str], players: Sequence[Player] = ()) -> None:
    """Write a report as one HTML file that needs no other and no network.

    Args:
        report: what `evaluate` found.
        path: the file; an old one is replaced at once or not at all.
        players: clips to listen to, from `record_players`.

    Raises:
        MissingDependencyError: without the extra `[report]`.
    """
    try:
        import jinja2
    except ImportError as error:
        raise missing_extra("an HTML report", "report") from error
    summaries = report.summaries()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title_line(report.context, summaries),
        tables=[table for table in (figure_table(summaries), source_table(summaries)) if table],
        absent=report.context["absent"],
        notes=[line.removeprefix("- ") for line in NOTES.splitlines()],
        pictures=box_plots(report),
        players=players,
        titles=TITLES,
    )
    with replacing(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")
