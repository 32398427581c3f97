"""The four tables of ShuffleNetV2: the networks, and what is made of their times."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from turns_stand_in import stand_in_for_turns

from featherweight.advising import experiment
from featherweight.advising.paper_networks import paper_networks
from featherweight.architecture import Architecture
from featherweight.cli.app import run
from featherweight.layers import layers
from featherweight.profiling.profile import totals

BASES = ("G1", "G2", "G3", "G4")


def test_there_are_51_networks_of_equal_work() -> None:
    networks = paper_networks()
    assert Counter(one.guideline for one in networks) == {"G1": 12, "G2": 12, "G3": 15, "G4": 12}
    # A dense layer is the first row of the second table and of the third.
    assert len({one.architecture.digest for one in networks}) == 51 - 3
    for one in networks:
        first = next(
            other
            for other in networks
            if (other.guideline, other.multiple) == (one.guideline, one.multiple)
        )
        work = totals(one.architecture).macs / totals(first.architecture).macs
        assert work == pytest.approx(1, abs=0.07), one.setting


def test_the_work_is_that_of_the_paper() -> None:
    # Ten blocks of two 1x1 convolutions of 128 channels, at 56 x 56, without what is around them.
    equal = next(one for one in paper_networks() if (one.setting, one.multiple) == ("1:1", 4))
    around = 3 * 128 * 56 * 56 + 2 * 128
    assert totals(equal.architecture).macs - around == 20 * 128 * 128 * 56 * 56


def test_a_bottleneck_adds_what_it_read() -> None:
    both = next(one for one in paper_networks() if one.setting == "ReLU and shortcut")
    adds = [one for one in layers(both.architecture) if one.op == "add"]
    assert len(adds) == 10
    assert sum(one.op == "activation" for one in layers(both.architecture)) == 30


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A device as fast as the paper's, unless another speed is set for a setting."""
    faster: dict[str, float] = {}
    speeds = {
        (one.guideline, one.architecture.digest): (one.setting, one.published)
        for one in paper_networks()
    }
    asked = {
        frozenset(
            one.architecture.digest
            for one in paper_networks()
            if (one.guideline, one.multiple) == (guideline, multiple)
        ): guideline
        for guideline in BASES
        for multiple in (1, 2, 4)
    }

    def take(networks: Sequence[Architecture], samples: int) -> list[list[float]]:
        digests = frozenset(one.digest for one in networks)
        found = []
        for one in networks:
            setting, published = speeds[asked[digests], one.digest]
            found.append([1e3 / published / faster.get(setting, 1.0)] * samples)
        return found

    stand_in_for_turns(monkeypatch, take)
    return faster


def test_a_device_like_the_papers_agrees_with_it(clock: dict[str, float]) -> None:
    found = experiment.run_experiment()
    assert len(found.trials) == 51
    for trial in found.trials:
        assert trial.ratio == pytest.approx(trial.published_ratio)
    for result in found.results:
        assert result.rank_correlation == pytest.approx(1.0)
    by_name = {one.guideline: one for one in found.results}
    assert by_name["G1"].slower == by_name["G1"].of == 9
    assert by_name["G2"].slower == 9
    assert clock == {}


def test_a_guideline_that_does_not_hold_is_said_not_to(clock: dict[str, float]) -> None:
    clock.update({f"g = {groups}": 2.0 * groups for groups in (2, 4, 8)})
    found = {one.guideline: one for one in experiment.run_experiment().results}
    assert (found["G2"].slower, found["G2"].faster) == (0, 9)
    assert found["G2"].rank_correlation < 0


def test_the_command_prints_the_tables(clock: dict[str, float], capsys: Any) -> None:
    assert run(["guidelines", "--experiment"]) == 0
    text = capsys.readouterr().out
    assert "4 in parallel" in text
    assert "G4:" in text
    assert run(["guidelines", "--experiment", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 51
    assert clock == {}
