"""What is derived from samples, and that only samples are believed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from featherweight.devices.device import DeviceInfo
from featherweight.errors import RecordError
from featherweight.measuring.measurement import (
    Measurement,
    _of_same_turns,
    latencies_in_turns,
    median_interval,
    medians_in_turns,
    ratio_interval,
)
from featherweight.measuring.worker import rounds_of_turns
from featherweight.records import parse_record, to_plain


def measurement(samples: list[float], *, share: float | None = 0.0) -> Measurement:
    return Measurement(
        network="net",
        platform="local/onnxruntime:threads=1,precision=fp32",
        device_info=DeviceInfo(cpu="x", cores=2, os="Linux", arch="x86_64"),
        runtime_version="1.0",
        artifact_sha256="0" * 64,
        samples_ms=tuple(samples),
        warm_up_runs=3,
        started="2026-11-01T00:00:00+00:00",
        foreign_cpu_share=share,
    )


def test_statistics_by_hand() -> None:
    one = measurement([1.0, 2.0, 3.0, 4.0, 5.0])
    assert one.median_ms == 3.0
    assert one.p90_ms == pytest.approx(4.6)
    assert one.relative_iqr == pytest.approx(2 / 3)
    assert one.interval_ms[0] <= one.median_ms <= one.interval_ms[1]


def series(generator: np.random.Generator, *, correlation: float) -> tuple[float, ...]:
    """100 positive samples with the median 10 and the given correlation of neighbours."""
    noise = generator.standard_normal(150)
    values = np.zeros(150)
    for index in range(1, 150):
        values[index] = correlation * values[index - 1] + np.sqrt(1 - correlation**2) * noise[index]
    return tuple(10 * np.exp(0.1 * values[50:]))


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_the_interval_covers_the_true_median(correlation: float) -> None:
    generator = np.random.default_rng(7)
    intervals = [median_interval(series(generator, correlation=correlation)) for _ in range(60)]
    covered = sum(low <= 10 <= high for low, high in intervals)
    assert 50 <= covered <= 59
    # Theory for independent samples: 2 * 1.96 * 1.2533 * sigma / sqrt(n) = 0.49 at sigma = 1.
    widths = [high - low for low, high in intervals]
    assert 0.35 < np.mean(widths) < 0.85


def test_neighbours_that_resemble_each_other_widen_the_interval() -> None:
    low, high = median_interval(series(np.random.default_rng(0), correlation=0.8))
    shuffled = np.random.default_rng(1).permutation(
        series(np.random.default_rng(0), correlation=0.8)
    )
    single_low, single_high = median_interval(tuple(shuffled))
    assert high - low > 1.2 * (single_high - single_low)


def test_the_interval_is_reproducible_and_works_for_few_samples() -> None:
    samples = tuple(np.random.default_rng(0).uniform(1, 2, 30))
    assert median_interval(samples, seed=3) == median_interval(samples, seed=3)
    assert median_interval((2.0,)) == (2.0, 2.0)


def test_json_round_trip_with_derived_values_for_readers() -> None:
    one = measurement([1.0, 1.1, 0.9, 1.234567891])
    plain = json.loads(json.dumps(to_plain(one)))
    assert {"median_ms", "p90_ms", "interval_ms", "relative_iqr", "disturbed"} <= set(plain)
    assert plain["median_ms"] == one.median_ms
    again = parse_record(Measurement, plain, source="test")
    assert again == one
    assert hash(again) == hash(one)
    assert again.interval_ms == one.interval_ms


def test_derived_values_in_a_file_are_not_believed() -> None:
    plain = to_plain(measurement([2.0, 2.0, 2.0]))
    plain["median_ms"], plain["disturbed"] = 0.001, True
    again = parse_record(Measurement, plain, source="test")
    assert again.median_ms == 2.0
    assert not again.disturbed


@pytest.mark.parametrize("samples", [[], [0.0], [-1.0], [float("nan")]])
def test_impossible_samples_are_refused(samples: list[float]) -> None:
    plain = {**to_plain(measurement([1.0])), "samples_ms": samples}
    with pytest.raises(RecordError, match="samples_ms"):
        parse_record(Measurement, plain, source="test")


@pytest.mark.parametrize(
    ("samples", "share", "disturbed"),
    [
        ([1.0] * 20, 0.0, False),
        ([1.0] * 20, None, False),
        ([1.0] * 20, 0.09, False),
        ([1.0] * 20, 0.11, True),
        ([1.0] * 10 + [1.2] * 10, 0.0, False),
        ([1.0] * 10 + [1.5] * 10, 0.0, True),
    ],
)
def test_disturbed(samples: list[float], share: float | None, disturbed: bool) -> None:
    assert measurement(samples, share=share).disturbed is disturbed


@pytest.mark.parametrize(("change", "disturbed"), [(None, False), (-0.1, False), (-0.3, True)])
def test_a_clock_that_changed_disturbs(change: float | None, disturbed: bool) -> None:
    one = measurement([1.0, 1.01, 1.02], share=0.0)
    assert one.model_copy(update={"clock_change": change}).disturbed is disturbed


def test_a_ratio_is_known_better_than_the_times_when_both_were_slowed_together() -> None:
    generator = np.random.default_rng(3)
    drift = np.repeat(generator.uniform(1.0, 1.6, 10), 10)  # the machine's speed, in spells
    first = tuple(drift * (1 + 0.01 * generator.standard_normal(100)))
    second = tuple(1.2 * drift * (1 + 0.01 * generator.standard_normal(100)))
    low, high = ratio_interval(second, over=first)
    assert low < 1.2 < high
    own_low, own_high = median_interval(second)
    assert (high - low) / 1.2 < 0.4 * (own_high - own_low) / np.median(second)


def test_the_ratio_interval_covers_the_true_ratio() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for _ in range(60):
        one, two = (series(generator, correlation=0.3) for _ in range(2))
        low, high = ratio_interval(one, over=two)
        covered += low <= 1.0 <= high
    assert 50 <= covered <= 60


def turns_of_two_speeds(generator: np.random.Generator) -> list[Measurement]:
    """Three networks of 10, 9.7 and 2 ms; for some turns the machine is a third slower."""
    spells = np.repeat(generator.choice([1.0, 1.35], 16), 10)
    return [
        measurement((ms * spells * (1 + 0.03 * generator.standard_normal(160))).tolist())
        for ms in (10.0, 9.7, 2.0)
    ]


def test_turns_tell_networks_apart_where_medians_do_not() -> None:
    """Two speeds: a median lies anywhere between them, a ratio of one turn does not."""
    found, apart, widths = 0, 0, []
    for seed in range(20):
        measured = turns_of_two_speeds(np.random.default_rng(seed))
        first, second, third = latencies_in_turns(measured)
        assert first.interval_ms == (first.median_ms, first.median_ms)
        low, high = (end / first.median_ms for end in second.interval_ms)
        found += low <= 0.97 <= high
        apart += second.interval_ms[1] < first.median_ms
        assert third.median_ms / first.median_ms == pytest.approx(0.2, rel=0.02)
        plain = ratio_interval(measured[1].samples_ms, over=measured[0].samples_ms)
        widths.append((high - low, plain[1] - plain[0]))
    assert found >= 17
    assert apart == 20
    ours, plain_width = np.mean(widths, axis=0)
    assert ours < 0.7 * plain_width
    scaled = latencies_in_turns(measured, scale=2.0)
    assert scaled[1].median_ms == pytest.approx(2.0 * second.median_ms)


def test_medians_of_turns_are_beside_each_other() -> None:
    for seed in range(5):
        medians = medians_in_turns(turns_of_two_speeds(np.random.default_rng(seed)))
        assert medians[1] / medians[0] == pytest.approx(0.97, rel=0.01)
        assert medians[2] / medians[0] == pytest.approx(0.2, rel=0.01)
        assert 9.5 < medians[0] < 14.0


def as_taken(every: list[list[float]], counts: list[int]) -> list[Measurement]:
    """Return measurements of networks that the worker gave so many turns of those."""
    taken: list[list[float]] = [[] for _ in counts]
    for turn, present in enumerate(rounds_of_turns(counts, seed=1)):
        for index in present:
            taken[index].append(every[index][turn])
    return [measurement(own) for own in taken]


@pytest.mark.parametrize("counts", [[160, 150, 97], [97, 160, 150], [120, 119, 40]])
def test_samples_stand_beside_those_of_their_round(counts: list[int]) -> None:
    """Where both were there in a round, both samples of a pair are of it."""
    rounds = max(counts)
    measured = as_taken([[float(turn + 1) for turn in range(rounds)]] * 3, counts)
    for one, other in itertools.permutations(measured, 2):
        pairs = _of_same_turns([one.samples_ms, other.samples_ms], rounds=rounds)
        fewer, more = sorted((one.samples_ms, other.samples_ms), key=len)
        assert len(pairs[0]) == len(fewer)
        both = set(fewer) & set(more)
        assert sum(a == b for a, b in zip(*pairs, strict=True)) == len(both)
        assert all(abs(a - b) <= rounds / len(more) for a, b in zip(*pairs, strict=True))


def test_what_was_measured_in_another_process_has_no_turn_in_common() -> None:
    first, second, _ = turns_of_two_speeds(np.random.default_rng(0))
    other = second.model_copy(update={"started": "2026-11-01T00:01:00+00:00"})
    ratio = second.median_ms / first.median_ms
    own, apart = latencies_in_turns([first, second, other])[1:]
    assert own.median_ms / first.median_ms != pytest.approx(ratio, abs=1e-6)
    assert apart.median_ms / first.median_ms == pytest.approx(ratio)
    assert apart.interval_ms[1] - apart.interval_ms[0] > own.interval_ms[1] - own.interval_ms[0]
    assert medians_in_turns([first, other]) == [first.median_ms, other.median_ms]


@pytest.mark.parametrize("counts", [[160, 150, 155], [150, 160, 97], [97, 160, 150]])
def test_networks_that_sat_out_some_turns_are_told_apart_as_well(counts: list[int]) -> None:
    """A network whose time was up sooner had fewer samples: the others' of the same turns count."""
    apart = 0
    for seed in range(10):
        every = [list(one.samples_ms) for one in turns_of_two_speeds(np.random.default_rng(seed))]
        measured = as_taken(every, counts)
        assert [len(one.samples_ms) for one in measured] == counts
        first, second, third = latencies_in_turns(measured)
        low, high = (end / first.median_ms for end in second.interval_ms)
        apart += low <= 0.975 and 0.965 <= high < 1
        assert third.median_ms / first.median_ms == pytest.approx(0.2, rel=0.03)
        medians = medians_in_turns(measured)
        assert medians[1] / medians[0] == pytest.approx(0.97, rel=0.02)
        low, high = ratio_interval(measured[1].samples_ms, over=measured[0].samples_ms)
        assert high - low < 0.1
    assert apart >= 9


def test_fewer_samples_than_others() -> None:
    one, other = measurement([2.0, 2.0, 2.0]), measurement([1.0, 1.0])
    assert latencies_in_turns([one, other])[1].median_ms == 1.0
    assert medians_in_turns([one, other]) == [2.0, 1.0]
