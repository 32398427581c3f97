"""Profiles against the torch module they describe."""

from __future__ import annotations

import math
import subprocess
import sys
import timeit

import pytest
from oracles.transplant import count

from featherweight.layers import INPUT, Layer, layers
from featherweight.nn.network import Network
from featherweight.profiling.profile import Profile, profile, profile_layers, totals
from featherweight.records import parse_record, to_plain
from featherweight.zoo.model import MODELS

NAMES = tuple(MODELS)


def test_the_subjects_were_found() -> None:
    assert len(NAMES) >= 9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 75])
def test_counts_equal_those_of_the_module(name: str, size: int) -> None:
    architecture = MODELS[name].build(resolution=size, width=0.5, classes=10)
    counted = profile(architecture)
    assert (counted.params, counted.macs, counted.flops) == count(
        Network(architecture), input_shape=architecture.input_shape
    )
    assert counted.unknown_ops == ()


def test_totals_are_sums_of_the_rows() -> None:
    counted = profile(MODELS["mobilenet_v3_small"].build())
    for key in ("params", "macs", "flops"):
        assert getattr(counted, key) == sum(getattr(row, key) for row in counted.layers)
    assert counted.layers[-1].name == "classifier"
    assert counted.layers[-1].output_shape == (1000,)


def test_memory_access_of_a_pointwise_convolution() -> None:
    """h w (c1 + c2) + c1 c2 (ShuffleNetV2, arXiv 1807.11164, equation 1), plus its norm."""
    counted = profile(MODELS["mobilenet_v2"].build())
    row = next(row for row in counted.layers if row.name == "blocks.2.expand")
    assert row.memory_access_bytes == 4 * (112 * 112 * (16 + 96) + 16 * 96 + 2 * 96)


def test_memory_access_of_layers_with_two_inputs() -> None:
    counted = {row.name: row for row in profile(MODELS["mobilenet_v3_large"].build()).layers}
    assert counted["blocks.1.add"].memory_access_bytes == 4 * 3 * 16 * 112 * 112
    scale = counted["blocks.4.se.scale"]  # a 28 x 28 map of 72 channels and its gate
    assert scale.memory_access_bytes == 4 * (2 * 72 * 28 * 28 + 72)


def test_peak_of_mobilenet_v2_is_its_first_expansion() -> None:
    """The 96-wide map at 112 x 112 and its half-size successor."""
    expected = 4 * (96 * 112 * 112 + 96 * 56 * 56)
    assert profile(MODELS["mobilenet_v2"].build()).peak_activation_bytes == expected


def test_an_unknown_operator_makes_totals_unknown() -> None:
    architecture = MODELS["convnet"].build()
    shape = architecture.input_shape
    strange = Layer("strange", "fourier", (INPUT,), shape, shape)
    known = layers(architecture)
    counted = profile_layers((strange, *known), name="x", input_shape=shape)
    assert counted.unknown_ops == ("fourier",)
    assert (counted.params, counted.macs, counted.flops) == (None, None, None)
    assert counted.peak_activation_bytes is None
    assert counted.layers[0].memory_access_bytes is None
    assert counted.layers[1].macs == profile(architecture).layers[0].macs


def test_multiplications_additions_and_intensity() -> None:
    """mobilenet_v2: a norm follows every convolution, so each output saves one addition."""
    counted = profile(MODELS["mobilenet_v2"].build())
    outputs = sum(math.prod(row.output_shape or ()) for row in counted.layers if row.op == "conv")
    assert counted.multiplications == counted.macs == 300_774_272
    assert counted.additions == 300_774_272 - outputs
    assert counted.additions == sum(row.additions or 0 for row in counted.layers)
    moved = sum(row.memory_access_bytes or 0 for row in counted.layers)
    assert counted.memory_access_bytes == moved
    assert counted.arithmetic_intensity == (counted.flops or 0) / moved
    by_name = {row.name: row for row in counted.layers}
    depthwise, pointwise = by_name["blocks.2.depthwise"], by_name["blocks.2.project"]
    size = 96 * 56 * 56
    assert depthwise.arithmetic_intensity == 17 * size / (
        4 * (96 * 112 * 112 + size + 96 * 9 + 2 * 96)
    )
    assert (pointwise.arithmetic_intensity or 0) > 5 * (depthwise.arithmetic_intensity or 0)
    assert by_name["blocks.3.add"].arithmetic_intensity == 0.0


def test_counting_is_fast_enough_for_every_candidate_of_a_search() -> None:
    """0.1 to 0.9 ms for the totals, 0.3 to 2.3 with all rows; the bounds are for a busy machine."""
    architectures = [MODELS[name].build() for name in NAMES]
    for function, bound_s in ((totals, 0.003), (profile, 0.008)):
        taken = timeit.repeat(lambda f=function: [f(a) for a in architectures], number=1, repeat=5)
        assert min(taken) / len(architectures) < bound_s


@pytest.mark.parametrize("name", MODELS)
def test_totals_are_those_of_the_profile(name: str) -> None:
    architecture = MODELS[name].build()
    counted = profile(architecture)
    assert totals(architecture) == (counted.params, counted.macs, counted.flops)


def test_a_profile_is_json() -> None:
    counted = profile(MODELS["resnet"].build())
    assert parse_record(Profile, to_plain(counted), source="test") == counted


def test_profiling_does_not_import_torch() -> None:
    script = (
        "import sys; from featherweight.profiling.profile import profile; "
        "from featherweight.zoo.model import MODELS; "
        "assert [profile(MODELS[name].build()).macs for name in MODELS]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
