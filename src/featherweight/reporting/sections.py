"""What each section of the report says: plain values and sentences for the template."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from featherweight.architecture import Architecture
from featherweight.errors import FeatherweightError
from featherweight.measuring.measurement import MAX_FOREIGN_CPU_SHARE
from featherweight.profiling.profile import LayerProfile, Profile, profile
from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.run import Candidate
from featherweight.reporting.units import show_budget_ms, show_interval_ms, show_ms, show_percent

__all__ = [
    "Command",
    "LayerRow",
    "LayerTable",
    "SplitTable",
    "commands_run",
    "flat_facts",
    "input_facts",
    "layer_table",
    "ordered_candidates",
    "split_table",
    "usage_commands",
    "verdict_sentences",
    "warnings",
]

_ORDER = ("winner", "finalist", "kept", "raced", "rejected")


class Command(NamedTuple):
    """A command line and what it is for."""

    purpose: str
    line: str


class LayerRow(NamedTuple):
    """A layer and its share of the network's multiply-adds and parameters, in [0, 1]."""

    layer: LayerProfile
    macs_share: float
    params_share: float


class LayerTable(NamedTuple):
    """The profile of the network that ships; `problem` says why there is none."""

    profile: Profile | None
    rows: tuple[LayerRow, ...]
    problem: str = ""


class SplitTable(NamedTuple):
    """Pictures per class and split."""

    splits: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    totals: tuple[int, ...]


def verdict_sentences(run: FitRun, t: Translate = ENGLISH) -> list[str]:
    """Return what was found in full sentences, for a reader who knows nothing of the run."""
    summary = run.summary
    if summary is None:
        return _sentences_without_verdict(run, t)
    sentences = []
    budget_ms = run.budget_ms
    if summary.measured is not None and budget_ms is not None:
        measured = summary.measured
        margin = measured.interval_ms[1] / budget_ms - 1
        sentences.append(
            t(
                "On {platform} one picture takes {median} (95 % interval of the median "
                "{interval}).",
                median=show_ms(measured.median_ms),
                interval=show_interval_ms(measured.interval_ms, t("to")),
                platform=summary.platform,
            )
        )
        distance = {"share": show_percent(abs(margin)), "budget": show_budget_ms(budget_ms)}
        if margin > 0:
            sentences.append(
                t("The upper end is {share} above the budget of {budget}.", **distance)
            )
        else:
            sentences.append(
                t("The upper end is {share} below the budget of {budget}.", **distance)
            )
    if summary.accuracy is not None:
        accuracy = summary.accuracy
        sentences.append(
            t(
                "On {n} {split} pictures the exported file names the right class for {share} "
                "(95 % interval {low} to {high}).",
                n=f"{accuracy.n:,}",
                split=accuracy.split,
                share=show_percent(accuracy.artifact),
                low=show_percent(accuracy.interval[0]),
                high=show_percent(accuracy.interval[1]),
            )
        )
    if summary.shortfall == "below_asked" and summary.min_accuracy is not None:
        least = show_percent(summary.min_accuracy)
        sentences.append(t("That is below the {least} that was asked for.", least=least))
    elif summary.shortfall == "guessing":
        sentences.append(
            t(
                "That is not surely better than always answering with the commonest class "
                "({share}).",
                share=show_percent(summary.commonest_class),
            )
        )
    if summary.verdict == "infeasible":
        sentences.append(
            t(
                "Nothing that was measured on {platform} keeps {budget}.",
                platform=summary.platform,
                budget=show_budget_ms(budget_ms),
            )
        )
        if summary.nearest_feasible_ms is not None:
            least = show_ms(summary.nearest_feasible_ms)
            sentences.append(t("The least that would do is {least}.", least=least))
    elif summary.verdict == "not_met" and summary.nearest_feasible_ms is not None:
        least = show_ms(summary.nearest_feasible_ms)
        sentences.append(t("Nearest feasible budget: {least}.", least=least))
    return sentences


