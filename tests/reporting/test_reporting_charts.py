"""The charts: valid plotly figures that show every point and say what they leave out."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest
from reporting_fixture import HOSTILE, example_candidates, example_samples_ms, example_summary

from featherweight.candidates import latest_candidates
from featherweight.reporting.charts import accuracy_latency_chart, latency_chart, training_chart
from featherweight.reporting.reading import EpochLine


def latency(samples: list[float]) -> dict[str, Any]:
    chart = latency_chart(samples, budget_ms=3.0, median_ms=2.7, interval_ms=(2.69, 2.72))
    assert chart is not None
    return chart


def measured(**changes: Any) -> dict[str, Any]:
    candidates = [one.model_copy(update=changes) for one in example_candidates()]
    chart = accuracy_latency_chart(
        latest_candidates(candidates), curve=example_summary().curve, budget_ms=3.0
    )
    assert chart is not None
    return chart


def loss_lines() -> list[EpochLine]:
    return [
        EpochLine(
            network="a",
            phase=phase,
            epoch=k,
            images_seen=100 * k,
            train_loss=1.0,
            val_loss=1.1,
            val_accuracy=0.5,
        )
        for phase in ("race-1", "train")
        for k in (1, 2)
    ]


def test_plotly_accepts_every_figure() -> None:
    figures = [
        latency(example_samples_ms()),
        measured(),
        measured(val_accuracy=None),
        training_chart(loss_lines(), quantity="loss"),
        training_chart(loss_lines(), quantity="accuracy"),
    ]
    for figure in figures:
        go.Figure(figure)  # raises ValueError on a property plotly does not know
    with pytest.raises(ValueError, match="colour"):
        go.Figure({"data": [{"type": "scatter", "marker": {"colour": "red"}}]})


def test_histogram_counts_every_run_it_does_not_draw() -> None:
    samples = example_samples_ms()
    chart = latency(samples)
    drawn = chart["data"][0]["x"]
    missing = len(samples) - len(drawn)
    assert missing == 5
    assert f"{missing} slower" in chart["layout"]["xaxis"]["title"]["text"]
    low, high = chart["layout"]["xaxis"]["range"]
    assert low < min(drawn)
    assert high > 3.0


def test_equal_samples_are_drawn() -> None:
    chart = latency([2.7] * 20)
    assert chart["data"][0]["x"] == [2.7] * 20
    assert chart["data"][0]["xbins"]["size"] > 0


def test_everything_measured_is_on_the_chart_once() -> None:
    candidates = latest_candidates(example_candidates())
    traces = [trace for trace in measured()["data"] if trace["mode"] == "markers"]
    points = sorted(x for trace in traces for x in trace["x"])
    assert points == sorted(one.latency_ms for one in candidates if one.latency_ms is not None)
    strip = [trace for trace in traces if trace.get("yaxis") == "y2"]
    untrained = sum(one.val_accuracy is None for one in candidates)
    assert sum(len(trace["x"]) for trace in strip) == untrained > 0


def test_winner_is_drawn_last_of_the_trained() -> None:
    trained = [t["name"] for t in measured()["data"] if t["mode"] == "markers" and "yaxis" not in t]
    assert trained[-1] == "winner, int8"


def test_names_are_escaped_for_plotly() -> None:
    texts = [
        text
        for trace in measured(name=HOSTILE, reason=HOSTILE)["data"]
        if "hovertext" in trace
        for text in trace["hovertext"]
    ]
    assert texts
    assert all("<script" not in text and "&lt;script" in text for text in texts)


def test_budget_label_stands_where_its_line_stands_on_a_logarithmic_axis() -> None:
    layout = measured()["layout"]
    assert layout["xaxis"]["type"] == "log"
    # Shapes take the value, annotations its logarithm: plotly's own convention.
    assert layout["shapes"][0]["x0"] == 3.0
    assert 10 ** layout["annotations"][0]["x"] == pytest.approx(3.0)


def test_training_chart_is_per_network_and_phase() -> None:
    chart = training_chart(loss_lines(), quantity="loss")
    assert chart is not None
    assert [trace["name"] for trace in chart["data"]] == [
        "a (race-1)",
        "a (race-1), training",
        "a (train)",
        "a (train), training",
    ]
    assert chart["data"][2]["x"] == [100, 200]
    assert chart["data"][0]["line"]["width"] < chart["data"][2]["line"]["width"]


def test_nothing_to_draw_is_no_chart() -> None:
    assert latency_chart((), budget_ms=3.0, median_ms=None, interval_ms=None) is None
    assert accuracy_latency_chart((), curve=(), budget_ms=3.0) is None
    assert training_chart([EpochLine(network="a")], quantity="accuracy") is None


@pytest.mark.parametrize(
    ("accuracies", "least", "most"),
    [((0.909, 0.906), 0.84, 0.97), ((0.2, 0.9), 0.1, 1.0), ((0.99, 0.98), 0.88, 1.02)],
)
def test_small_differences_of_accuracy_stay_small(
    accuracies: tuple[float, float], least: float, most: float
) -> None:
    point = example_summary().curve[0]
    curve = [point.model_copy(update={"val_accuracy": accuracy}) for accuracy in accuracies]
    candidates = [one.model_copy(update={"val_accuracy": None}) for one in example_candidates()]
    chart = accuracy_latency_chart(candidates, curve=curve, budget_ms=3.0)
    assert chart is not None
    low, high = chart["layout"]["yaxis"]["range"]
    assert least < low < min(accuracies)
    assert max(accuracies) < high < most
    assert high - low > 0.1


def test_line_joins_only_what_nothing_faster_equals() -> None:
    point = example_summary().curve[0]
    curve = [
        point.model_copy(update={"latency_ms": latency, "val_accuracy": accuracy})
        for latency, accuracy in ((3.0, 0.9), (1.0, 0.7), (2.0, 0.6), (2.5, 0.8))
    ]
    chart = accuracy_latency_chart(example_candidates(), curve=curve, budget_ms=3.0)
    assert chart is not None
    (line,) = [trace for trace in chart["data"] if trace["mode"] == "lines"]
    assert line["x"] == [1.0, 2.5, 3.0]
