"""NetAdapt's steps on a clock that adds up and a loss whose best order is known."""

from __future__ import annotations

import pytest
import torch

from featherweight.adapting.groups import Narrow, changed, width_groups
from featherweight.adapting.netadapt import Adapted, netadapt
from featherweight.adapting.savings import Saving, change_options
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile

PARENT = create_architecture("mobilenet_v2", width=0.5, resolution=32, classes=10, form="standard")


def milliseconds(architecture: Architecture) -> float:
    return (profile(architecture).macs or 0) * 1e-6


def table() -> list[Saving]:
    """Return what every change saves, those that leave blocks out included."""
    present = milliseconds(PARENT)
    return [
        Saving(
            block=group.block,
            change=change,
            saved_ms=present - milliseconds(changed(PARENT, [change])),
        )
        for group, changes in change_options(PARENT).items()
        for change in changes
    ]


def hidden_widths(architecture: Architecture) -> dict[int, int]:
    return {group.block: group.channels for group in width_groups(architecture)}


def with_widths(widths: dict[int, int]) -> Architecture:
    return changed(
        PARENT, [Narrow(group=f"blocks.{k}.hidden", channels=w) for k, w in widths.items()]
    )


def exact(architecture: Architecture) -> Latency:
    ms = milliseconds(architecture)
    return Latency(median_ms=ms, interval_ms=(0.999 * ms, 1.001 * ms))


def adapt(target: float, **changed: object) -> Adapted:
    given: dict = {
        "target_ms": target * milliseconds(PARENT),
        "clock": exact,
        "tune": lambda network: None,
        "loss": harm,
    }
    return netadapt(build_network(PARENT, seed=0).eval(), table(), **(given | changed))


def harm(network: Network) -> float:
    """Late blocks matter little: the loss grows with what the early ones lost."""
    before = hidden_widths(PARENT)
    return sum(
        (1.0 - width / before[position]) / position
        for position, width in hidden_widths(network.architecture).items()
    )


def test_the_latency_is_met_in_few_steps_of_whole_blocks() -> None:
    found = adapt(0.7)
    target = 0.7 * milliseconds(PARENT)
    assert milliseconds(found.network.architecture) <= target
    assert found.latency.median_ms == pytest.approx(milliseconds(found.network.architecture))
    assert 2 <= len(found.steps) <= 16
    widths = hidden_widths(found.network.architecture)
    assert all(width % 8 == 0 for width in widths.values())
    times = [step.latency.median_ms for step in found.steps]
    assert times == sorted(times, reverse=True)
    images = torch.randn(2, 3, 32, 32)
    assert found.network(images).shape == (2, 10)


def test_every_step_takes_the_least_harmful_of_its_proposals() -> None:
    tried: list[float] = []

    def told(network: Network) -> float:
        tried.append(harm(network))
        return tried[-1]

    found = adapt(0.7, loss=told)
    position = 0
    for step in found.steps:
        assert step.loss == min(tried[position : position + step.tried])
        position += step.tried
    assert position == len(tried)
    random = adapt(0.7, loss=lambda network: -harm(network))
    assert harm(found.network) < harm(random.network)


def test_proposals_start_from_the_weights_of_the_step_before() -> None:
    def mark(network: Network) -> None:
        with torch.no_grad():
            network.get_parameter("classifier.bias").add_(1.0)

    start = build_network(PARENT, seed=0).get_parameter("classifier.bias")
    found = adapt(0.7, tune=mark)
    gained = found.network.get_parameter("classifier.bias") - start
    assert torch.allclose(gained, torch.full_like(gained, float(len(found.steps))))


def test_a_step_that_is_not_surely_faster_is_rejected_and_never_tried_again() -> None:
    asked: list[tuple[int, ...]] = []

    def clock(architecture: Architecture) -> Latency:
        """The last block's width makes no difference, whatever the table says."""
        widths = hidden_widths(architecture)
        last = max(widths)
        asked.append(tuple(widths.values()))
        return exact(with_widths({k: w for k, w in widths.items() if k != last}))

    found = adapt(0.8, clock=clock)
    last = max(hidden_widths(PARENT))
    assert hidden_widths(found.network.architecture)[last] == hidden_widths(PARENT)[last]
    assert any(step.rejected for step in found.steps), "the least harmful was not faster"
    assert len(set(asked)) == len(asked)


def test_it_ends_where_nothing_is_surely_faster_or_the_time_is_over() -> None:
    constant = Latency(median_ms=milliseconds(PARENT), interval_ms=(0.0, 100.0))
    found = adapt(0.7, clock=lambda architecture: constant)
    assert found.steps == ()
    assert adapt(0.7, is_over=lambda: True).steps == ()
    assert adapt(1.1).steps == (), "fast enough already"
