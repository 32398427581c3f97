"""NetAdapt's steps on a clock that adds up and losses whose best order is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from cases import often
from numpy.typing import NDArray

from featherweight.adapting.changes import apply, changed
from featherweight.adapting.groups import Narrow, width_groups
from featherweight.adapting.netadapt import Adapted, Setting, Tuned, netadapt
from featherweight.adapting.saving_model import SavingModel
from featherweight.adapting.savings import Saving, change_options
from featherweight.adapting.steps import Schedule, Step
from featherweight.architecture import Architecture
from featherweight.budget import Latency
from featherweight.networks.channels import channels_of
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.profiling.profile import profile

WHOLE = create_architecture("mobilenet_v2", width=0.5, resolution=32, classes=10, form="standard")
PARENT = WHOLE.changed(blocks=WHOLE.blocks[:9], head_channels=(128,))
HIDDEN = Schedule(initial=0.08, decay=1.0, kinds=("hidden",))
Timer = Callable[[Architecture], Latency]
Harm = Callable[[Network], float]


def milliseconds(architecture: Architecture) -> float:
    return (profile(architecture).macs or 0) * 1e-6


def model_of(parent: Architecture = PARENT, *, factor: float = 1.0) -> SavingModel:
    """Return what every change saves; a table that is off by a factor."""
    present = milliseconds(parent)
    savings = [
        Saving(change=change, saved_ms=factor * (present - milliseconds(changed(parent, [change]))))
        for change in change_options(parent)
    ]
    return SavingModel(parent, savings, present_ms=present)


def widths_of(architecture: Architecture) -> dict[str, int]:
    return {group.name: group.channels for group in width_groups(architecture)}


def exact(architecture: Architecture) -> Latency:
    ms = milliseconds(architecture)
    return Latency(median_ms=ms, interval_ms=(0.999 * ms, 1.001 * ms))


def harm(network: Network) -> float:
    """Late groups matter little: the loss grows with what the early ones lost."""
    before, after = widths_of(PARENT), widths_of(network.architecture)
    return sum(
        (1.0 - after[name] / width) / (1 + place)
        for place, (name, width) in enumerate(before.items())
    )


class FakeProposer:
    """Every picture of the hold-out has the loss that `harm` says."""

    def __init__(self, harm: Harm = harm, mark: float = 0.0, noise: float = 0.0) -> None:
        self._harm, self._mark = harm, mark
        self._noise = noise * np.random.default_rng(0).normal(size=64)
        self.tried: list[list[float]] = []

    def judge(self, network: Network) -> Tuned:
        losses: NDArray[np.float64] = self._harm(network) + self._noise - self._noise.mean()
        return Tuned(network, losses, score=0.5)

    def tune(
        self, present: Network, changes: Sequence[Narrow], *, worth: object = None
    ) -> list[Tuned]:
        found = []
        for change in changes:
            network = apply(present, [change])
            with torch.no_grad():
                network.get_parameter("classifier.bias").add_(self._mark)
            found.append(self.judge(network))
        self.tried.append([float(one.losses.mean()) for one in found])
        return found


def adapt(
    target: float,
    *,
    proposer: FakeProposer | None = None,
    schedule: Schedule = HIDDEN,
    clock: Timer = exact,
    factor: float = 1.0,
    worth: Callable[[Network], dict[str, NDArray[np.float64]]] | None = None,
    indistinct: float = 0.0,
    **given: object,
) -> Adapted:
    setting = Setting(
        model_of(factor=factor),
        clock(PARENT),
        lambda networks: [clock(one) for one in networks],
        proposer or FakeProposer(),
        schedule,
        worth=worth,
        indistinct=indistinct,
    )
    start = build_network(PARENT, seed=0).eval()
    return netadapt(start, setting, target_ms=target * milliseconds(PARENT), **given)  # type: ignore[arg-type]


def test_the_latency_is_met_in_steps_of_whole_groups() -> None:
    found = adapt(0.7)
    assert found.ended == "met"
    assert milliseconds(found.network.architecture) <= 0.7 * milliseconds(PARENT)
    assert found.latency == exact(found.network.architecture)
    assert 3 <= len(found.steps) <= 8
    assert [step.number for step in found.steps] == list(range(1, 1 + len(found.steps)))
    assert all(width % 8 == 0 for width in widths_of(found.network.architecture).values())
    ends = [step.latency for step in found.steps]
    for before, after in zip([exact(PARENT), *ends], ends, strict=False):
        assert after.interval_ms[1] < before.interval_ms[0], "never slower"
    assert found.network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_one_path_answers_several_budgets() -> None:
    whole = milliseconds(PARENT)
    found = adapt(0.6, on_the_way_ms=[0.9 * whole, 0.75 * whole, 2.0 * whole, 0.5 * whole])
    assert [one.target_ms for one in found.passed] == [0.9 * whole, 0.75 * whole]
    for one in found.passed:
        assert one.latency.median_ms <= one.target_ms
        assert one.latency == exact(one.network.architecture)
        assert one.latency.median_ms > one.target_ms - 0.08 * whole, "a step ends there"
    assert found.latency.median_ms <= 0.6 * whole


def test_every_step_proposes_of_each_group_the_largest_width_that_saves_enough() -> None:
    found = adapt(0.9, schedule=Schedule(initial=0.02, decay=0.96))
    first = found.steps[0]
    assert first.needed_ms == pytest.approx(0.02 * milliseconds(PARENT))
    assert found.steps[1].needed_ms == pytest.approx(0.96 * first.needed_ms)
    groups = {group.name: group for group in width_groups(PARENT)}
    kinds = {groups[proposal.change.group].kind for proposal in first.proposals}
    assert {"hidden", "trunk"} <= kinds, "both kinds of MobileNetV3"
    for proposal in first.proposals:
        change, group = proposal.change, groups[proposal.change.group]
        saved = milliseconds(PARENT) - milliseconds(changed(PARENT, [change]))
        assert saved == pytest.approx(milliseconds(PARENT) - proposal.predicted_ms, rel=0.2)
        assert saved >= 0.95 * first.needed_ms
        wider = Narrow(group=change.group, channels=change.channels + group.step)
        if wider.channels < group.channels:
            less = milliseconds(PARENT) - milliseconds(changed(PARENT, [wider]))
            assert less <= 1.05 * first.needed_ms


def test_the_least_harmful_proposal_is_taken() -> None:
    proposer = FakeProposer()
    found = adapt(0.7, proposer=proposer)
    for step, tried in zip(found.steps, proposer.tried, strict=True):
        assert step.loss == min(tried)
        assert step.change == step.proposals[0].change
        assert [one.status for one in step.proposals] == ["taken"] + ["tried"] * (len(tried) - 1)
    backwards = adapt(0.7, proposer=FakeProposer(lambda network: -harm(network)))
    assert harm(found.network) < harm(backwards.network)


def test_on_a_separable_loss_it_finds_the_analytic_optimum() -> None:
    """Loss c_g x_g of x_g ms saved in group g: cut the cheapest group to its end, then the next."""
    model = model_of()
    names = [group.name for group in width_groups(PARENT) if group.kind == "hidden"]
    costs = {name: 1.0 + (3 * place) % len(names) for place, name in enumerate(names)}
    before = widths_of(PARENT)

    def saved(name: str, width: int) -> float:
        return model.saved_ms(Narrow(group=name, channels=width))

    def loss(network: Network) -> float:
        after = widths_of(network.architecture)
        return sum(cost * saved(name, after[name]) for name, cost in costs.items())

    most = {name: saved(name, 8) for name in names}
    order = sorted(names, key=costs.__getitem__)
    cut = most[order[0]] + most[order[1]] + 0.4 * most[order[2]]
    target = 1.0 - cut / milliseconds(PARENT)
    small = Schedule(initial=0.006, decay=1.0, kinds=("hidden",), select="ratio")
    found = adapt(target, proposer=FakeProposer(loss), schedule=small)
    after = widths_of(found.network.architecture)
    assert found.ended == "met"
    for name in order[:2]:
        left = most[name] - saved(name, after[name])
        assert left < found.steps[0].needed_ms, "cut to its end, but for less than a step"
    assert 0.2 * most[order[2]] < saved(order[2], after[order[2]]) < 0.7 * most[order[2]]
    for name in order[3:]:
        assert after[name] == before[name], "a dearer group stays whole"


def test_what_saves_much_less_than_it_must_gives_way() -> None:
    """The table is far off for the group that seems to do the least harm."""
    favourite = width_groups(PARENT)[-2].name

    def harm_of(network: Network) -> float:
        now = widths_of(network.architecture)
        before = widths_of(PARENT)
        return sum((1.0 - now[name] / width) for name, width in before.items() if name != favourite)

    def clock(architecture: Architecture) -> Latency:
        """What the favourite saves is hardly seen: a twentieth of what the table says."""
        now, before = widths_of(architecture), widths_of(PARENT)
        whole = PARENT if architecture == PARENT else architecture
        ms = milliseconds(whole)
        if now[favourite] < before[favourite]:
            alone = changed(PARENT, [Narrow(group=favourite, channels=now[favourite])])
            ms += 0.95 * (milliseconds(PARENT) - milliseconds(alone))
        return Latency(median_ms=ms, interval_ms=(0.9999 * ms, 1.0001 * ms))

    small = HIDDEN.model_copy(update={"initial": 0.02})
    found = adapt(0.95, proposer=FakeProposer(harm_of), schedule=small, clock=clock)
    first = found.steps[0]
    assert first.proposals[0].change.group == favourite
    assert first.proposals[0].latency is not None
    assert first.change is not None
    assert first.change.group != favourite


def test_the_first_step_is_as_small_as_the_schedule_says() -> None:
    """How unsure the start's own time is says nothing about ratios of turns."""

    def unsure(architecture: Architecture) -> Latency:
        ms = milliseconds(architecture)
        half = 0.2 * ms if architecture == PARENT else 0.001 * ms
        return Latency(median_ms=ms, interval_ms=(ms - half, ms + half))

    schedule = Schedule(initial=0.02, decay=1.0, kinds=("hidden",))
    found = adapt(0.9, schedule=schedule, clock=unsure)
    assert found.steps[0].needed_ms == pytest.approx(0.02 * milliseconds(PARENT))


