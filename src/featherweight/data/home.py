"""Where featherweight keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_directory"]


def cache_directory() -> Path:
    """Return the folder of decoded pictures: $FEATHERWEIGHT_HOME or ~/.cache/featherweight."""
    home = os.environ.get("FEATHERWEIGHT_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "featherweight") / "pixels"
