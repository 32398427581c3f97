"""The answer: figures, and sentences for a reader who knows nothing of the run."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section
from featherweight.reporting.units import show_budget_ms, show_interval_ms, show_ms, show_percent

__all__ = ["LABELS", "verdict_sentences"]


LABELS = {
    "met": "Budget met",
    "too_inaccurate": "Too inaccurate",
    "not_met": "Budget not met",
    "infeasible": "Budget infeasible",
    "running": "Running",
    "cut": "Cut short",
    "finished": "Finished",
}
"""Of a run's status."""


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


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    return {
        "label": t(LABELS[run.status]),
        "sentences": verdict_sentences(run, t),
        "balanced": run.summary.balanced_accuracy if run.summary else None,
    }


SECTIONS.add("verdict", Section(_values))
