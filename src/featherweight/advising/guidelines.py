"""Advice about a network, from changes that were measured: the verb `guidelines`.

Every rule proposes variants that follow it at equal multiply-adds; all of them take turns with the
network as it is, and what looks faster is measured once more, longer, in two fresh processes: the
best of many short measurements is partly luck. A rule that does not hold on a platform gains
nothing there, and says nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight.advising.absence import with_nothing_at
from featherweight.advising.advice import ADVICE_FILE, Advice, Finding, Untouched
from featherweight.advising.audit import float_notes
from featherweight.advising.drafts import EQUAL, macs_of
from featherweight.advising.guideline import GUIDELINES, Plan, Proposal
from featherweight.advising.turns import Costs, Turns, TurnsTimer
from featherweight.architecture import Architecture, write_architecture
from featherweight.arguments import optional_path
from featherweight.budget import Latency
from featherweight.errors import ArchitectureError, UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, Platform, parse_platform
from featherweight.layers import layers
from featherweight.measuring.layer_times import tells_node_times
from featherweight.networks.graphs import as_graph
from featherweight.networks.resolve import holds_architecture, resolve_architecture
from featherweight.records import to_plain, write_json

if TYPE_CHECKING:
    from torch import nn

__all__ = ["advise", "guidelines", "proposals_for"]

logger = logging.getLogger(__name__)

_GLANCE, _LONG = 30, 60
"""Samples of every variant, and in each process of those that looked faster."""
_NAMED = 5
"""Unknown operators that are named."""


def guidelines(
    network: str | Path | Architecture | nn.Module,
    *,
    on: str = DEFAULT_PLATFORM,
    input_shape: tuple[int, int, int] | None = None,
    variants: str | Path | None = None,
    seed: int = 0,
) -> Advice:
    """Say why a network is slow on a platform, and what would make it faster.

    What is found in a run directory is kept there as guidelines.json.

    Args:
        network: in text form (a zoo name, `timm:NAME`, a run directory, an architecture.json, an
            .onnx file), an Architecture, or any torch module of known layers.
        on: platform in text form.
        input_shape: (C, H, W) of a torch module.
        variants: folder for the network after each finding, as NUMBER-RULE.json, the one that
            saves most first: `train DATA --model variants/1-G2.json`.
        seed: of the order of the runs.

    Raises:
        UsageError: an unknown network or platform, one without convolutions, or a module without
            `input_shape`.
        UnsupportedError: the runtime cannot hold the network.
        DeviceError: the device could not measure, or something disturbs it too much to tell.
    """
    platform = parse_platform(on)
    folder = optional_path(variants, name="variants")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--variants {folder} is a file", allowed="a folder, which is created")
    network = str(network) if isinstance(network, Path) else network
    notes: list[str] = []
    if isinstance(network, str) and Path(network).suffix == ".onnx":
        architecture, notes = _read_file(Path(network))
    else:
        architecture = _architecture(network, input_shape)
    found = advise(architecture, platform, seed=seed)
    found = found.model_copy(update={"notes": (*notes, *found.notes)})
    if folder is not None:
        _write_variants(architecture, found, folder)
    if isinstance(network, str) and holds_architecture(Path(network)):
        write_json(Path(network) / ADVICE_FILE, to_plain(found))
    return found


def _write_variants(architecture: Architecture, advice: Advice, folder: Path) -> None:
    """Write the network after each finding."""
    by_digest = {
        one.variant.digest: one.variant for one in proposals_for(Plan(as_graph(architecture)))
    }
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(advice.findings, start=1):
        name = f"{number}-{one.guideline}"
        variant = by_digest[one.digest].changed(name=f"{architecture.name}-{name}")
        write_architecture(variant, folder / f"{name}.json")


def _read_file(path: Path) -> tuple[Architecture, list[str]]:
    """Return the layers of an .onnx file, and what is to be known of that."""
    from featherweight.exporting.onnx_layers import OPEN_SIZE, read_onnx_layers

    read = read_onnx_layers(path)
    notes = [
        f"{path} was read layer by layer and written anew for the runtime, as its variants are"
    ]
    if read.open_sizes:
        notes.append(f"it leaves height and width open: {OPEN_SIZE} x {OPEN_SIZE} was taken")
    if read.unknown:
        shown = ", ".join(read.unknown[:_NAMED])
        more = len(read.unknown) - _NAMED
        notes.append(
            f"no layer here computes {shown}"
            + (f" and {more} more" if more > 0 else "")
            + "; that was left out, or the network ends before it"
        )
    for note in notes:
        logger.info("%s", note)
    return read.architecture, notes


def _architecture(
    network: str | Architecture | nn.Module, input_shape: tuple[int, int, int] | None
) -> Architecture:
    if isinstance(network, str):
        return resolve_architecture(network)
    if isinstance(network, Architecture):
        return network
    own = getattr(network, "architecture", None)
    if isinstance(own, Architecture):
        return own
    if input_shape is None:
        raise UsageError(
            f"the module {type(network).__name__} needs input_shape",
            allowed="(channels, height, width), such as (3, 224, 224)",
        )
    from featherweight.networks.importing import import_module

    return import_module(network, input_shape=input_shape).architecture


def advise(architecture: Architecture, platform: Platform, *, seed: int = 0) -> Advice:
    """Return advice about a network; see `guidelines`."""
    started = time.monotonic()
    network = as_graph(architecture)
    plan = Plan(network)
    if not any(layer.op == "conv" for layer in plan.layers.values()):
        raise UsageError(
            f"{network.name} has no convolutions",
            allowed="a convolutional network: the guidelines are about their layers",
        )
    proposals = proposals_for(plan)
    logger.info("%d changes are measured on %s", len(proposals), platform)
    timer = TurnsTimer(network, platform, seed=seed)
    tried = _try(timer, plan, proposals)
    base_ms = tried.turns.base_ms
    by_nodes = tells_node_times(platform)
    costs = timer.costs(base_ms) if by_nodes else Costs({}, ())
    absent = {} if by_nodes else _costs_by_absence(timer, plan, [one for one, _ in tried.sure])
    findings = []
    for one, ratio in tried.sure:
        known = [costs.layers[name] for name in one.layers if name in costs.layers]
        cost_ms = sum(known) if known else absent.get(id(one))
        findings.append(_finding(one, ratio, plan, base_ms, costs.layers, cost_ms))
    is_int8 = platform.precision == "int8"
    return Advice(
        network=architecture.name,
        platform=str(platform),
        median_ms=base_ms,
        noise=tried.turns.noise,
        costs_by="nodes" if by_nodes else "absence",
        findings=tuple(sorted(findings, key=lambda one: -one.saved_ms)),
        untouched=tried.in_vain(proposals),
        macs=plan.macs,
        seconds=time.monotonic() - started,
        measuring_s=timer.seconds,
        notes=tuple(float_notes(costs.nodes, base_ms)) if is_int8 else (),
    )


@dataclass(frozen=True)
class _Tried:
    """What proposals came to.

    Attributes:
        turns: of the longer measurement.
        sure: those that are surely faster, and their ratios.
        ratios: of the last measurement of each, by `id`.
    """

    turns: Turns
    sure: list[tuple[Proposal, Latency]]
    ratios: dict[int, Latency | None]

    def in_vain(self, proposals: Sequence[Proposal]) -> tuple[Untouched, ...]:
        """Return those that are not surely faster."""
        found = {id(one) for one, _ in self.sure}
        return tuple(
            Untouched(
                guideline=one.guideline,
                layers=one.layers,
                finding=one.finding,
                ratio=None if (ratio := self.ratios[id(one)]) is None else ratio.median_ms,
            )
            for one in proposals
            if id(one) not in found
        )


def _try(timer: TurnsTimer, plan: Plan, proposals: Sequence[Proposal]) -> _Tried:
    """Glance at all proposals, and time what looks faster once more, longer."""
    glance = timer.glance([one.variant for one in proposals], samples=_GLANCE)
    work = {id(one): macs_of(one.variant) / plan.macs for one in proposals}
    chosen = [
        one
        for one, ratio in zip(proposals, glance.ratios, strict=True)
        if ratio is not None and glance.may_be_faster(ratio, macs_ratio=work[id(one)])
    ]
    turns = timer.time([one.variant for one in chosen], samples=_LONG)
    timed = list(zip(chosen, turns.ratios, strict=True))
    ratios = {id(one): ratio for one, ratio in zip(proposals, glance.ratios, strict=True)}
    ratios.update((id(one), ratio) for one, ratio in timed)
    sure = [
        (one, ratio)
        for one, ratio in timed
        if ratio is not None and turns.is_surely_faster(ratio, macs_ratio=work[id(one)])
    ]
    return _Tried(turns, sure, ratios)


def _costs_by_absence(
    timer: TurnsTimer, plan: Plan, proposals: Sequence[Proposal]
) -> dict[int, float]:
    """Return what the layers of proposals cost, by `id`, where the network can be without them."""
    lacking = {
        id(one): absent
        for one in proposals
        if (absent := with_nothing_at(plan, one.layers)) is not None
    }
    if not lacking:
        return {}
    timed = timer.time(list(lacking.values()), samples=_LONG)
    return {
        which: timed.base_ms * max(0.0, timed.middle - ratio.median_ms)
        for which, ratio in zip(lacking, timed.ratios, strict=True)
        if ratio is not None
    }


def proposals_for(plan: Plan) -> list[Proposal]:
    """Return what all rules propose, without variants that are no network of equal work.

    Of proposals with the same variant the first stays.
    """
    found: list[Proposal] = []
    for name in GUIDELINES:
        found += [one for one in GUIDELINES[name](plan) if _is_sound(plan, one)]
    different = {one.variant.digest: one for one in reversed(found)}
    different.pop(plan.network.digest, None)
    return list(reversed(different.values()))


def _is_sound(plan: Plan, one: Proposal) -> bool:
    """Whether a variant can be drawn, answers as much, and has as many multiply-adds."""
    try:
        answer = layers(one.variant)[-1].output_shape
    except ArchitectureError as refusal:
        logger.info("%s: no such network can be drawn: %s", one.guideline, refusal)
        return False
    alike = answer == next(reversed(plan.layers.values())).output_shape
    return alike and abs(macs_of(one.variant) - plan.macs) <= EQUAL * plan.macs


def _finding(
    one: Proposal,
    ratio: Latency,
    plan: Plan,
    base_ms: float,
    costs: Mapping[str, float],
    cost_ms: float | None,
) -> Finding:
    low, high = ratio.interval_ms
    work = {layer.name: (layer.macs, layer.memory_access_bytes) for layer in plan.counted.layers}
    return Finding(
        guideline=one.guideline,
        layer=max(one.layers, key=lambda name: (costs.get(name, 0.0), *work[name])),
        layers=one.layers,
        finding=one.finding,
        advice=one.advice,
        cost_ms=cost_ms,
        saved_ms=base_ms * (1 - ratio.median_ms),
        interval_ms=(base_ms * (1 - high), base_ms * (1 - low)),
        ratio=ratio.median_ms,
        ratio_interval=(low, high),
        macs_ratio=macs_of(one.variant) / plan.macs,
        digest=one.variant.digest,
    )
