"""What the ways of `adapt` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from featherweight.adapting.step_watch import StepWatch
from featherweight.adapting.ways import _LOOKS, _largest_that_fits
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS


@pytest.mark.parametrize("fixed", [0.0, 0.3, 0.6])
def test_the_largest_that_fits_is_found_where_milliseconds_are_not_multiply_adds(
    fixed: float,
) -> None:
    parent = MODELS["mobilenet_v2"].build(width=0.5, resolution=224, classes=5)
    row = [parent.at_resolution(size) for size in range(32, 224, 8)]
    whole = profile(parent).macs or 1

    def ms(network: Architecture) -> float:
        return fixed + (1.0 - fixed) * (profile(network).macs or 0) / whole

    looks = []

    def clock(networks: Sequence[Architecture]) -> list[Latency]:
        looks.extend(networks)
        return [Latency(median_ms=ms(one), interval_ms=(ms(one), ms(one))) for one in networks]

    for target in (0.35, 0.62, 0.7, 0.95):
        means = SimpleNamespace(
            network=SimpleNamespace(architecture=parent),
            start=Latency(median_ms=1.0, interval_ms=(1.0, 1.0)),
            target_ms=target,
            time=lambda network: clock([network])[0],
        )
        looks.clear()
        found = _largest_that_fits(means, row)  # type: ignore[arg-type]
        fitting = [one for one in row if ms(one) <= target]
        assert len(looks) <= _LOOKS
        if not fitting:
            assert found is None
            continue
        assert found is not None
        assert row.index(found.architecture) >= row.index(fitting[-1]) - 1


def test_late_steps_are_fewer_and_larger_at_the_pace_so_far() -> None:
    gone, made = [0.0], [0]
    watch = StepWatch(100.0, seconds=lambda: gone[0], steps=lambda: made[0])
    assert watch.steps_left() == float("inf"), "nothing has shown the pace"
    gone, made = [40.0], [2]
    assert watch.steps_left() == pytest.approx(3.0)
    gone = [120.0]
    assert watch.steps_left() == 0.0
    assert not watch.is_over()
    gone = [151.0]
    assert watch.is_over()
    free = StepWatch(seconds=lambda: 1e9, steps=lambda: 5)
    assert free.steps_left() == float("inf")
    assert not free.is_over()