def test_importance_says_which_groups_are_tried() -> None:
    """With two proposals a step, they are of the groups that lose the least."""
    cheap = [group.name for group in width_groups(PARENT) if group.kind == "hidden"][-2:]

    def worth(network: Network) -> dict[str, NDArray[np.float64]]:
        groups = width_groups(network.architecture)
        numbers = channels_of(network.architecture).numbers
        return {
            layer: np.full(len(numbers[layer]), 0.0 if group.name in cheap else 1.0)
            for group in groups
            for layer in group.layers
        }

    schedule = HIDDEN.model_copy(update={"proposals": 2, "initial": 0.02})
    found = adapt(0.95, schedule=schedule, worth=worth)
    assert {one.change.group for one in found.steps[0].proposals} == set(cheap)


def test_what_chance_alone_may_do_is_not_surely_faster() -> None:
    """Steps of 2 % are rejected where copies of one network differ by 3 %; larger are tried."""
    small = HIDDEN.model_copy(update={"initial": 0.02})
    plain = adapt(0.95, schedule=small)
    found = adapt(0.95, schedule=small, indistinct=0.03)
    assert plain.steps[0].change is not None
    assert found.steps[0].change is None
    assert {one.status for one in found.steps[0].proposals} == {"rejected"}
    for step in found.steps:
        for one in step.proposals:
            if one.status == "taken":
                assert one.latency is not None
                assert one.beside is not None
                assert one.latency.interval_ms[1] < 0.97 * one.beside.median_ms


