"""Import an optional library, or say how to install it."""

from __future__ import annotations

import importlib
from types import ModuleType

from featherweight.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, which the extra `extra` of featherweight installs.

    Raises:
        MissingDependencyError: the library is absent; the hint is the pip line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs the Python package {module!r}, which is not installed",
            hint=f"pip install 'featherweight[{extra}]'",
        ) from error
