from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.budget import (
    Budget,
    Evaluation,
    Latency,
    parse_duration_s,
    parse_latency_ms,
)
from featherweight.errors import UsageError


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("5ms", 5.0),
        ("5000us", 5.0),
        ("0.005s", 5.0),
        ("200fps", 5.0),
        (" 2.5 ms ", 2.5),
        (".5ms", 0.5),
        ("30fps", 1000 / 30),
    ],
)
def test_latency_units(text: str, milliseconds: float) -> None:
    assert parse_latency_ms(text) == pytest.approx(milliseconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("20m", 1200.0), ("20min", 1200.0), ("1.5h", 5400.0)]
)
def test_duration_units(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "5", "ms", "0ms", "0fps", "-5ms", "5 parsecs", "5m", "5MS", "1e3ms", "nanms", "5ms5ms"],
)
def test_a_latency_that_cannot_be_read_is_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_latency_ms(text)
    assert repr(text) in caught.value.message
    assert "5ms" in str(caught.value.allowed)


@pytest.mark.parametrize("text", ["", "90", "0s", "-1h", "5ms", "2d"])
def test_a_duration_that_cannot_be_read_is_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration_s(text)
    assert repr(text) in caught.value.message
    assert "20m" in str(caught.value.allowed)


@given(st.integers(1, 10**6))
def test_the_units_of_one_latency_agree(microseconds: int) -> None:
    assert parse_latency_ms(f"{microseconds}us") == pytest.approx(microseconds / 1000)
    assert parse_latency_ms(f"{microseconds}ms") == pytest.approx(
        1000 * parse_latency_ms(f"{microseconds}us")
    )
    assert parse_latency_ms(f"{microseconds}fps") == pytest.approx(1000 / microseconds)


def test_a_budget_is_met_by_the_upper_end_of_the_interval() -> None:
    budget = Budget.parse("5ms")
    assert budget.latency_ms == 5.0
    assert budget.is_met(Latency(median_ms=4.9, interval_ms=(4.8, 5.0)))
    assert not budget.is_met(Latency(median_ms=4.9, interval_ms=(4.8, 5.01)))
    assert budget.share_ms(0.9) == pytest.approx(4.5)


def test_a_budget_may_be_a_share_of_a_start() -> None:
    assert Budget.parse("70%", start_ms=10.0).latency_ms == pytest.approx(7.0)
    assert Budget.parse("200fps", start_ms=10.0).latency_ms == pytest.approx(5.0)
    for wrong, start_ms in (("70%", None), ("0%", 10.0), ("170%", 10.0)):
        with pytest.raises(UsageError):
            Budget.parse(wrong, start_ms=start_ms)


def test_an_evaluation_says_its_figure() -> None:
    known = Evaluation(metric="accuracy", value=0.9, n=100, interval=(0.82, 0.95), split="val")
    assert str(known) == "accuracy 0.900 [0.820, 0.950]"
    balanced = Evaluation(metric="balanced_accuracy", value=0.9, n=100, interval=None, split="val")
    assert str(balanced) == "balanced accuracy 0.900"
