"""Cases of a test of which only some are run each time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

__all__ = ["often"]


def often(cases: Iterable[Any], chosen: Collection[Any]) -> list[Any]:
    """Return all cases for `parametrize`; those not chosen are slow tests. Tuples are unpacked."""
    cases = list(cases)
    missing = [one for one in chosen if one not in cases]
    assert not missing, f"no such cases: {missing}"
    return [
        one
        if one in chosen
        else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
        for one in cases
    ]
