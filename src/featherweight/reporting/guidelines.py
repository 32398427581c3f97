"""Advice about a network, and ShuffleNetV2's tables on a platform, as pages with charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from featherweight.reporting.advice_charts import experiment_chart, savings_chart
from featherweight.reporting.charts import plotly_script
from featherweight.reporting.language import ENGLISH
from featherweight.reporting.render import template_environment

if TYPE_CHECKING:
    from featherweight.advising.advice import Advice
    from featherweight.advising.experiment import Experiment

__all__ = ["render_experiment", "render_guidelines"]


def render_guidelines(advice: Advice) -> str:
    """Return one HTML page that needs nothing but a browser."""
    return (
        template_environment(ENGLISH)
        .get_template("guidelines.html.j2")
        .render(
            v={"advice": advice, "chart": savings_chart(advice, ENGLISH)},
            plotly=Markup(plotly_script()),
        )
    )


def render_experiment(experiment: Experiment) -> str:
    """Return one HTML page that needs nothing but a browser."""
    charts = {
        one.guideline: experiment_chart(
            [trial for trial in experiment.trials if trial.guideline == one.guideline]
        )
        for one in experiment.results
    }
    return (
        template_environment(ENGLISH)
        .get_template("experiment.html.j2")
        .render(experiment=experiment, charts=charts, plotly=Markup(plotly_script()))
    )