def _sentences_without_verdict(run: FitRun, t: Translate) -> list[str]:
    if run.trained is not None:
        trained = run.trained
        return [
            t(
                "After {epochs} epochs the network names the right class for {share} of {n} "
                "{split} pictures (95 % interval {low} to {high}).",
                epochs=trained.epochs,
                share=show_percent(trained.accuracy),
                n=f"{trained.n:,}",
                split=trained.split,
                low=show_percent(trained.interval[0]),
                high=show_percent(trained.interval[1]),
            )
        ]
    if run.ended:
        return [t("The run is finished, but its summary cannot be read.")]
    done = ", ".join(dict.fromkeys(stage.stage for stage in run.stages)) or t("none")
    if run.under_way:
        return [t("A process works on this run now. Stages finished so far: {done}.", done=done)]
    return [
        t("Nobody works on this run, and it has no result. Stages finished: {done}.", done=done),
        t("The same command takes it up where it stopped."),
    ]


def warnings(run: FitRun, t: Translate = ENGLISH) -> list[str]:
    """Return what weakens the result: load, disturbance, damage by export, failed checks."""
    found = []
    proof = run.proof
    if proof is not None and proof.disturbed:
        found.append(
            t(
                "The timing behind the verdict was disturbed: single runs scatter more than on a "
                "quiet machine. Measure again when nothing else runs."
            )
        )
    if proof is not None and (proof.foreign_cpu_share or 0.0) > MAX_FOREIGN_CPU_SHARE:
        found.append(
            t(
                "Other programs used {share} of the processor while the file was timed.",
                share=show_percent(proof.foreign_cpu_share, 0),
            )
        )
    summary = run.summary
    if summary is not None and (summary.foreign_cpu_share or 0.0) > MAX_FOREIGN_CPU_SHARE:
        found.append(
            t(
                "Other programs used {share} of the processor during the run: a quiet machine "
                "trains longer in the same time.",
                share=show_percent(summary.foreign_cpu_share, 0),
            )
        )
    if summary is not None and summary.verdict != "infeasible" and summary.pretrained is None:
        found.append(t("Trained from random weights: no pretrained weights were used."))
    accuracy = None if summary is None else summary.accuracy
    if accuracy is not None and accuracy.network is not None:
        lost = accuracy.network - accuracy.artifact
        if lost > 0.003:
            found.append(t("Export cost {points} points of accuracy.", points=f"{100 * lost:.1f}"))
    failed = [line.platform for line in run.verifications if line.passed is False]
    if failed:
        names = ", ".join(dict.fromkeys(failed))
        found.append(t("Verification failed on {platforms}.", platforms=names))
    return found


def usage_commands(run: FitRun, t: Translate = ENGLISH) -> list[Command]:
    """Return the commands that use the result, ready to paste."""
    summary = run.summary
    if summary is None:
        return []
    folder = shlex.quote(summary.run_directory)
    data = shlex.quote(run.data or "DATA")
    commands = []
    if summary.bundle is not None:
        script = shlex.quote(str(Path(summary.run_directory) / summary.bundle / "run.py"))
        purpose = t("Run the file anywhere; the folder holds all it needs beside the runtime")
        commands.append(Command(purpose, f"python {script} picture.jpg"))
    if summary.artifact is not None:
        line = f"featherweight predict {folder} picture.jpg"
        commands.append(Command(t("Classify pictures on this machine"), line))
        line = f"featherweight measure {folder} --on {shlex.quote(summary.platform)}"
        commands.append(Command(t("Time it again"), line))
    if summary.verdict == "infeasible" and summary.nearest_feasible_ms is not None:
        # A new measurement of the same file moves by a few percent: ask for a little more.
        latency = f"{summary.nearest_feasible_ms * 1.07:.3g}ms"
        purpose = t("Ask for a budget that can be kept")
    else:
        latency = f"{(run.budget_ms or 1.0) / 2:.3g}ms"
        purpose = t("Train for another budget")
    where = str(run.identity.get("platform", summary.platform))
    if len(run.identity.get("precisions", ())) > 1:  # one that is spelled out would be the only one
        where = where.split(",precision=")[0]
    where = shlex.quote(where)
    if summary.artifact is not None and "from" not in run.identity:
        line = f"featherweight fit --from {folder} --latency {latency}"
        purpose_from = t("Ask its networks for another budget, in a minute or two")
        commands.append(Command(purpose_from, line))
    line = f"featherweight fit {data} --latency {latency} --on {where}"
    commands.append(Command(purpose, line))
    return commands


