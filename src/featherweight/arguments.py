"""What people pass to public functions, checked once: paths and seeds."""

from __future__ import annotations

import os
from pathlib import Path

from featherweight.errors import UsageError

__all__ = ["LARGEST_SEED", "check_seed", "home_folder", "optional_path", "to_data", "to_path"]

LARGEST_SEED = 2**63 - 1
"""What NumPy, torch and every file of a run can hold."""


def to_path(given: str | os.PathLike[str], *, name: str) -> Path:
    """Return a path as people write it, with `~` and `~user` resolved.

    Args:
        given: text or path.
        name: of the argument, for the message.

    Raises:
        UsageError: something else was given (an array, a network), or no such user or home.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(
            f"{name} is a {type(given).__module__}.{type(given).__qualname__}, not a path",
            allowed="a str or a pathlib.Path",
        )
    path = Path(given)
    if "\0" in str(path):
        raise UsageError(f"{name} {str(path)!r} is no path: it has a zero byte")
    if not str(path).startswith("~"):
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        user = path.parts[0].removeprefix("~")
        raise UsageError(
            f"{name} {str(path)!r} is in the home directory of {user or 'a user without one'}, "
            "which cannot be found",
            hint=f"for a folder of that name write ./{path}",
        ) from error


def to_data(given: str | os.PathLike[str]) -> str:
    """Return what names a data set: a path as text, or `demo`.

    `./demo` stays as it is: a folder of that name is not the bundled pictures.

    Raises:
        UsageError: see `to_path`.
    """
    path = to_path(given, name="data")
    return str(path) if str(given).startswith("~") else str(given)


def optional_path(given: str | os.PathLike[str] | None, *, name: str) -> Path | None:
    """Return `None` for `None`, else `to_path`."""
    return None if given is None else to_path(given, name=name)


def home_folder(below: str) -> Path:
    """Return a folder of this user's home directory.

    Args:
        below: its path there, such as `.cache/featherweight`.

    Raises:
        UsageError: this user has no home directory.
    """
    try:
        return Path.home() / below
    except RuntimeError as error:
        raise UsageError(
            f"this user has no home directory for {below}",
            hint="set HOME, or FEATHERWEIGHT_HOME to a folder of featherweight's own",
        ) from error


def check_seed(seed: int) -> int:
    """Return `seed`, if everything that draws can take it.

    Raises:
        UsageError: no whole number, or out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"cannot use the seed {seed!r}", allowed=f"0 to {LARGEST_SEED}")
    return seed
