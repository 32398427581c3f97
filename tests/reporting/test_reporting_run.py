"""The records of a fit run: what they write is what design section 8 promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from reporting_fixture import example_candidates, example_summary

from featherweight.candidates import CandidateRow, latest_candidates
from featherweight.errors import RecordError
from featherweight.records import parse_record, read_json, to_plain, write_json
from featherweight.reporting.run import FitSummary

PROMISED = {
    "verdict",
    "budget",
    "platform",
    "measured",
    "utilisation",
    "accuracy",
    "curve",
    "artifact",
    "run_directory",
    "nearest_feasible_ms",
}


def test_summary_has_the_promised_keys() -> None:
    plain = to_plain(example_summary())
    assert plain.keys() >= PROMISED
    assert plain["budget"] == {"latency_ms": 3.0}
    assert plain["measured"].keys() == {"median_ms", "interval_ms"}
    assert plain["accuracy"].keys() == {"network", "artifact", "split", "n", "interval"}
    assert plain["curve"][0].keys() == {
        "name",
        "precision",
        "resolution",
        "latency_ms",
        "interval_ms",
        "val_accuracy",
        "architecture_digest",
    }
    assert example_summary().budget.latency_ms == 3.0


def test_summary_survives_its_file(tmp_path: Path) -> None:
    summary = example_summary()
    write_json(tmp_path / "summary.json", summary)
    read = parse_record(FitSummary, read_json(tmp_path / "summary.json"), source="summary.json")
    assert read == summary


def test_unknown_verdict_names_the_key() -> None:
    plain = {**to_plain(example_summary()), "verdict": "probably"}
    with pytest.raises(RecordError, match="verdict"):
        parse_record(FitSummary, plain, source="summary.json")


def test_later_candidate_lines_supersede_per_name_and_precision() -> None:
    lines = example_candidates()
    kept = latest_candidates(lines)
    keys = [(one.name, one.precision) for one in kept]
    assert len(kept) == len(set(keys)) < len(lines)
    last = {(one.name, one.precision): one for one in lines}
    assert all(last[one.name, one.precision] == one for one in kept)
    assert keys == list(dict.fromkeys((one.name, one.precision) for one in lines))


def test_candidate_survives_its_line() -> None:
    for candidate in example_candidates():
        assert parse_record(CandidateRow, to_plain(candidate), source="line") == candidate
