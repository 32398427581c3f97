"""Where featherweight keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from featherweight.errors import UsageError

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """Return the folder of decoded pictures: $FEATHERWEIGHT_HOME or ~/.cache/featherweight.

    Raises:
        UsageError: the user has no home, or the variable names one of nobody.
    """
    home = os.environ.get("FEATHERWEIGHT_HOME")
    try:
        folder = Path(home).expanduser() if home else Path.home() / ".cache" / "featherweight"
    except RuntimeError as error:
        raise UsageError(
            f"FEATHERWEIGHT_HOME is {home!r}, a home that does not exist"
            if home
            else "there is no home folder to keep decoded pictures in",
            hint="set FEATHERWEIGHT_HOME=FOLDER",
        ) from error
    return folder / "pixels"