def test_where_the_loss_ties_what_saves_more_is_taken() -> None:
    def same(_: Network) -> float:
        return 1.0

    found = adapt(0.9, proposer=FakeProposer(same, noise=0.1))
    for step in found.steps:
        predicted = [proposal.predicted_ms for proposal in step.proposals]
        assert predicted[0] == min(predicted)


def test_the_ratio_rule_is_mobilenet_v3s_and_takes_gains_first() -> None:
    """Loss per ms decides; where some proposal lowers the loss, the lowest loss does."""
    schedule = HIDDEN.model_copy(update={"select": "ratio"})
    found = adapt(0.7, schedule=schedule)
    before, latency = 0.0, milliseconds(PARENT)
    for step in found.steps:
        ratios = [(one.loss - before) / (latency - one.predicted_ms) for one in step.proposals]
        assert ratios[0] == pytest.approx(min(ratios))
        before, latency = step.loss, step.latency.median_ms
    gains = adapt(0.7, schedule=schedule, proposer=FakeProposer(lambda one: -harm(one)))
    for step in gains.steps:
        assert step.loss == min(one.loss for one in step.proposals)


def test_proposals_start_from_the_weights_of_the_step_before() -> None:
    start = build_network(PARENT, seed=0).get_parameter("classifier.bias")
    found = adapt(0.7, proposer=FakeProposer(mark=1.0))
    gained = found.network.get_parameter("classifier.bias") - start
    assert torch.allclose(gained, torch.full_like(gained, float(len(found.steps))))


