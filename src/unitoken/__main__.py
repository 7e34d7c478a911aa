"""The command `unitoken`, also as `python -m unitoken`."""

import sys
from importlib.util import find_spec
from typing import NoReturn

from .errors import missing_extra


def main() -> NoReturn:
    """Run the command line; without the extra `cli`, say what to install and exit with 2.

    Raises:
        SystemExit: always, with the exit code of the command.
    """
    if any(find_spec(package) is None for package in ("typer", "rich")):
        sys.stderr.write(f"{missing_extra('the command line', 'cli')}\n")
        sys.exit(2)
    from .cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
