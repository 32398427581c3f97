"""Turn a run into one HTML page that needs nothing but a browser."""

from __future__ import annotations

import json
from functools import partial

import jinja2
from markupsafe import Markup

from featherweight.reporting import charts, units
from featherweight.reporting.language import Translate, translator
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS
from featherweight.reporting.sections.verdict import LABELS

__all__ = ["render_html", "template_environment"]


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
            label=t(LABELS[run.status]),
            sections=[
                (name, section.values(run, t))
                for name, section in ((name, SECTIONS[name]) for name in SECTIONS)
                if section.has(run)
            ],
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