def input_facts(artifact: Mapping[str, Any], t: Translate = ENGLISH) -> list[tuple[str, str]]:
    """Return what the file takes and gives, from its artifact.json."""
    facts = []
    shape = artifact.get("input_shape")
    if isinstance(shape, list | tuple) and len(shape) == 3:
        height, width, channels = shape
        facts.append((t("Input"), f"uint8, 1 x {height} x {width} x {channels}, RGB"))
        preprocessing = artifact.get("preprocessing")
        if isinstance(preprocessing, Mapping) and isinstance(height, int):
            shorter = round(height / float(preprocessing.get("crop_fraction") or 1.0))
            way = preprocessing.get("interpolation", "bilinear")
            steps = t(
                "shorter side to {shorter} pixels ({way}), then the centre {height} x {width}",
                shorter=shorter, way=way, height=height, width=width,
            )  # fmt: skip
            facts.append((t("Before the file"), steps))
            facts.append((t("Inside the file"), t("conversion to float and normalisation")))
    labels = artifact.get("labels")
    if isinstance(labels, list | tuple):
        facts.append((t("Output"), t("{n} scores (logits), one per class", n=len(labels))))
    for key, title in (("files", t("Files")), ("sha256", "SHA-256")):
        value = artifact.get(key)
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            facts.append((title, text))
    return facts


def layer_table(architecture: Architecture | None) -> LayerTable:
    """Return the layers of the network with their shares."""
    if architecture is None:
        return LayerTable(None, (), "architecture.json is not there")
    try:
        counted = profile(architecture)
    except FeatherweightError as error:
        return LayerTable(None, (), str(error))
    rows = tuple(
        LayerRow(
            layer,
            macs_share=(layer.macs or 0) / (counted.macs or 1),
            params_share=(layer.params or 0) / (counted.params or 1),
        )
        for layer in counted.layers
    )
    return LayerTable(counted, rows)


def split_table(splits: Mapping[str, Any]) -> SplitTable | None:
    """Return pictures per class from splits.json.

    Args:
        splits: {split: {class: n}}, {split: [n, ...]} or {split: n}.
    """
    columns: dict[str, dict[str, int]] = {}
    for split, content in splits.items():
        counts = _per_class(content)
        if counts:
            columns[split] = counts
    if not columns:
        return None
    names = list(dict.fromkeys(name for counts in columns.values() for name in counts))
    return SplitTable(
        splits=tuple(columns),
        rows=tuple(
            (name, tuple(counts.get(name) for counts in columns.values())) for name in names
        ),
        totals=tuple(sum(counts.values()) for counts in columns.values()),
    )


def ordered_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the winner first, then by how far they came, then by accuracy and latency."""

    def key(candidate: Candidate) -> tuple[int, float, float]:
        latency = candidate.latency_ms if candidate.latency_ms is not None else float("inf")
        return _ORDER.index(candidate.status), -(candidate.val_accuracy or 0.0), latency

    return sorted(candidates, key=key)


def flat_facts(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested mapping as (dotted key, text) rows."""
    facts: list[tuple[str, str]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            facts += flat_facts(value, f"{name}.")
        elif value is not None:
            facts.append(
                (name, value if isinstance(value, str) else json.dumps(value, default=str))
            )
    return facts


def commands_run(settings: Mapping[str, Any]) -> list[str]:
    """Return the exact command of every attempt, oldest first."""
    given = settings.get("commands")
    commands = [str(command) for command in given] if isinstance(given, list) else []
    attempts = settings.get("attempts")
    for attempt in attempts if isinstance(attempts, list) else []:
        if isinstance(attempt, Mapping) and attempt.get("command"):
            started = f"  # {attempt['started']}" if attempt.get("started") else ""
            commands.append(f"{attempt['command']}{started}")
    return list(dict.fromkeys(commands))


def _per_class(content: object) -> dict[str, int]:
    if isinstance(content, Mapping):
        return {str(name): n for name, n in content.items() if isinstance(n, int)}
    if isinstance(content, list):
        return {f"class {k}": n for k, n in enumerate(content) if isinstance(n, int)}
    return {"all": content} if isinstance(content, int) else {}
