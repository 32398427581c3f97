"""Another budget, or another platform, from the networks of a previous fit, in a minute or two.

Every network a fit trained is kept, and weights on photographs run at any resolution: a previous
run is a curve. Only the classifier is fitted again to each new size, which takes seconds. A new
budget takes the best point that fits now and proves it like any other fit: in a fresh process, on
the test split.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featherweight.budget import Latency, parse_latency_ms
from featherweight.errors import UsageError
from featherweight.exporting.platforms import allow_recorded, parse_platform
from featherweight.fitting.candidate import Candidate, Measured, Trained, Training
from featherweight.fitting.conclude import (
    FitResult,
    conclude,
    conclude_again,
    conclude_infeasible,
)
from featherweight.fitting.context import FitContext, open_context
from featherweight.fitting.families import families
from featherweight.fitting.family import Family
from featherweight.fitting.policy import ProvePolicy
from featherweight.fitting.previous_run import PreviousNetwork, PreviousRun, read_previous_run
from featherweight.fitting.ranking import cheapest_of_equals
from featherweight.fitting.settings import FitSettings, allowed_precisions
from featherweight.fitting.stages.look import Look, look
from featherweight.fitting.stages.prove import prove
from featherweight.fitting.stages.refit_head import rank_at_size
from featherweight.fitting.stages.shop import find_fitting, note_shopped
from featherweight.fitting.stages.size import choose_shipped_size
from featherweight.fitting.time_plan import TimePlan
from featherweight.measuring.bench import Bench
from featherweight.networks.storage import load_network
from featherweight.parallel import HereExecutor
from featherweight.records import Record
from featherweight.run_directory import open_run
from featherweight.tasks.task import load_data
from featherweight.training.compute import choose_device

__all__ = ["Offer", "fit_from"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """A network of the previous run, at the size and precision that it would ship in."""

    network: PreviousNetwork
    measured: Measured


class _OfferRecord(Record):
    network: int
    size: float
    precision: str
    latency: Latency


class _OffersRecord(Record):
    offers: tuple[_OfferRecord, ...]
    nearest_feasible_ms: float


def fit_from(  # noqa: PLR0913 - the parameters of the command
    previous: Path,
    *,
    latency: str | float,
    on: str | None = None,
    precisions: Sequence[str] | None = None,
    min_accuracy: float | None = None,
    device: str = "auto",
    output: Path | None = None,
    runs: Path = Path("runs"),
    command: str = "featherweight.fit(...)",
) -> FitResult:
    """Answer another budget, or another platform, from a previous fit: a minute or two.

    No network is trained; where its file answers val better with a classifier fitted to its new
    size, it gets that one. Data, seed and preprocessing are the previous run's. The test split is
    read again, for the new file.

    Args:
        previous: run directory of a fit; at least one of its networks must be trained.
        latency: budget as text or milliseconds.
        on: platform; `None` = the previous run's, if its device is this machine or one that has a
            name here: a file from elsewhere must not make this machine connect anywhere.
        precisions: what may ship; `None` = the one `on` spells out, else what the previous run
            allowed, as far as the runtime has it.
        min_accuracy: least accuracy of the file on test; `None` = better than guessing.
        device: where PyTorch computes: auto, cpu, cuda or mps.
        output: run directory; by default a new one under `runs`.
        runs: where run directories are made.
        command: the command line, for the record.

    Raises:
        UsageError: no fit, nothing trained, changed data, bad names or units, or a device that
            only the previous run names.
        DeviceError: the device could not measure.
    """
    choose_device(device)  # a device that is not there is refused before anything is read
    before = read_previous_run(previous)
    if on is None:
        allow_recorded(before.settings.platform, source=f"--from {previous}")
    settings = _settings(before.settings, latency=latency, on=on, precisions=precisions)
    settings = settings.model_copy(update={"device": device, "min_accuracy": min_accuracy})
    started = clock.monotonic()
    images = load_data(settings.data, seed=settings.seed)
    if images.fingerprint != before.fingerprint:
        raise UsageError(
            f"{settings.data} has changed since {previous} was trained",
            allowed="the same pictures",
            hint="fit again without --from",
        )
    loading_s = clock.monotonic() - started
    with open_run(
        output,
        parent=runs,
        identity={**settings.identity(fingerprint=images.fingerprint), "from": before.identity},
        command=command,
        name=f"fit-{images.name}",
        given=settings.given,
    ) as run:
        if run.finished:
            return conclude_again(run)
        logger.info("run directory: %s", run.path)
        seen = look(images, settings)
        plan = TimePlan.of(settings, spent_s=loading_s, small=seen.small)
        context = open_context(run, images, settings, plan=plan, workers=HereExecutor())
        context.ledger.write_splits(images)
        return _answer(context, before, seen, loading_s=loading_s)


def _settings(
    before: FitSettings,
    *,
    latency: str | float,
    on: str | None,
    precisions: Sequence[str] | None,
) -> FitSettings:
    """Return the previous settings with another budget and platform; no time to train in."""
    platform = parse_platform(before.platform if on is None else on)
    kept = allowed_precisions(precisions, platform, on or "")
    if precisions is None and "precision=" not in (on or ""):
        offered, kept = kept, tuple(p for p in kept if p in before.precisions)
        if not kept:
            raise UsageError(
                f"{platform.runtime} has none of the precisions that the earlier fit allowed "
                f"({', '.join(before.precisions)})",
                allowed=", ".join(offered),
                hint="name one with --precision",
            )
    return before.model_copy(
        update={
            "latency_ms": parse_latency_ms(latency),
            "platform": str(platform),
            "precisions": kept,
            "time_s": None,
            "epochs": None,
        }
    )


def _answer(context: FitContext, before: PreviousRun, seen: Look, *, loading_s: float) -> FitResult:
    """Rank what the previous networks may ship as, and prove the best."""
    networks = before.networks(families(seen, context.settings))
    offers, nearest_ms = _find_offers(context, networks)
    if not offers:
        return conclude_infeasible(context.run, context.settings, nearest_ms)
    ranked = {id(trained): (trained, offer) for trained, offer in _rank(context, before, offers)}
    listed = sorted((trained for trained, _ in ranked.values()), key=lambda one: one.val_loss)
    best = cheapest_of_equals(listed, seed=context.seed)
    _warn_if_far(ranked[id(best)][1], policy=context.policy.prove)
    for trained in listed:
        context.ledger.note_trained(
            trained,
            status="finalist",
            reason=f"val loss {trained.val_loss:.3f}; the best has {listed[0].val_loss:.3f}",
            stage="curve",
        )
    summary = prove(
        context,
        best,
        [trained for trained in listed if trained is not best],
        largest=choose_shipped_size(context, best).candidate.size,
        uneven=seen.uneven,
        loading_s=loading_s,
    )
    return conclude(context.run, summary)


def _warn_if_far(offer: Offer, *, policy: ProvePolicy) -> None:
    """Say so where a network ships far below the resolution it was trained at."""
    before, after = offer.network.candidate, offer.measured.candidate
    if after.family.axis == "resolution" and after.size < policy.far * before.size:
        logger.warning(
            "%s was trained at %g pixels and ships at %g: fit anew for a better answer to this "
            "budget",
            before.label,
            before.size,
            after.size,
        )


def _find_offers(
    context: FitContext, networks: Sequence[PreviousNetwork]
) -> tuple[list[Offer], float]:
    """Measure what the previous networks may ship as; return that and the nearest feasible ms."""
    settings, policy = context.settings, context.policy

    def work() -> _OffersRecord:
        # No margin: nothing is trained for the size chosen here, and the proof tries smaller ones.
        samples = context.samples.model_copy(update={"margin": 1.0})
        bench = context.bench("shop", samples=samples)
        found = find_fitting(
            _joined(networks, policy=policy.prove),
            precisions=settings.precisions,
            budget_ms=settings.latency_ms,
            bench=bench,
            policy=policy.shop,
        )
        note_shopped(context, found)
        fitting = [measured.candidate for measured, _ in found.kept]
        return _OffersRecord(
            offers=tuple(
                _OfferRecord(
                    network=networks.index(offer.network),
                    size=offer.measured.candidate.size,
                    precision=offer.measured.candidate.precision,
                    latency=offer.measured.latency,
                )
                for offer in _choose(networks, fitting, bench=bench, policy=policy.prove)
            ),
            nearest_feasible_ms=found.nearest_feasible_ms,
        )

    record = context.run.stage(
        "shop",
        inputs={
            "networks": [network.name for network in networks],
            "fit": settings.model_dump(mode="json", exclude={"data", "device"}),
        },
        outputs=_OffersRecord,
        work=work,
    )
    offers = []
    for one in record.offers:
        network = networks[one.network]
        candidate = Candidate(_limited(network, policy=policy.prove), one.size, one.precision)
        offers.append(Offer(network, Measured(candidate, one.latency)))
    return offers, record.nearest_feasible_ms


def _limited(network: PreviousNetwork, *, policy: ProvePolicy) -> Family:
    """Return what a trained network may ship in: its own size, or resolutions up to near it."""
    family, size = network.candidate.family, network.candidate.size
    if family.axis == "width" or family.anchored:
        return replace(family, sizes=(size,))
    most = policy.most_growth * size
    return replace(family, sizes=tuple(one for one in family.sizes if one <= most))


def _joined(networks: Sequence[PreviousNetwork], *, policy: ProvePolicy) -> list[Family]:
    """Return one family per name with all sizes that any of its trained networks may ship in."""
    sizes: dict[str, set[float]] = {}
    named: dict[str, Family] = {}
    for network in networks:
        limited = _limited(network, policy=policy)
        sizes.setdefault(limited.name, set()).update(limited.sizes)
        named[limited.name] = limited
    return [replace(family, sizes=tuple(sorted(sizes[name]))) for name, family in named.items()]


def _choose(
    networks: Sequence[PreviousNetwork],
    fitting: Sequence[Candidate],
    *,
    bench: Bench[Candidate],
    policy: ProvePolicy,
) -> list[Offer]:
    """Return every trained network at its largest size that fits, in each kept precision."""
    chosen = []
    for one in fitting:
        for network in networks:
            family = _limited(network, policy=policy)
            sizes = [size for size in family.sizes if size <= one.size]
            if family.name == one.family.name and sizes:
                chosen.append((network, Candidate(family, max(sizes), one.precision)))
    bench.measure([candidate for _, candidate in chosen])
    return [
        Offer(network, Measured(candidate, bench.latency(candidate)))
        for network, candidate in chosen
    ]


def _rank(
    context: FitContext, before: PreviousRun, offers: Sequence[Offer]
) -> list[tuple[Trained, Offer]]:
    """Rank the previous networks' files at their new sizes, with classifiers that suit them."""
    return [(_rank_one(context, before, offer), offer) for offer in offers]


def _rank_one(context: FitContext, before: PreviousRun, offer: Offer) -> Trained:
    network, candidate = offer.network, offer.measured.candidate
    record = network.record
    phase = record.phase.model_copy(update={"trained_at": network.candidate.size})
    before.copy_epochs(network, title=candidate.title, phase=phase, to=context.run.path)
    losses, val = rank_at_size(
        context,
        candidate,
        phase,
        load=lambda: load_network(network.folder),
        inputs={"network": record.key, "size": candidate.size},
    )
    training = Training(
        candidate, phase, losses, val, images_seen=record.images_seen, seconds=record.seconds
    )
    return Trained.of(offer.measured, training)
