"""Numbers as the report shows them."""

from __future__ import annotations

import pytest

from featherweight.reporting import units


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.show_ms(4.3567), "4.36 ms"),
        (units.show_ms(0.1567), "0.157 ms"),
        (units.show_ms(123.456), "123.5 ms"),
        (units.show_budget_ms(5.0), "5 ms"),
        (units.show_budget_ms(0.25), "0.25 ms"),
        (units.show_interval_ms((0.9, 1.1)), "0.900 to 1.10 ms"),
        (units.show_percent(0.8734), "87.3 %"),
        (units.show_integer(58720), "58,720"),
        (units.show_count(987), "987"),
        (units.show_count(12_345), "12.3 k"),
        (units.show_count(4_650_000), "4.65 M"),
        (units.show_bytes(4_900_000), "4.90 MB"),
        (units.show_seconds(4.24), "4.2 s"),
        (units.show_seconds(200), "3 min 20 s"),
        (units.show_seconds(3900), "1 h 05 min"),
    ],
)
def test_numbers(shown: str, expected: str) -> None:
    assert shown.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_unknown_is_a_dash_everywhere() -> None:
    functions = [getattr(units, name) for name in units.__all__]
    assert len(functions) >= 6
    assert {function(None) for function in functions} == {"\N{EN DASH}"}
