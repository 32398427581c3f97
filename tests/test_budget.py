from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.budget import Budget, Cost, parse_duration_s, parse_latency_ms
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


def test_a_budget_keeps_every_limit() -> None:
    cost = Cost(params=100, macs=1000, size_bytes=400, latency_ms=5.0, peak_activation_bytes=64)
    assert Budget().allows(cost)
    for name in Budget.model_fields:
        value = getattr(cost, name)
        assert Budget(**{name: value}).allows(cost), "the limit itself is allowed"
        smaller = value - 1 if isinstance(value, int) else value - 1e-9
        assert not Budget(**{name: smaller}).allows(cost), name
        assert not Budget(**{name: smaller}, **_others(name)).allows(cost), name


def _others(name: str) -> dict[str, int]:
    return {other: 10**9 for other in Budget.model_fields if other != name}


def test_a_limit_on_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="latency_ms, which was not measured"):
        Budget(latency_ms=5.0).allows(Cost(macs=1))
    assert Budget(macs=1).allows(Cost(macs=1))


def test_costs_and_budgets_have_the_same_fields() -> None:
    assert list(Cost.model_fields) == list(Budget.model_fields)
