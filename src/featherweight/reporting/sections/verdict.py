"""The answer: figures, and sentences for a reader who knows nothing of the run."""

from __future__ import annotations

from typing import Any

from featherweight.reporting.language import ENGLISH, Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.run import FitSummary
from featherweight.reporting.section import SECTIONS, Section
from featherweight.reporting.units import (
    show_budget_ms,
    show_interval_ms,
    show_metric,
    show_ms,
    show_percent,
)
from featherweight.tasks.task import CLASSIFICATION, TASKS

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

_ACCURACY = TASKS[CLASSIFICATION].metric


def verdict_sentences(run: FitRun, t: Translate = ENGLISH) -> list[str]:
    """Return what was found in full sentences, for a reader who knows nothing of the run."""
    summary = run.summary
    if summary is None:
        return _sentences_without_verdict(run, t)
    return [
        *_of_the_latency(run, summary, t),
        *_of_the_accuracy(run, summary, t),
        *_of_what_would_do(run, summary, t),
    ]


def _of_the_latency(run: FitRun, summary: FitSummary, t: Translate) -> list[str]:
    budget_ms = run.budget_ms
    if summary.measured is None or budget_ms is None:
        return []
    measured = summary.measured
    margin = measured.interval_ms[1] / budget_ms - 1
    distance = {"share": show_percent(abs(margin)), "budget": show_budget_ms(budget_ms)}
    above = t("The upper end is {share} above the budget of {budget}.", **distance)
    below = t("The upper end is {share} below the budget of {budget}.", **distance)
    return [
        t(
            "On {platform} one picture takes {median} (95 % interval of the median {interval}).",
            median=show_ms(measured.median_ms),
            interval=show_interval_ms(measured.interval_ms, t("to")),
            platform=summary.platform,
        ),
        above if margin > 0 else below,
    ]


def _of_the_accuracy(run: FitRun, summary: FitSummary, t: Translate) -> list[str]:
    sentences = []
    if summary.accuracy is not None:
        accuracy = summary.accuracy
        evidence = {
            "n": f"{accuracy.n:,}",
            "split": accuracy.split,
            "share": show_percent(accuracy.artifact),
            "low": show_percent(accuracy.interval[0]),
            "high": show_percent(accuracy.interval[1]),
        }
        if run.metric == _ACCURACY:
            sentence = t(
                "On {n} {split} pictures the exported file names the right class for {share} "
                "(95 % interval {low} to {high}).",
                **evidence,
            )
        else:
            sentence = t(
                "On {n} {split} pictures the {metric} of the exported file is {share} "
                "(95 % interval {low} to {high}).",
                metric=show_metric(run.metric),
                **evidence,
            )
        sentences.append(sentence)
    if "ap50" in summary.details:
        share = show_percent(summary.details["ap50"])
        sentences.append(t("Where half an overlap is enough (AP50) it is {share}.", share=share))
    if summary.shortfall == "below_asked" and summary.min_accuracy is not None:
        least = show_percent(summary.min_accuracy)
        sentences.append(t("That is below the {least} that was asked for.", least=least))
    elif summary.shortfall == "guessing" and "ap50" in summary.details:
        share = show_percent(summary.commonest_class)
        sentences.append(
            t(
                "That is next to nothing: a detector must surely have more than {share}.",
                share=share,
            )
        )
    elif summary.shortfall == "guessing":
        sentences.append(
            t(
                "That is not surely better than always answering with the commonest class "
                "({share}).",
                share=show_percent(summary.commonest_class),
            )
        )
    return sentences


def _of_what_would_do(run: FitRun, summary: FitSummary, t: Translate) -> list[str]:
    nearest_ms = summary.nearest_feasible_ms
    if summary.verdict == "infeasible" and run.identity.get("verb") == "ghost":
        return [
            t(
                "Ghost modules are not surely faster on {platform}: nothing was changed.",
                platform=summary.platform,
            )
        ]
    if summary.verdict == "infeasible":
        nothing = t(
            "Nothing that was measured on {platform} keeps {budget}.",
            platform=summary.platform,
            budget=show_budget_ms(run.budget_ms),
        )
        if nearest_ms is None:
            return [nothing]
        return [nothing, t("The least that would do is {least}.", least=show_ms(nearest_ms))]
    if summary.verdict == "not_met" and nearest_ms is not None:
        return [t("Nearest feasible budget: {least}.", least=show_ms(nearest_ms))]
    return []


def _sentences_without_verdict(run: FitRun, t: Translate) -> list[str]:
    if run.trained is not None:
        trained = run.trained
        evidence = {
            "epochs": trained.epochs,
            "share": show_percent(trained.value),
            "n": f"{trained.n:,}",
            "split": trained.split,
            "low": show_percent(trained.interval[0]),
            "high": show_percent(trained.interval[1]),
        }
        if run.metric == _ACCURACY:
            sentence = t(
                "After {epochs} epochs the network names the right class for {share} of {n} "
                "{split} pictures (95 % interval {low} to {high}).",
                **evidence,
            )
        else:
            sentence = t(
                "After {epochs} epochs the {metric} of the network is {share} on {n} {split} "
                "pictures (95 % interval {low} to {high}).",
                metric=show_metric(run.metric),
                **evidence,
            )
        return [sentence]
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
        "metric": t("accuracy") if run.metric == _ACCURACY else show_metric(run.metric),
        "balanced": run.summary.balanced_accuracy if run.summary else None,
    }


SECTIONS.add("verdict", Section(_values))