def test_a_step_that_is_not_surely_faster_is_rejected_and_never_tried_again() -> None:
    first = adapt(0.8).steps[0].change
    assert first is not None
    last = first.group

    def clock(architecture: Architecture) -> Latency:
        """The best group's width makes no difference, whatever the table says."""
        widths = widths_of(architecture)
        widths[last] = widths_of(PARENT)[last]
        return exact(changed(PARENT, [Narrow(group=k, channels=w) for k, w in widths.items()]))

    found = adapt(0.8, clock=clock)
    assert widths_of(found.network.architecture)[last] == widths_of(PARENT)[last]
    rejected = [one for step in found.steps for one in step.proposals if one.status == "rejected"]
    assert rejected, "the least harmful was not faster"
    assert all(one.latency is not None for one in rejected)
    assert len({one.change for one in rejected}) == len(rejected)


def test_a_table_that_promises_too_much_is_corrected() -> None:
    honest, boastful = adapt(0.7), adapt(0.7, factor=1.6)
    assert boastful.ended == "met"
    late = boastful.steps[-2]
    taken = late.proposals[0]
    assert taken.latency is not None
    assert taken.latency.median_ms == pytest.approx(taken.predicted_ms, rel=0.05)
    assert len(boastful.steps) <= len(honest.steps) + 4


def test_it_ends_where_nothing_is_surely_faster_or_the_time_is_over() -> None:
    vague = Latency(median_ms=milliseconds(PARENT), interval_ms=(0.0, 100.0))
    small = Schedule(initial=0.3, decay=1.0, kinds=("head",))
    found = adapt(0.7, clock=lambda _: vague, schedule=small)
    assert found.ended == "stuck"
    assert found.network.architecture == PARENT
    assert all(step.change is None for step in found.steps)
    assert adapt(0.7, is_over=lambda: True).ended == "time"
    assert adapt(1.1).steps == (), "fast enough already"
    unreachable = adapt(0.05, schedule=Schedule(initial=0.3, decay=1.0, kinds=("head",)))
    assert unreachable.ended == "stuck"


def test_a_proposal_whose_loss_is_no_number_is_never_taken() -> None:
    class Torn(FakeProposer):
        def tune(
            self, present: Network, changes: Sequence[Narrow], *, worth: object = None
        ) -> list[Tuned]:
            found = super().tune(present, changes, worth=worth)
            return [
                one._replace(losses=np.full(64, np.nan))
                if change.group == "blocks.3.hidden"
                else one
                for one, change in zip(found, changes, strict=True)
            ]

    found = adapt(0.8, proposer=Torn())
    assert found.ended == "met"
    assert not any(step.change and step.change.group == "blocks.3.hidden" for step in found.steps)
    torn = [one for step in found.steps for one in step.proposals if one.loss is None]
    assert torn
    assert {one.status for one in torn} == {"rejected"}
    assert len({one.change for one in torn}) == len(torn), "none is tried again"
    cut = adapt(0.8, proposer=Torn(), so_far=found.steps[:1], on_the_way_ms=())
    again = [one.change for step in cut.steps[1:] for one in step.proposals]
    assert not set(again) & {one.change for one in found.steps[0].proposals if one.loss is None}


@pytest.mark.parametrize(
    ("left", "share"), often([(0.0, 0.3), (1.0, 0.3), (2.0, 0.15), (99.0, 0.08)], [(2.0, 0.15)])
)
def test_a_way_that_is_late_takes_larger_steps(left: float, share: float) -> None:
    found = adapt(0.7, steps_left=lambda: left)
    assert found.ended == "met"
    assert found.steps[0].needed_ms == pytest.approx(share * milliseconds(PARENT))
    assert adapt(0.7).steps[0].needed_ms == pytest.approx(0.08 * milliseconds(PARENT))


def test_a_way_that_was_cut_goes_on_as_if_it_had_not_been() -> None:
    whole = adapt(0.7)
    kept: list[tuple[Step, Network]] = []
    for count in (1, 2):
        kept.clear()

        def keep(step: Step, network: Network) -> None:
            kept.append((step, network))

        adapt(0.7, told=keep, is_over=lambda count=count: len(kept) >= count)  # type: ignore[misc]
        steps = [Step.model_validate_json(step.model_dump_json()) for step, _ in kept]
        setting = Setting(
            model_of(),
            exact(PARENT),
            lambda networks: [exact(one) for one in networks],
            FakeProposer(),
            HIDDEN,
        )
        found = netadapt(kept[-1][1], setting, target_ms=0.7 * milliseconds(PARENT), so_far=steps)
        assert found.steps == whole.steps
        assert found.network.architecture == whole.network.architecture
