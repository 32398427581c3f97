"""What weakens the result, and files that could not be read."""

from __future__ import annotations

from typing import Any

from featherweight.measuring.measurement import MAX_FOREIGN_CPU_SHARE
from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section
from featherweight.reporting.units import show_percent

__all__ = ["warnings"]


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


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    return {"warnings": warnings(run, t)}


SECTIONS.add("notes", Section(_values, has=lambda run: bool(run.problems or warnings(run))))
