"""Random networks: valid ones build, count, store and export alike; others give one clear error."""

from __future__ import annotations

import json
import re

import numpy as np
import onnxruntime
import torch
from artifact_networks import IMAGENET, labels_of, trained_like, weights_of
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from oracles.transplant import count

from featherweight.architecture import Architecture, BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import OPERATORS, layers
from featherweight.nn.network import Network
from featherweight.profiling.profile import profile
from featherweight.records import parse_record, to_plain
from featherweight.runtimes.onnx_writer import write_onnx

WIDTHS = (4, 6, 8, 12, 16)
VALUES = {
    "kernel_size": (1, 3, 5),
    "groups": (1, 2, 3),
    "entry_groups": (None, 1, 2),
    "hidden_channels": (None, 8, 12),
    "start_kernel_size": (None, 3, 5),
    "shortcut_channels": (None, 2, 4),
    "se_channels": (0, 0, 4),
    "se_gate": ("hard_sigmoid", "sigmoid"),
    "activation": ("none", "relu", "relu6", "hard_swish"),
    "skip": ("none", "none", "identity", "pool", "pad"),
    "ghost_ratio": (1, 2, 3),
    "cheap_kernel_size": (1, 3),
}
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@st.composite
def blocks(draw: st.DrawFn) -> BlockSpec:
    op = draw(st.sampled_from(sorted(OPERATORS)))
    fields = {name: draw(st.sampled_from(VALUES[name])) for name in sorted(OPERATORS[op].fields)}
    if fields.get("se_channels", 1) == 0:
        fields.pop("se_gate", None)
    return BlockSpec.model_validate(
        {
            "op": op,
            "out_channels": draw(st.sampled_from(WIDTHS)),
            "stride": draw(st.sampled_from((1, 1, 2))),
            **fields,
        }
    )


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    return Architecture(
        name="random",
        input_shape=(3, draw(st.integers(7, 20)), draw(st.integers(7, 20))),
        blocks=tuple(draw(st.lists(blocks(), min_size=1, max_size=4))),
        head_channels=draw(st.sampled_from(((), (8,), (8, 12)))),
        head_norm=draw(st.booleans()),
        head_activation=draw(st.sampled_from(("none", "relu"))),
        num_classes=draw(st.integers(1, 5)),
        padding=draw(st.sampled_from(("symmetric", "same"))),
    )


def is_valid(architecture: Architecture) -> bool:
    """Whether the layers can be listed; anything but an ArchitectureError is a failure."""
    return not refusal(architecture)


def refusal(architecture: Architecture) -> str:
    """Return why the layers cannot be listed, or nothing."""
    try:
        layers(architecture)
    except ArchitectureError as error:
        return str(error)
    return ""


@quick
@given(architectures())
def test_a_network_is_listed_or_refused_clearly(architecture: Architecture) -> None:
    refused = refusal(architecture)
    event(f"valid {not refused}")
    assert not refused or re.match(r"blocks\.\d+\b[^\n]*$", refused)


def test_both_kinds_are_drawn() -> None:
    seen: set[bool] = set()

    @quick
    @given(architectures())
    def draw(architecture: Architecture) -> None:
        seen.add(is_valid(architecture))

    draw()
    assert seen == {True, False}


@quick
@given(architectures().filter(is_valid))
def test_module_counts_and_json_agree(architecture: Architecture) -> None:
    network = Network(architecture).eval()
    counted = profile(architecture)
    assert (counted.params, counted.macs, counted.flops) == count(
        network, input_shape=architecture.input_shape
    )
    with torch.no_grad():
        logits = network(torch.zeros(2, *architecture.input_shape))
    assert logits.shape == (2, architecture.num_classes)
    again = parse_record(Architecture, json.loads(json.dumps(to_plain(architecture))), source="t")
    assert (again, again.digest) == (architecture, architecture.digest)
    assert layers(again) == layers(architecture)


@quick
@given(architectures().filter(is_valid))
def test_the_file_computes_what_the_module_computes(architecture: Architecture) -> None:
    network = trained_like(architecture)
    model = write_onnx(
        architecture,
        weights_of(network),
        preprocessing=IMAGENET,
        labels=labels_of(architecture),
        uint8_input=False,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(1, *architecture.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images).numpy()
    found = session.run(None, {"image": images.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, float(np.abs(expected).max()))
