"""The command line (extra `[cli]`): one module for each group of commands, put together here.

Results go to stdout, messages and progress to stderr. Exit codes: 0 all done, 1 something failed, 2 wrong usage, nothing done.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .._version import __version__
from ..errors import UnitokenError
from . import corpus, corpus_sets, evaluate, export, files, numerics, probe, show, train
from .messages import UsageError, one_line

__all__ = ["app", "main"]


class _Group(TyperGroup):
    """Turns the errors that unitoken raises on purpose into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of stdout went away; typer ends quietly
            raise
        except (UnitokenError, OSError) as error:
            typer.echo(f"unitoken: {one_line(error)}", err=True)
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error


app = typer.Typer(cls=_Group, name="unitoken", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unitoken {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Speech to global, semantic and residual tokens at a low bitrate, and back."""


app.command()(files.encode)
app.command()(files.decode)
app.command()(files.convert)
app.command()(show.info)
app.command()(show.models)
app.command()(evaluate.evaluate)
app.command("verify-numerics")(numerics.verify)
for command in (corpus_sets.decode, corpus_sets.export, corpus_sets.merge, corpus_sets.diff):
    corpus.app.command()(command)
corpus.app.command("filter")(corpus_sets.filter_)
app.add_typer(corpus.app, name="corpus")
app.add_typer(export.app, name="export")
app.add_typer(probe.app, name="probe")
app.add_typer(train.app, name="train")


def main() -> int:
    """Run the command line on `sys.argv`.

    Returns:
        0; every other exit code is raised.

    Raises:
        SystemExit: with the exit code of the command.
    """
    app(prog_name="unitoken")
    return 0
