"""How the result is used: commands to paste, and what the file takes and gives."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["Command", "input_facts", "usage_commands"]


class Command(NamedTuple):
    """A command line and what it is for."""

    purpose: str
    line: str


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
                shorter=shorter,
                way=way,
                height=height,
                width=width,
            )
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


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    return {"commands": usage_commands(run, t), "inputs": input_facts(run.artifact, t)}


SECTIONS.add("use", Section(_values))
