"""What OpenVINO really executes, beyond the contract of all runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.errors import UnsupportedError
from featherweight.exporting.platforms import parse_platform
from featherweight.measuring.bench import export_untrained
from featherweight.networks.resolve import create_architecture
from featherweight.runtimes import openvino


def computes_in_bf16() -> bool:
    """What the processor says itself, not OpenVINO."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def test_convolutions_are_really_int8(tmp_path) -> None:
    architecture = create_architecture("mobilenet_v2", width=0.5, resolution=64, classes=10)
    platform = parse_platform("local/openvino:threads=1,precision=int8")
    artifact = export_untrained(architecture, platform=platform, out=tmp_path)
    assert artifact.int8_operators is not None
    done, total = map(int, artifact.int8_operators["Conv"].removeprefix("int8 ").split("/"))
    assert total >= 50
    assert done >= 0.9 * total


@pytest.mark.parametrize(("threads", "precision"), [(1, "fp32"), (2, "fp32"), (1, "bf16")])
def test_precision_and_threads_are_what_was_asked_for(threads, precision, tmp_path) -> None:
    architecture = create_architecture("convnet", width=0.5, resolution=32, classes=10)
    platform = parse_platform(f"local/openvino:precision={precision}")
    if precision == "bf16" and not computes_in_bf16():
        with pytest.raises(UnsupportedError, match="does not compute in bf16 on this processor"):
            export_untrained(architecture, platform=platform, out=tmp_path)
        assert not list(tmp_path.iterdir())
        return
    artifact = export_untrained(architecture, platform=platform, out=tmp_path)
    compiled = openvino._compile(artifact.paths[0], num_threads=threads, precision=precision)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert used == {"fp32": "f32", "bf16": "bf16"}[precision]
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1


def test_int8_average_pools_are_refused_for_they_end_the_process(tmp_path) -> None:
    architecture = create_architecture("shufflenet_v1_g3", width=0.5, classes=5)
    int8 = parse_platform("local/openvino:precision=int8")
    with pytest.raises(UnsupportedError, match="OpenVINO crashes on int8 average pools"):
        export_untrained(architecture, platform=int8, out=tmp_path)
    assert not list(tmp_path.iterdir())
