"""What advice about a network says: findings, each with what its change saves in all."""

from __future__ import annotations

from featherweight.records import Record

__all__ = ["ADVICE_FILE", "Advice", "Finding", "Untouched"]

ADVICE_FILE = "guidelines.json"
"""In a run directory."""


class Finding(Record):
    """A change that makes a network surely faster on a platform, at equal multiply-adds.

    Attributes:
        guideline: `G1` to `G4` of ShuffleNetV2 (arXiv 1807.11164), `width`, `depthwise`.
        layer: that takes most of the time, of those at fault; where no runtime tells, the one with
            most multiply-adds.
        layers: all of them, in their order.
        finding: what is wrong.
        advice: what to do instead. What it does to the accuracy is not known: nothing is trained.
        cost_ms: what the layers take inside the network; `None` = unknown.
        saved_ms: of the whole network, by the change.
        interval_ms: 95 % interval of that.
        ratio: ms of the changed network over ms of the network as it is.
        ratio_interval: 95 % interval of that, below 1.
        macs_ratio: multiply-adds of the changed network over those of the network as it is.
        digest: of the changed network, a graph of primitives.
    """

    guideline: str
    layer: str
    layers: tuple[str, ...]
    finding: str
    advice: str
    cost_ms: float | None
    saved_ms: float
    interval_ms: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    macs_ratio: float
    digest: str


class Untouched(Record):
    """A change that was measured and is not surely faster, or that the runtime cannot hold.

    Attributes:
        guideline: see `Finding`.
        layers: at which it was tried.
        finding: what the rule says is wrong.
        ratio: ms over those of the network as it is, of the longer measurement where there were
            two; `None` = the runtime cannot hold it.
    """

    guideline: str
    layers: tuple[str, ...]
    finding: str
    ratio: float | None


class Advice(Record):
    """Why a network is slow on a platform.

    Attributes:
        network: its name.
        platform: text form.
        median_ms: of the network as it is.
        noise: how far a second file of the same network was from the first. A change counts only
            if it surely saves more than that share, more than 1.2 % (copies of one file differ by
            so much) and more than it saves multiply-adds.
        costs_by: `nodes` = costs of layers are what the runtime's profiler says of their nodes;
            `absence` = the runtime does not tell, and the network was timed with next to nothing
            in their place.
        findings: what makes it surely faster, most first.
        untouched: what was tried besides.
        macs: multiply-adds of the network.
        seconds: of the whole.
        measuring_s: part of it that measuring processes took, without the profiler's.
        notes: what is to be known of it besides.
    """

    network: str
    platform: str
    median_ms: float
    noise: float
    costs_by: str
    findings: tuple[Finding, ...]
    untouched: tuple[Untouched, ...]
    macs: int
    seconds: float
    measuring_s: float
    notes: tuple[str, ...] = ()
