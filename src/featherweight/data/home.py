"""Where featherweight keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from featherweight.arguments import home_folder, to_path

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """Return the folder of decoded pictures: $FEATHERWEIGHT_HOME or ~/.cache/featherweight.

    Raises:
        UsageError: this user has no home directory, and the variable is not set.
    """
    home = os.environ.get("FEATHERWEIGHT_HOME")
    if home:
        return to_path(home, name="FEATHERWEIGHT_HOME") / "pixels"
    return home_folder(".cache/featherweight") / "pixels"
