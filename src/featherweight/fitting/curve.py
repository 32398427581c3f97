"""Another budget, or another platform, from the networks of an earlier fit, in a minute or two.

Every network a fit trained is kept, and weights on photographs run at any resolution: an earlier
run is a curve. Only the classifier is fitted again to each new size, which takes seconds. A new
budget takes the best point that fits now and proves it like any other fit: in a fresh process, on
the test split.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from featherweight.budget import parse_latency_ms
from featherweight.data.images import ImageData, load_images
from featherweight.errors import UsageError
from featherweight.fitting.earlier import Earlier, TrainedNetwork, read_earlier
from featherweight.fitting.ending import end_again, end_infeasible, prove_stage
from featherweight.fitting.families import Family, families
from featherweight.fitting.halving import Ranked, cheapest_of_equals
from featherweight.fitting.ledger import Ledger
from featherweight.fitting.look import look
from featherweight.fitting.prove import MOST_GROWTH
from featherweight.fitting.race import Entry, Trainer, open_trainer
from featherweight.fitting.result import FitResult
from featherweight.fitting.settings import FitSettings, allowed_precisions
from featherweight.fitting.settle import settle
from featherweight.fitting.shop import Shopper, shop
from featherweight.fitting.stages import (
    create_sizer,
    kept_entries,
    open_shopper,
    ship_size_stage,
)
from featherweight.fitting.time_plan import SamplePlan
from featherweight.measuring.platform import allow_recorded, parse_platform
from featherweight.networks.storage import load_network
from featherweight.records import parse_record
from featherweight.reporting.run import Candidate, FitSummary
from featherweight.run_directory import RunDirectory, open_run
from featherweight.training.compute import choose_device

__all__ = ["fit_from"]

logger = logging.getLogger(__name__)

_FAR = 0.6
"""Of the resolution of the training: weights of 240 pixels answered 0.95 of the photographs there,
0.90 at 120, 0.83 at 88 and 0.70 at 64, each with a classifier of its own
(benchmarks/results/budget_hits.json)."""

Offer = tuple[TrainedNetwork, Entry]
"""An earlier network, and the size and precision that it would ship in."""


def fit_from(  # noqa: PLR0913 - the parameters of the command
    earlier: Path,
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
    """Answer another budget, or another platform, from an earlier fit: a minute or two.

    No network is trained; where its file answers val better with a classifier fitted to its new
    size, it gets that one. Data, seed and preprocessing are the earlier run's. The test split is
    read again, for the new file.

    Args:
        earlier: run directory of a fit; at least one of its networks must be trained.
        latency: budget as text or milliseconds.
        on: platform; `None` = the earlier run's, if its device is this machine or one that has a
            name here: a file from elsewhere must not make this machine connect anywhere.
        precisions: what may ship; `None` = the one `on` spells out, else what the earlier run
            allowed, as far as the runtime has it.
        min_accuracy: least accuracy of the file on test; `None` = better than guessing.
        device: where PyTorch computes: auto, cpu, cuda or mps.
        output: run directory; by default a new one under `runs`.
        runs: where run directories are made.
        command: the command line, for the record.

    Raises:
        UsageError: no fit, nothing trained, changed data, bad names or units, or a device that
            only the earlier run names.
        DeviceError: the device could not measure.
    """
    choose_device(device)  # a device that is not there is refused before anything is read
    found = read_earlier(earlier)
    if on is None:
        allow_recorded(found.settings.platform, source=f"--from {earlier}")
    settings = _settings(found.settings, latency=latency, on=on, precisions=precisions)
    settings = settings.model_copy(update={"device": device, "min_accuracy": min_accuracy})
    started = clock.monotonic()
    images = load_images(settings.data, seed=settings.seed)
    if images.fingerprint != found.fingerprint:
        raise UsageError(
            f"{settings.data} has changed since {earlier} was trained",
            allowed="the same pictures",
            hint="fit again without --from",
        )
    loading_s = clock.monotonic() - started
    with open_run(
        output,
        parent=runs,
        identity={**settings.identity(fingerprint=images.fingerprint), "from": found.identity},
        command=command,
        name=f"fit-{images.name}",
        given=settings.given,
    ) as run:
        if run.finished:
            return FitResult(end_again(run), run.path)
        return FitResult(_work(run, images, settings, found, loading_s=loading_s), run.path)


def _settings(
    before: FitSettings,
    *,
    latency: str | float,
    on: str | None,
    precisions: Sequence[str] | None,
) -> FitSettings:
    """Return the earlier settings with another budget and platform; no time to train in."""
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


def _work(
    run: RunDirectory,
    images: ImageData,
    settings: FitSettings,
    earlier: Earlier,
    *,
    loading_s: float,
) -> FitSummary:
    logger.info("run directory: %s", run.path)
    ledger = Ledger(run)
    ledger.write_splits(images)
    found = look(images, settings)
    networks = earlier.networks(families(found, settings))
    offers, nearest_ms = _offer_stage(run, ledger, networks, settings)
    if not offers:
        return end_infeasible(run, settings, nearest_ms)
    trainer = open_trainer(images, settings, folder=run.path)
    ranked = [_rank_stage(run, offer, earlier, trainer=trainer) for offer in offers]
    ranked.sort(key=lambda one: one.val_loss)
    best = cheapest_of_equals(ranked, seed=settings.seed)
    others = [one for one in ranked if one is not best]
    _warn_if_far(next(network for network, entry in offers if entry == best.entry), best.entry)
    ledger.note_candidates(
        one.entry.candidate.model_copy(
            update={
                "status": "finalist",
                "reason": f"val loss {one.val_loss:.3f}; the best has {ranked[0].val_loss:.3f}",
                "val_accuracy": one.val_accuracy,
                "val_loss": one.val_loss,
                "stage": "curve",
            }
        )
        for one in ranked
    )
    sizer = create_sizer(run, ledger, settings)
    return prove_stage(
        run, ledger, best, others, trainer=trainer, settings=settings, found=found,
        value=ship_size_stage(run, best, sizer=sizer), loading_s=loading_s,
    )  # fmt: skip


def _warn_if_far(network: TrainedNetwork, entry: Entry) -> None:
    """Say so where a network ships far below the resolution it was trained at."""
    if entry.family.knob == "resolution" and entry.value < _FAR * network.value:
        logger.warning(
            "%s was trained at %g pixels and ships at %g: fit anew for a better answer to this "
            "budget",
            network.name, network.value, entry.value,
        )  # fmt: skip


def _offer_stage(
    run: RunDirectory, ledger: Ledger, networks: Sequence[TrainedNetwork], settings: FitSettings
) -> tuple[list[Offer], float]:
    """Measure what the earlier networks may ship as; return that and the nearest feasible ms."""
    inputs = {
        "networks": [f"{one.key} {one.phase}" for one in networks],
        "fit": settings.model_dump(mode="json", exclude={"data", "device"}),
    }
    done = run.stage_done("shop", inputs=inputs)
    if done is None:
        started = clock.monotonic()
        # No margin: nothing is trained for the size chosen here, and the proof tries smaller ones.
        samples = SamplePlan.of(settings).model_copy(update={"margin": 1.0})
        shopper = open_shopper(run, ledger, settings, purpose="shop", samples=samples)
        stalls = _stalls(networks)
        stock = shop(
            stalls,
            precisions=settings.precisions,
            budget_ms=settings.latency_ms,
            shopper=shopper,
        )
        ledger.note_candidates(stock.candidates)
        entries = kept_entries(stock.candidates, stalls)
        chosen = _choose(networks, entries, shopper=shopper)
        done = {
            "offers": [
                {
                    "network": networks.index(one),
                    "candidate": entry.candidate.model_dump(mode="json"),
                    "value": entry.value,
                }
                for one, entry in chosen
            ],
            "nearest_feasible_ms": stock.nearest_feasible_ms,
        }
        run.finish_stage("shop", inputs=inputs, outputs=done, seconds=clock.monotonic() - started)
    offers = []
    for plain in done["offers"]:
        network = networks[plain["network"]]
        candidate = parse_record(Candidate, plain["candidate"], source="stage shop")
        offers.append((network, Entry(candidate, _limited(network), float(plain["value"]))))
    return offers, float(done["nearest_feasible_ms"])


def _limited(network: TrainedNetwork) -> Family:
    """Return what a trained network may ship in: its width, or resolutions up to near its own."""
    family = network.family
    if family.knob == "width":
        return replace(family, values=(network.value,))
    most = MOST_GROWTH * network.value
    return replace(family, values=tuple(v for v in family.values if v <= most))


def _stalls(networks: Sequence[TrainedNetwork]) -> list[Family]:
    """Return one family per name with all sizes that any of its trained networks may ship in."""
    values: dict[str, set[float]] = {}
    for network in networks:
        values.setdefault(network.family.name, set()).update(_limited(network).values)
    families_of = {network.family.name: network.family for network in networks}
    return [
        replace(family, values=tuple(sorted(values[name]))) for name, family in families_of.items()
    ]


def _choose(
    networks: Sequence[TrainedNetwork], entries: Sequence[Entry], *, shopper: Shopper
) -> list[Offer]:
    """Return every trained network at its largest size that fits, in each kept precision."""
    chosen = []
    for entry in entries:
        precision = entry.candidate.precision
        for network in networks:
            sizes = [v for v in _limited(network).values if v <= entry.value]
            if network.family.name == entry.family.name and sizes:
                chosen.append((network, precision, max(sizes)))
    shopper.visit([(network.family, precision, value) for network, precision, value in chosen])
    offers = []
    for network, precision, value in chosen:
        candidate = shopper.at(network.family, precision, value).model_copy(
            update={"status": "kept", "reason": "the largest size that fits"}
        )
        offers.append((network, Entry(candidate, _limited(network), value)))
    return offers


def _rank_stage(run: RunDirectory, offer: Offer, earlier: Earlier, *, trainer: Trainer) -> Ranked:
    """Rank an earlier network's file at its new size, with a classifier that suits it."""
    network, entry = offer
    phase = f"{network.phase}-at-{network.value:g}"
    earlier.copy_epochs(network, title=entry.title, phase=phase, to=run.path)
    losses, accuracy = settle(
        entry,
        phase,
        run=run,
        trainer=trainer,
        load=lambda: load_network(network.folder),
        inputs={"network": network.key, "value": entry.value},
    )
    return Ranked(
        entry=entry,
        phase=phase,
        losses=losses,
        val_accuracy=accuracy,
        images_seen=network.images_seen,
        seconds=network.seconds,
    )
