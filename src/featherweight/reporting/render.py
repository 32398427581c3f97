"""Turn a run into one HTML page that needs nothing but a browser."""

from __future__ import annotations

import json
from functools import partial

import jinja2
from markupsafe import Markup

from featherweight.reporting import charts, sections, units
from featherweight.reporting.figure import Figure
from featherweight.reporting.language import Translate, translator
from featherweight.reporting.reading import FitRun

__all__ = ["render_html", "template_environment"]

_LABELS = {
    "met": "Budget met",
    "too_inaccurate": "Too inaccurate",
    "not_met": "Budget not met",
    "infeasible": "Budget infeasible",
    "running": "Running",
    "cut": "Cut short",
    "finished": "Finished",
}


def render_html(run: FitRun, *, language: str = "en", reload_s: float | None = None) -> str:
    """Return the report of a run, finished or not; with `reload_s` it loads itself anew.

    Everything from the run's files is escaped; the page fetches nothing (its content security
    policy forbids it).

    Raises:
        UsageError: there is no such language.
    """
    summary, t = run.summary, translator(language)
    return (
        template_environment(t)
        .get_template("report.html.j2")
        .render(
            run=run,
            reload_s=reload_s,
            language=language,
            summary=summary,
            identity=run.identity,
            label=t(_LABELS[run.status]),
            sentences=sections.verdict_sentences(run, t),
            warnings=sections.warnings(run, t),
            balanced=summary.balanced_accuracy if summary else None,
            commands=sections.usage_commands(run, t),
            inputs=sections.input_facts(run.artifact, t),
            charts=_charts(run, t),
            over_budget=_over_budget(run),
            candidates=sections.ordered_candidates(run.candidates),
            layers=sections.layer_table(run.architecture),
            splits=sections.split_table(run.splits),
            stage_seconds=sum(stage.seconds or 0.0 for stage in run.stages),
            settings=sections.flat_facts(run.identity),
            attempts=sections.commands_run(run.settings),
            environment=sections.flat_facts(run.environment),
            plotly=Markup(charts.plotly_script()),
        )
    )


def template_environment(t: Translate) -> jinja2.Environment:
    """Return what renders the templates of this package in a language."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featherweight.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        budget_ms=units.show_budget_ms,
        bytes=units.show_bytes,
        compact=partial(json.dumps, default=str),
        count=units.show_count,
        integer=units.show_integer,
        interval_ms=partial(units.show_interval_ms, to=t("to")),
        ms=units.show_ms,
        percent=units.show_percent,
        seconds=units.show_seconds,
    )
    environment.globals["t"] = t
    return environment


def _charts(run: FitRun, t: Translate) -> dict[str, Figure | None]:
    proof = run.proof
    return {
        "latency": charts.latency_chart(
            proof.samples_ms if proof is not None else (),
            budget_ms=run.budget_ms,
            median_ms=proof.median_ms if proof is not None else None,
            interval_ms=proof.interval_ms if proof is not None else None,
            t=t,
        ),
        "measured": charts.accuracy_latency_chart(
            run.candidates,
            curve=run.summary.curve if run.summary is not None else (),
            budget_ms=run.budget_ms,
            t=t,
        ),
        "loss": charts.training_chart(run.epochs, quantity="loss", t=t),
        "accuracy": charts.training_chart(run.epochs, quantity="accuracy", t=t),
    }


def _over_budget(run: FitRun) -> int | None:
    """Return how many single runs took longer than the budget."""
    if run.proof is None or run.budget_ms is None:
        return None
    return sum(sample > run.budget_ms for sample in run.proof.samples_ms)
