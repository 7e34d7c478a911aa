"""The one door to the packages of the extra `[evaluate]`."""

import importlib
from typing import Any

from ..errors import missing_extra


def require(module: str, feature: str) -> Any:
    """Import and return a package of the extra `[evaluate]`.

    Args:
        module: the import name.
        feature: what needs it, for the error text.

    Raises:
        MissingDependencyError: if it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_extra(feature, "evaluate") from error
