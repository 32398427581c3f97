"""Platforms as text."""

from __future__ import annotations

import pytest

from featherweight.devices.device import DEVICES
from featherweight.errors import UsageError
from featherweight.exporting.platforms import DEFAULT_PLATFORM, Platform, parse_platform
from featherweight.records import parse_record, to_plain
from featherweight.runtimes.runtime import RUNTIMES


def test_the_default_platform() -> None:
    assert parse_platform(DEFAULT_PLATFORM) == Platform(device="local", runtime="onnxruntime")
    assert str(parse_platform(DEFAULT_PLATFORM)) == "local/onnxruntime:threads=1,precision=fp32"


def test_text_and_record_round_trip_for_every_runtime_and_precision() -> None:
    cores = DEVICES["local"].info().cores
    platforms = [
        Platform(device="local", runtime=name, num_threads=threads, precision=precision)
        for name in RUNTIMES
        for precision in RUNTIMES[name].precisions
        for threads in (1, cores)
    ]
    assert len(platforms) >= 4
    for platform in platforms:
        assert parse_platform(str(platform)) == platform
        assert parse_record(Platform, to_plain(platform), source="test") == platform


def test_settings_may_come_in_any_order_and_be_left_out() -> None:
    expected = Platform(device="local", runtime="onnxruntime", precision="int8")
    assert parse_platform("local/onnxruntime:precision=int8") == expected
    assert parse_platform(" local/onnxruntime:precision=int8, threads=1 ") == expected
    assert parse_platform("local/onnxruntime").with_precision("int8") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot read the platform ''"),
        ("onnxruntime", "did you mean 'local/onnxruntime'"),
        ("onnxruntime:threads=1", "did you mean 'local/onnxruntime:threads=1'"),
        ("local/", "cannot read the platform 'local/'"),
        ("/onnxruntime", "cannot read the platform"),
        ("local/onnxruntime:", "cannot read the platform"),
        ("locl/onnxruntime", "no device named 'locl'.*did you mean 'local'"),
        ("local/onxruntime", "no runtime named 'onxruntime'.*did you mean 'onnxruntime'"),
        ("local/onnxruntime:treads=1", "no platform setting named 'treads'.*'threads'"),
        ("local/onnxruntime:threads", "cannot read the setting 'threads'"),
        ("local/onnxruntime:threads=1,", "cannot read the setting ''"),
        ("local/onnxruntime:threads=1,threads=1", "gives threads twice"),
        ("local/onnxruntime:threads=0", "threads=0.*allowed: 1 to "),
        ("local/onnxruntime:threads=9999", "threads=9999.*allowed: 1 to "),
        ("local/onnxruntime:threads=two", "threads=two.*allowed: 1 to "),
        ("local/onnxruntime:precision=int", "no precision of onnxruntime named 'int'.*'int8'"),
    ],
)
def test_errors_say_what_is_wrong_and_allowed(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_platform(text)
    assert "\n" not in str(caught.value)


def test_a_record_of_a_larger_machine_can_be_read_here() -> None:
    plain = {"device": "local", "runtime": "onnxruntime", "num_threads": 9999}
    assert parse_record(Platform, plain, source="test").num_threads == 9999
