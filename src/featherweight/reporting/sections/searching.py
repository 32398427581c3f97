"""How a space was searched: rewards over the trials, the front, which options were proposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from featherweight.reporting.figure import Figure, axis, layout_of, safe
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section
from featherweight.reporting.units import show_ms
from featherweight.searching.agreement import CHECKED, Agreement, agreement
from featherweight.searching.trials_file import TrialRow, front_of

__all__ = ["OptionRow", "agreement_chart", "front_chart", "options_table", "rewards_chart"]


class OptionRow(NamedTuple):
    """How often each option of a choice was proposed in the first and in the second half."""

    choice: str
    options: tuple[tuple[str, float, float], ...]


def rewards_chart(trials: Sequence[TrialRow], t: Translate) -> Figure | None:
    """Return the reward of every trained trial, and the best so far."""
    trained = [one for one in trials if one.reward is not None]
    if len(trained) < 2:
        return None
    best: list[float] = []
    for one in trained:
        best.append(max([one.reward or 0.0, *best[-1:]]))
    numbers = [one.trial for one in trained]
    return {
        "data": [
            _marks(trained, numbers, [one.reward for one in trained], t),
            _line(numbers, best, name=t("best so far")),
        ],
        "layout": layout_of(xaxis=axis(t("trial")), yaxis=axis(t("reward"))),
    }


def front_chart(trials: Sequence[TrialRow], t: Translate) -> Figure | None:
    """Return val accuracy over milliseconds of what was trained, with what none beats in both."""
    trained = [one for one in trials if one.state == "trained"]
    if len(trained) < 2:
        return None
    front = front_of(trained)
    layout = layout_of(
        xaxis=axis(t("milliseconds per picture")), yaxis=axis(t("val accuracy after the trial"))
    )
    layout["yaxis"]["tickformat"] = ".0%"
    latencies, accuracies = ([one.latency_ms for one in trained], [one.accuracy for one in trained])
    return {
        "data": [
            _marks(trained, latencies, accuracies, t),
            _line(
                [one.latency_ms for one in front],
                [one.accuracy for one in front],
                name=t("none beats these in both"),
            ),
        ],
        "layout": layout,
    }


def agreement_chart(trials: Sequence[TrialRow], t: Translate) -> Figure | None:
    """Return accuracy after a training alone over the cheap score, of what was judged both ways."""
    checked = _checked(trials)
    if len(checked) < 2:
        return None
    layout = layout_of(
        xaxis=axis(t("score of the evaluator")), yaxis=axis(t("val accuracy, trained alone"))
    )
    layout["yaxis"]["tickformat"] = ".0%"
    marks = _marks(checked, [one.score for one in checked], [one.alone for one in checked], t)
    return {"data": [marks], "layout": layout}


def _checked(trials: Sequence[TrialRow]) -> list[TrialRow]:
    return [one for one in trials if one.score is not None and one.alone is not None]


def _agreement(trials: Sequence[TrialRow]) -> Agreement | None:
    checked = _checked(trials)
    if len(checked) < CHECKED:
        return None
    return agreement(
        [one.score or 0.0 for one in checked],
        [one.macs or 0 for one in checked],
        [one.alone or 0.0 for one in checked],
    )


def _marks(
    trials: Sequence[TrialRow],
    x: Sequence[float | None],
    y: Sequence[float | None],
    t: Translate,
) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "name": t("trial"),
        "marker": {"color": "var(--series-1)"},
        "hovertext": [_hover(one, t) for one in trials],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _line(x: Sequence[float | None], y: Sequence[float | None], *, name: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": {"color": "var(--series-2)", "width": 2, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _hover(trial: TrialRow, t: Translate) -> str:
    lines = [f"<b>{t('trial')} {trial.trial}</b>"]
    if trial.latency_ms is not None:
        lines.append(show_ms(trial.latency_ms))
    if trial.accuracy is not None:
        is_scored = trial.score is not None and trial.alone is None
        is_foretold = is_scored or trial.stopped is not None
        mark = f" ({t('foretold')})" if is_foretold else ""
        lines.append(f"{trial.accuracy:.1%}{mark}")
    lines += [f"{safe(name)}: {safe(option)}" for name, option in trial.options.items()]
    return "<br>".join(lines)


def options_table(trials: Sequence[TrialRow]) -> list[OptionRow]:
    """Return the share of each option among the first and the second half of all proposals."""
    if len(trials) < 2:
        return []
    ordered = sorted(trials, key=lambda one: one.trial)
    halves = ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]
    found = []
    for choice in ordered[0].options:
        names = sorted({one.options[choice] for one in ordered}, key=lambda text: (len(text), text))
        found.append(
            OptionRow(
                choice,
                tuple(
                    (name, *(_share(half, choice, name) for half in halves))  # type: ignore[misc]
                    for name in names
                ),
            )
        )
    return found


def _share(trials: Sequence[TrialRow], choice: str, option: str) -> float:
    return sum(one.options[choice] == option for one in trials) / len(trials)


def _values(run: FitRun, t: Translate) -> dict[str, Any]:
    states = [one.state for one in run.trials]
    return {
        "stopped": sum(one.stopped is not None for one in run.trials),
        "counts": {state: states.count(state) for state in ("trained", "slow", "failed")},
        "rewards": rewards_chart(run.trials, t),
        "front": front_chart(run.trials, t),
        "agreement": _agreement(run.trials),
        "foretold": sum(one.score is not None and one.alone is None for one in run.trials),
        "agreement_chart": agreement_chart(run.trials, t),
        "options": options_table(run.trials),
        "failed": [one for one in run.trials if one.state == "failed"],
    }


def _is_searched(run: FitRun) -> bool:
    return bool(run.trials)


SECTIONS.add("searching", Section(_values, has=_is_searched))
