"""Shopping: the largest network within the budget is found in few measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from featherweight.architecture import Architecture
from featherweight.devices.device import DeviceInfo
from featherweight.errors import UsageError
from featherweight.fitting.families import Family, families
from featherweight.fitting.look import Look
from featherweight.fitting.settings import FitSettings
from featherweight.fitting.shop import Shopper, shop
from featherweight.fitting.sizing import Sizer
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring.measurement import Measurement
from featherweight.profiling.profile import profile

MARGIN = 0.94
INFO = DeviceInfo(cpu="fake", cores=1, memory_bytes=None, os="fake", arch="fake", governor=None)
SMALL = Look(
    images={"train": 100, "val": 10, "test": 10}, classes=10, typical_size=32, small=True,
    resolution=32, weights=(), foreign_cpu_share=0.0, uneven=1.0,
)  # fmt: skip
PHOTOS = SMALL.model_copy(
    update={"small": False, "resolution": 320, "weights": ("efficientnet_lite0",)}
)


class FakeDevice:
    """Takes `fixed + macs * slope` milliseconds; int8 has its own slope."""

    def __init__(self, *, fixed_ms: float, fp32_gmacs: float, int8_gmacs: float) -> None:
        self.fixed_ms = fixed_ms
        self.gmacs = {"fp32": fp32_gmacs, "int8": int8_gmacs}
        self.measured = 0
        self.processes = 0

    def latency_ms(self, architecture: Architecture, precision: str) -> float:
        macs = profile(architecture).macs
        assert macs is not None
        return self.fixed_ms + macs / self.gmacs[precision] / 1e6

    def __call__(
        self, wanted: Sequence[tuple[str, Architecture, str]], folder: Path, samples: int
    ) -> list[Measurement]:
        self.measured += len(wanted)
        self.processes += 1
        return [
            Measurement(
                network=label,
                platform=f"local/fake:threads=1,precision={precision}",
                device_info=INFO,
                runtime_version="0",
                artifact_sha256="0",
                samples_ms=tuple(self.latency_ms(architecture, precision) * np.ones(10)),
                warm_up_runs=1,
                started="2026-01-01T00:00:00+00:00",
            )
            for label, architecture, precision in wanted
        ]


def go_shopping(
    stalls: Sequence[Family], device: FakeDevice, *, budget_ms: float, tmp_path: Path
) -> tuple[Shopper, object]:
    shopper = Shopper(
        device, folder=tmp_path, runtime="fake",
        samples=SamplePlan(glance=10, confirm=10, prove=10, margin=MARGIN),
    )  # fmt: skip
    return shopper, shop(stalls, precisions=("fp32", "int8"), budget_ms=budget_ms, shopper=shopper)


@pytest.mark.parametrize("budget_ms", [0.4, 1.0, 5.0])
def test_finds_the_largest_width(budget_ms: float, tmp_path: Path) -> None:
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    (family,) = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    _, stock = go_shopping([family], device, budget_ms=budget_ms, tmp_path=tmp_path)
    kept = [c for c in stock.candidates if c.status == "kept"]  # type: ignore[attr-defined]
    assert [c.precision for c in kept] == ["int8"]
    fitting = [
        value
        for value in family.values
        if device.latency_ms(family.build(value), "int8") <= MARGIN * budget_ms
    ]
    assert kept[0].width == fitting[-1]


def test_keeps_the_precision_that_fits_more(tmp_path: Path) -> None:
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=60.0, int8_gmacs=30.0)
    _, stock = go_shopping(
        families(SMALL, FitSettings(data="d", latency_ms=1, platform="p")),
        device, budget_ms=1.0, tmp_path=tmp_path,
    )  # fmt: skip
    kept = [c for c in stock.candidates if c.status == "kept"]  # type: ignore[attr-defined]
    assert {c.family for c in kept} == {"convnet", "resnet", "mobilenet_v2"}
    assert {c.precision for c in kept} == {"fp32"}


def test_resolution_is_the_knob_on_photographs(tmp_path: Path) -> None:
    device = FakeDevice(fixed_ms=0.5, fp32_gmacs=20.0, int8_gmacs=35.0)
    stalls = families(PHOTOS, FitSettings(data="d", latency_ms=4, platform="p"))
    assert [family.name for family in stalls] == ["efficientnet_lite0"]
    assert stalls[0].source == "auto"
    _, stock = go_shopping(stalls, device, budget_ms=4.0, tmp_path=tmp_path)
    (kept,) = [c for c in stock.candidates if c.status == "kept"]  # type: ignore[attr-defined]
    assert kept.precision == "int8"
    assert kept.resolution % 8 == 0
    assert 0.85 * 4.0 < kept.latency_ms <= MARGIN * 4.0


def test_infeasible_budget_names_the_nearest_after_one_look(tmp_path: Path) -> None:
    device = FakeDevice(fixed_ms=0.2, fp32_gmacs=30.0, int8_gmacs=60.0)
    stalls = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p"))
    _, stock = go_shopping(stalls, device, budget_ms=0.1, tmp_path=tmp_path)
    assert not [c for c in stock.candidates if c.status == "kept"]  # type: ignore[attr-defined]
    assert device.measured == 2 * len(stalls)
    cheapest = min(
        device.latency_ms(family.build(family.values[0]), precision)
        for family in stalls
        for precision in ("fp32", "int8")
    )
    assert stock.nearest_feasible_ms == pytest.approx(cheapest)  # type: ignore[attr-defined]


def test_every_rejected_candidate_has_a_reason(tmp_path: Path) -> None:
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    stalls = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p"))
    _, stock = go_shopping(stalls, device, budget_ms=1.0, tmp_path=tmp_path)
    rejected = [c for c in stock.candidates if c.status == "rejected"]  # type: ignore[attr-defined]
    assert rejected
    assert all(c.reason and c.reason != "measured" for c in rejected)


def test_named_model_keeps_its_settings() -> None:
    settings = FitSettings(
        data="d", latency_ms=1, platform="p", model="mobilenet_v2:width=0.5", pretrained="none"
    )
    (family,) = families(PHOTOS, settings)
    assert family.knob == "resolution"
    assert family.build(96.0).resolution == 96
    assert family.label(96.0) == "mobilenet_v2:width=0.5,resolution=96"
    assert family.build(96.0).num_classes == 10


def test_fixed_resolution_is_kept() -> None:
    settings = FitSettings(
        data="d", latency_ms=1, platform="p", model="mobilenet_v2:resolution=160", pretrained="none"
    )
    (family,) = families(PHOTOS, settings)
    assert family.values == (160.0,)
    assert family.label(160.0) == "mobilenet_v2:resolution=160"


@pytest.mark.parametrize(("width", "whole"), [("1.0", True), ("0.75", False)])
def test_weights_that_are_sliced_for_a_width_are_not_whole(
    width: str, whole: bool, tmp_path: Path
) -> None:
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "v3.pth")
    model = f"mobilenet_v3_small:width={width}"
    settings = FitSettings(
        data="d", latency_ms=1, platform="p", model=model, pretrained=str(tmp_path / "v3.pth")
    )
    (family,) = families(PHOTOS, settings)
    assert family.whole is whole


def test_weights_need_a_model() -> None:
    settings = FitSettings(data="d", latency_ms=1, platform="p", pretrained="file.pth")
    with pytest.raises(UsageError, match="--model"):
        families(PHOTOS, settings)


def sizer(device: FakeDevice, *, budget_ms: float, tmp_path: Path) -> Sizer:
    samples = SamplePlan(glance=10, confirm=10, prove=10, margin=MARGIN)
    return Sizer(
        lambda: Shopper(device, folder=tmp_path, runtime="fake", samples=samples),
        budget_ms=budget_ms,
        processes=3,
    )


@pytest.mark.parametrize("slower", [0.5, 0.9, 1.0, 1.15, 2.0])
def test_the_size_follows_a_host_that_changed(slower: float, tmp_path: Path) -> None:
    """What just fitted while shopping must not be trained when the machine is slower now."""
    (family,) = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    before = FakeDevice(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    _, stock = go_shopping([family], before, budget_ms=1.0, tmp_path=tmp_path)
    (kept,) = [c for c in stock.candidates if c.status == "kept"]  # type: ignore[attr-defined]
    now = FakeDevice(fixed_ms=0.1 * slower, fp32_gmacs=30 / slower, int8_gmacs=60 / slower)
    value, candidate = sizer(now, budget_ms=1.0, tmp_path=tmp_path).size(family, "int8", kept.width)
    fitting = [v for v in family.values if now.latency_ms(family.build(v), "int8") <= MARGIN]
    assert value == candidate.width == fitting[-1]
    assert candidate.latency_ms == pytest.approx(now.latency_ms(family.build(value), "int8"))


def test_a_size_that_is_over_the_budget_in_slow_moments_is_not_chosen(tmp_path: Path) -> None:
    (family,) = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))

    class Moody(FakeDevice):
        """Every third process is a quarter slower."""

        def __call__(
            self, wanted: Sequence[tuple[str, Architecture, str]], folder: Path, samples: int
        ) -> list[Measurement]:
            slower = 1.25 if self.processes % 3 == 2 else 1.0
            return [
                one.model_copy(update={"samples_ms": tuple(slower * ms for ms in one.samples_ms)})
                for one in super().__call__(wanted, folder, samples)
            ]

    device = Moody(fixed_ms=0.1, fp32_gmacs=135.0, int8_gmacs=270.0)
    value, _ = sizer(device, budget_ms=1.0, tmp_path=tmp_path).size(family, "int8", 1.0)
    fitting = [v for v in family.values if 1.25 * device.latency_ms(family.build(v), "int8") <= 1.0]
    assert value == fitting[-1]


def test_nothing_fits_gives_the_smallest_considered(tmp_path: Path) -> None:
    (family,) = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p", model="convnet"))
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    value, _ = sizer(device, budget_ms=0.01, tmp_path=tmp_path).size(family, "int8", 0.25)
    assert value == family.values[0]


class Unsteady(FakeDevice):
    """Slower by what a function of its number of processes and files says."""

    def __init__(self, slower: Callable[[int, int], float], **rates: float) -> None:
        super().__init__(**rates)
        self.slower = slower

    def __call__(
        self, wanted: Sequence[tuple[str, Architecture, str]], folder: Path, samples: int
    ) -> list[Measurement]:
        measured = super().__call__(wanted, folder, samples)
        slower = self.slower(self.processes, len(wanted))
        return [
            one.model_copy(update={"samples_ms": tuple(slower * ms for ms in one.samples_ms)})
            for one in measured
        ]


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
    family = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p"))[0]
    device = Unsteady(crowded, fixed_ms=0.1, fp32_gmacs=gmacs / 2, int8_gmacs=gmacs)
    value, _ = sizer(device, budget_ms=1.0, tmp_path=tmp_path).largest_alone(
        family, "int8", start, ceiling=216.0
    )
    usual = [
        v for v in family.values if v <= 216.0 and device.latency_ms(family.build(v), "int8") <= 1.0
    ]
    assert value == max(usual, default=family.values[0])
    assert device.processes <= 7


def test_one_slow_moment_is_not_believed(tmp_path: Path) -> None:
    family = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p"))[0]
    rates = {"fixed_ms": 0.1, "fp32_gmacs": 40.0, "int8_gmacs": 80.0}
    found = [
        sizer(device, budget_ms=1.0, tmp_path=tmp_path / device.__class__.__name__).largest_alone(
            family, "int8", 64.0, ceiling=216.0
        )[0]
        for device in (FakeDevice(**rates), Unsteady(startled, **rates))
    ]
    assert found[0] == found[1] > 64.0


def test_before_a_proof_the_fastest_moment_of_a_smaller_size_counts(tmp_path: Path) -> None:
    """A spell of slow moments must not decide what ships; the proof does."""
    family = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p"))[0]
    rates = {"fixed_ms": 0.1, "fp32_gmacs": 40.0, "int8_gmacs": 80.0}

    def chosen(device: FakeDevice, name: str, *, from_smaller: bool) -> float:
        value, candidate = sizer(device, budget_ms=1.0, tmp_path=tmp_path / name).largest_alone(
            family, "int8", 64.0, ceiling=216.0, from_smaller=from_smaller
        )
        assert candidate.resolution == value, "measured, whatever decided"
        return value

    usual = chosen(FakeDevice(**rates), "usual", from_smaller=True)
    assert usual == chosen(FakeDevice(**rates), "own", from_smaller=False)
    weary = Unsteady(tired, **rates)
    found = chosen(weary, "smaller", from_smaller=True)
    assert 64.0 < found <= usual
    assert weary.processes == 3, "a size that fits by a smaller one is not timed again"
    assert chosen(Unsteady(tired, **rates), "slow", from_smaller=False) < found


@pytest.mark.parametrize("start", [64.0, 216.0])
def test_when_its_time_is_over_the_largest_known_size_is_taken(
    start: float, tmp_path: Path
) -> None:
    """The search goes on only where nothing fits yet; what ships was measured in any case."""
    family = families(PHOTOS, FitSettings(data="d", latency_ms=1, platform="p"))[0]
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=40.0, int8_gmacs=80.0)
    value, candidate = sizer(device, budget_ms=1.0, tmp_path=tmp_path).largest_alone(
        family, "int8", start, ceiling=216.0, within_s=0.0
    )
    assert candidate.latency_ms is not None
    assert candidate.latency_ms <= 1.0
    assert device.processes == (1 if start == 64.0 else 2)
    assert value == candidate.resolution


def test_when_its_time_is_over_shopping_ends_after_the_second_look(tmp_path: Path) -> None:
    listed = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p"))
    device = FakeDevice(fixed_ms=0.1, fp32_gmacs=30.0, int8_gmacs=60.0)
    samples = SamplePlan(glance=10, confirm=10, prove=10, margin=MARGIN)
    shopper = Shopper(device, folder=tmp_path, runtime="fake", samples=samples)
    stock = shop(
        listed, precisions=("fp32", "int8"), budget_ms=1.0, shopper=shopper, is_over=lambda: True
    )
    assert device.processes == 2
    assert [c.status for c in stock.candidates].count("kept") >= 3


def test_a_precision_that_is_far_slower_is_looked_at_once(tmp_path: Path) -> None:
    listed = families(SMALL, FitSettings(data="d", latency_ms=1, platform="p"))
    device = FakeDevice(fixed_ms=0.0001, fp32_gmacs=30.0, int8_gmacs=60.0)
    _, stock = go_shopping(listed, device, budget_ms=1.0, tmp_path=tmp_path)
    seen = [c for c in stock.candidates if c.precision == "fp32"]  # type: ignore[attr-defined]
    assert {c.width for c in seen} == {family.values[0] for family in listed}


def test_a_short_fit_keeps_more_margin() -> None:
    short, long = (
        SamplePlan.of(FitSettings(data="d", latency_ms=1, platform="p", time_s=time_s))
        for time_s in (60.0, 1800.0)
    )
    assert short.margin < long.margin <= 0.95
    assert short.prove < long.prove
