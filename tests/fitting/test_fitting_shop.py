"""Shopping: the largest network within the budget is found in few measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from fakes import PHOTOS, SMALL, FakeMachine

from featherweight.budget import Budget
from featherweight.errors import UnsupportedError, UsageError
from featherweight.fitting.candidate import Candidate, Measured
from featherweight.fitting.families import families
from featherweight.fitting.family import Family
from featherweight.fitting.policy import DEFAULT_POLICY
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.stages.shop import ShopResult, find_fitting
from featherweight.fitting.stages.size import SizeSelector
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring.bench import Bench, Untrained
from featherweight.measuring.measurement import Measurement

MARGIN = 0.94
SAMPLES = SamplePlan(glance=10, confirm=10, prove=10, margin=MARGIN)
POLICY = DEFAULT_POLICY.shop


def bench(machine: FakeMachine, folder: Path) -> Bench[Candidate]:
    return Bench(machine, folder=folder, samples=SAMPLES, purpose="shop")


def find(
    listed: Sequence[Family], machine: FakeMachine, *, budget_ms: float, folder: Path
) -> ShopResult:
    return find_fitting(
        listed,
        precisions=("fp32", "int8"),
        budget_ms=budget_ms,
        bench=bench(machine, folder),
        policy=POLICY,
    )


def listed_for(what: object, **settings: str) -> tuple[Family, ...]:
    return families(what, FitSettings(data="d", latency_ms=1, platform="p", **settings))  # type: ignore[arg-type]


def kept_of(found: ShopResult) -> list[Measured]:
    return [one for one, _ in found.kept]


@pytest.mark.parametrize("budget_ms", [0.4, 1.0, 5.0])
def test_finds_the_largest_width(budget_ms: float, tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    (family,) = listed_for(SMALL, model="convnet")
    (kept,) = kept_of(find([family], machine, budget_ms=budget_ms, folder=tmp_path))
    assert kept.candidate.precision == "int8"
    fitting = [
        size
        for size in family.sizes
        if machine.latency_ms(family.build(size), "int8") <= MARGIN * budget_ms
    ]
    assert kept.candidate.size == fitting[-1]


def test_keeps_the_precision_that_fits_more(tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=60.0, int8_gmacs=30.0)
    kept = kept_of(find(listed_for(SMALL), machine, budget_ms=1.0, folder=tmp_path))
    names = {one.candidate.family.name for one in kept}
    assert names == {"convnet", "resnet", "mobilenet_v2"}
    assert {one.candidate.precision for one in kept} == {"fp32"}


def test_photographs_are_sized_by_resolution(tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.5, fp32_gmacs=20.0, int8_gmacs=35.0)
    listed = listed_for(PHOTOS)
    assert [family.name for family in listed] == ["efficientnet_lite0"]
    assert listed[0].source == "auto"
    (kept,) = kept_of(find(listed, machine, budget_ms=4.0, folder=tmp_path))
    assert kept.candidate.precision == "int8"
    assert kept.candidate.resolution % 8 == 0
    assert 0.85 * 4.0 < kept.latency.median_ms <= MARGIN * 4.0


def test_infeasible_budget_names_the_nearest_after_one_look(tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.2, fp32_gmacs=30.0, int8_gmacs=60.0)
    listed = listed_for(SMALL)
    found = find(listed, machine, budget_ms=0.1, folder=tmp_path)
    assert not found.kept
    assert machine.measured == 2 * len(listed)
    cheapest = min(
        machine.latency_ms(family.build(family.sizes[0]), precision)
        for family in listed
        for precision in ("fp32", "int8")
    )
    assert found.nearest_feasible_ms == pytest.approx(cheapest)


def test_every_rejected_candidate_has_a_reason(tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    found = find(listed_for(SMALL), machine, budget_ms=1.0, folder=tmp_path)
    assert found.rejected
    assert all(one.reason for one in found.rejected)
    assert not {one.measured.candidate for one in found.rejected} & {*map(_candidate, found.kept)}


def _candidate(kept: tuple[Measured, str]) -> Candidate:
    return kept[0].candidate


def test_named_model_keeps_its_settings() -> None:
    (family,) = listed_for(PHOTOS, model="mobilenet_v2:width=0.5", pretrained="none")
    assert family.axis == "resolution"
    assert family.build(96.0).resolution == 96
    assert family.label(96.0) == "mobilenet_v2:width=0.5,resolution=96"
    assert family.build(96.0).num_classes == 10


def test_fixed_resolution_is_kept() -> None:
    (family,) = listed_for(PHOTOS, model="mobilenet_v2:resolution=160", pretrained="none")
    assert family.sizes == (160.0,)
    assert family.label(160.0) == "mobilenet_v2:resolution=160"


@pytest.mark.parametrize(("width", "unsliced"), [("1.0", True), ("0.75", False)])
def test_weights_are_known_to_be_sliced_for_a_width(
    width: str, unsliced: bool, tmp_path: Path
) -> None:
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "v3.pth")
    (family,) = listed_for(
        PHOTOS, model=f"mobilenet_v3_small:width={width}", pretrained=str(tmp_path / "v3.pth")
    )
    assert family.weights_unsliced is unsliced


def test_weights_need_a_model() -> None:
    with pytest.raises(UsageError, match="--model"):
        listed_for(PHOTOS, pretrained="file.pth")


def selector(machine: FakeMachine, *, budget_ms: float, folder: Path) -> SizeSelector:
    return SizeSelector(
        lambda: bench(machine, folder),
        budget=Budget(latency_ms=budget_ms),
        processes=3,
        policy=DEFAULT_POLICY.size,
    )


@pytest.mark.parametrize("slower", [0.5, 0.9, 1.0, 1.15, 2.0])
def test_the_size_follows_a_host_that_changed(slower: float, tmp_path: Path) -> None:
    """What just fitted while shopping must not be trained when the machine is slower now."""
    (family,) = listed_for(SMALL, model="convnet")
    before = FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    (kept,) = kept_of(find([family], before, budget_ms=1.0, folder=tmp_path))
    now = FakeMachine(fixed_ms=0.1 * slower, fp32_gmacs=30 / slower, int8_gmacs=60 / slower)
    found = selector(now, budget_ms=1.0, folder=tmp_path).among_neighbours(kept.candidate)
    fitting = [s for s in family.sizes if now.latency_ms(family.build(s), "int8") <= MARGIN]
    assert found.candidate.size == fitting[-1]
    expected_ms = now.latency_ms(found.candidate.architecture, "int8")
    assert found.latency.median_ms == pytest.approx(expected_ms)


def test_a_size_that_is_over_the_budget_in_slow_moments_is_not_chosen(tmp_path: Path) -> None:
    """Every third process is a quarter slower."""
    (family,) = listed_for(SMALL, model="convnet")
    machine = FakeMachine(
        fixed_ms=0.1,
        fp32_gmacs=135.0,
        int8_gmacs=270.0,
        slower=lambda process, _: 1.25 if process % 3 == 0 else 1.0,
    )
    start = Candidate(family, 1.0, "int8")
    found = selector(machine, budget_ms=1.0, folder=tmp_path).among_neighbours(start)
    fitting = [
        size for size in family.sizes if 1.25 * machine.latency_ms(family.build(size), "int8") <= 1
    ]
    assert found.candidate.size == fitting[-1]


def test_nothing_fits_gives_the_smallest_considered(tmp_path: Path) -> None:
    (family,) = listed_for(SMALL, model="convnet")
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    start = Candidate(family, 0.25, "int8")
    found = selector(machine, budget_ms=0.01, folder=tmp_path).among_neighbours(start)
    assert found.candidate.size == family.sizes[0]


def crowded(_: int, files: int) -> float:
    """A file that is timed among others takes half as long again."""
    return 1.5 if files > 1 else 1.0


def startled(process: int, _: int) -> float:
    """Its second process meets a slow moment."""
    return 1.5 if process == 2 else 1.0


def tired(process: int, _: int) -> float:
    """It meets a slow spell after its first process."""
    return 1.5 if process > 1 else 1.0


@pytest.mark.parametrize("start", [64.0, 96.0, 152.0, 216.0])
@pytest.mark.parametrize("gmacs", [30.0, 80.0, 270.0])
def test_what_ships_is_timed_alone_and_found_from_anywhere(
    start: float, gmacs: float, tmp_path: Path
) -> None:
    """A network that was shopped for in a slow moment must not ship at half of its budget."""
    (family,) = listed_for(PHOTOS)
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=gmacs / 2, int8_gmacs=gmacs, slower=crowded)
    found = selector(machine, budget_ms=1.0, folder=tmp_path).largest_alone(
        Candidate(family, start, "int8"), most=216.0
    )
    usual = [
        size
        for size in family.sizes
        if size <= 216.0 and machine.latency_ms(family.build(size), "int8") <= 1.0
    ]
    assert found.candidate.size == max(usual, default=family.sizes[0])
    assert machine.processes <= 7


RATES = {"fixed_ms": 0.1, "fp32_gmacs": 40.0, "int8_gmacs": 80.0}


def test_one_slow_moment_is_not_believed(tmp_path: Path) -> None:
    (family,) = listed_for(PHOTOS)
    start = Candidate(family, 64.0, "int8")
    found = [
        selector(machine, budget_ms=1.0, folder=tmp_path)
        .largest_alone(start, most=216.0)
        .candidate.size
        for machine in (FakeMachine(**RATES), FakeMachine(**RATES, slower=startled))
    ]
    assert found[0] == found[1] > 64.0


def test_before_a_proof_the_fastest_moment_of_a_smaller_size_counts(tmp_path: Path) -> None:
    """A spell of slow moments must not decide what ships; the proof does."""
    (family,) = listed_for(PHOTOS)
    start = Candidate(family, 64.0, "int8")

    def chosen(machine: FakeMachine, *, from_smaller: bool) -> float:
        found = selector(machine, budget_ms=1.0, folder=tmp_path).largest_alone(
            start, most=216.0, from_smaller=from_smaller
        )
        return found.candidate.size

    usual = chosen(FakeMachine(**RATES), from_smaller=True)
    assert usual == chosen(FakeMachine(**RATES), from_smaller=False)
    weary = FakeMachine(**RATES, slower=tired)
    found = chosen(weary, from_smaller=True)
    assert 64.0 < found <= usual
    assert weary.processes == 3, "a size that fits by a smaller one is not timed again"
    assert chosen(FakeMachine(**RATES, slower=tired), from_smaller=False) < found


@pytest.mark.parametrize("start", [64.0, 216.0])
def test_when_its_time_is_over_the_largest_known_size_is_taken(
    start: float, tmp_path: Path
) -> None:
    """The search goes on only where nothing fits yet; what ships was measured in any case."""
    (family,) = listed_for(PHOTOS)
    machine = FakeMachine(**RATES)
    found = selector(machine, budget_ms=1.0, folder=tmp_path).largest_alone(
        Candidate(family, start, "int8"), most=216.0, within_s=0.0
    )
    assert found.latency.median_ms <= 1.0
    assert machine.processes == (1 if start == 64.0 else 2)


def test_when_its_time_is_over_shopping_ends_after_the_second_look(tmp_path: Path) -> None:
    machine = FakeMachine(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    found = find_fitting(
        listed_for(SMALL),
        precisions=("fp32", "int8"),
        budget_ms=1.0,
        bench=bench(machine, tmp_path),
        policy=POLICY,
        is_over=lambda: True,
    )
    assert machine.processes == 2
    assert len(found.kept) >= 3


def test_a_precision_that_is_far_slower_is_looked_at_once(tmp_path: Path) -> None:
    listed = listed_for(SMALL)
    machine = FakeMachine(fixed_ms=0.0001, fp32_gmacs=30.0, int8_gmacs=60.0)
    found = find(listed, machine, budget_ms=1.0, folder=tmp_path)
    seen = [one.measured.candidate for one in found.rejected] + [*map(_candidate, found.kept)]
    sizes = {one.size for one in seen if one.precision == "fp32"}
    assert sizes == {family.sizes[0] for family in listed}


def test_a_short_fit_keeps_more_margin() -> None:
    short, long = (
        SamplePlan.of(FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s))
        for time_s in (60.0, 1800.0)
    )
    assert short.margin < long.margin <= 0.95
    assert short.prove < long.prove


def test_a_precision_that_the_runtime_cannot_hold_is_left_out(tmp_path: Path) -> None:
    class WithoutInt8(FakeMachine):
        def __call__(
            self, wanted: Sequence[Untrained], folder: Path, samples: int
        ) -> list[Measurement]:
            if any(one.precision == "int8" for one in wanted):
                raise UnsupportedError("int8 of a detector for litert", allowed="fp32")
            return super().__call__(wanted, folder, samples)

    machine = WithoutInt8(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    (family,) = listed_for(SMALL, model="convnet")
    (kept,) = kept_of(find([family], machine, budget_ms=1.0, folder=tmp_path))
    assert kept.candidate.precision == "fp32"
    with pytest.raises(UnsupportedError, match="int8 of a detector for litert"):
        find_fitting(
            [family],
            precisions=("int8",),
            budget_ms=1.0,
            bench=bench(machine, tmp_path),
            policy=POLICY,
        )
