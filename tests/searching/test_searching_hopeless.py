"""A training is stopped where it lies surely below all that became good."""

from __future__ import annotations

import numpy as np
import pytest

from featherweight.searching.hopeless import (
    LEAST_CURVES,
    Curve,
    foretell_end,
    hopeless_below,
)


def _curve(end: float) -> Curve:
    return [(share, end * (1.0 - 0.5 * (1.0 - share))) for share in (0.25, 0.5, 0.75, 1.0)]


def test_few_trainings_stop_none() -> None:
    curves = [_curve(0.8)] * (LEAST_CURVES - 1)
    assert hopeless_below(curves, pictures=10**9) == ()
    assert hopeless_below([*curves, _curve(0.8)], pictures=10**9)


def test_the_worst_of_the_better_half_tells() -> None:
    ends = np.linspace(0.3, 0.75, 10)
    floors = dict(hopeless_below([_curve(float(end)) for end in ends], pictures=10**9))
    middle = _curve(float(ends[5]))  # the worst of five that are better than the median
    assert floors[0.5] == pytest.approx(dict(middle)[0.5], abs=1e-3)
    assert min(floors) >= 0.25
    assert floors[max(floors)] == 0.0, "near its end no training is stopped"
    # Two standard errors of 100 pictures are left open.
    few = dict(hopeless_below([_curve(float(end)) for end in ends], pictures=100))
    error = np.sqrt(floors[0.5] * (1 - floors[0.5]) / 100)
    assert floors[0.5] - few[0.5] == pytest.approx(2 * error, rel=1e-3)


def test_one_validation_at_the_end_says_little_about_the_way() -> None:
    """Learning curves bend the other way: a straight line from nothing never lies above them."""
    curves: list[Curve] = [[(1.0, 0.8)]] * LEAST_CURVES
    assert dict(hopeless_below(curves, pictures=10**9))[0.5] == pytest.approx(0.4, abs=1e-3)


def test_the_end_is_foretold_by_what_the_others_gained() -> None:
    curves = [_curve(0.8)] * 5 + [_curve(0.6)] * 6
    assert foretell_end(curves, share=0.5, accuracy=0.2) == pytest.approx(0.2 + 0.6 * 0.25)
    assert foretell_end(curves, share=0.5, accuracy=0.99) == 1.0
