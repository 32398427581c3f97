"""Our networks against torchvision's and timm's: same weights, same outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from oracles.transplant import copy_by_position, count, randomise, relative_error
from torch import nn

from featherweight.nn.network import Network
from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS

CLASSES = 10
LARGEST_RELATIVE_ERROR = 1e-5


class Case(NamedTuple):
    ours: str
    build: Callable[[], nn.Module]
    norm_eps: float
    width: float = 1.0
    padding: str | None = None
    sizes: tuple[int, ...] = (96,)


def torchvision_model(name: str, **settings: float) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(num_classes=CLASSES, dropout=0.0, **settings)


def timm_model(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES)


CASES = {
    "timm mobilenetv1_100": Case(
        "mobilenet_v1", timm_model("mobilenetv1_100"), 1e-5, sizes=(96, 75)
    ),
    "timm mobilenetv1_125": Case("mobilenet_v1", timm_model("mobilenetv1_125"), 1e-5, width=1.25),
    "torchvision mobilenet_v2": Case(
        "mobilenet_v2", torchvision_model("mobilenet_v2"), 1e-5, sizes=(96, 75)
    ),
    "torchvision mobilenet_v2 0.75": Case(
        "mobilenet_v2", torchvision_model("mobilenet_v2", width_mult=0.75), 1e-5, width=0.75
    ),
    "timm mobilenetv2_100": Case("mobilenet_v2", timm_model("mobilenetv2_100"), 1e-5),
    "timm mobilenetv2_035": Case("mobilenet_v2", timm_model("mobilenetv2_035"), 1e-5, width=0.35),
    "timm mobilenetv2_140": Case("mobilenet_v2", timm_model("mobilenetv2_140"), 1e-5, width=1.4),
    "torchvision mobilenet_v3_large": Case(
        "mobilenet_v3_large", torchvision_model("mobilenet_v3_large"), 1e-3, sizes=(96, 75)
    ),
    "torchvision mobilenet_v3_small": Case(
        "mobilenet_v3_small", torchvision_model("mobilenet_v3_small"), 1e-3, sizes=(96, 75)
    ),
    "timm mobilenetv3_large_100": Case(
        "mobilenet_v3_large", timm_model("mobilenetv3_large_100"), 1e-5
    ),
    "timm mobilenetv3_small_100": Case(
        "mobilenet_v3_small", timm_model("mobilenetv3_small_100"), 1e-5
    ),
    "timm tf_mobilenetv3_large_075": Case(
        "mobilenet_v3_large", timm_model("tf_mobilenetv3_large_075"), 1e-3, 0.75, "same", (96, 75)
    ),
    "timm tf_mobilenetv3_small_075": Case(
        "mobilenet_v3_small", timm_model("tf_mobilenetv3_small_075"), 1e-3, 0.75, "same", (96, 75)
    ),
    "timm tf_efficientnet_lite0": Case(
        "efficientnet_lite0", timm_model("tf_efficientnet_lite0"), 1e-3, sizes=(96, 75)
    ),
    "timm tf_efficientnet_lite1": Case(
        "efficientnet_lite1", timm_model("tf_efficientnet_lite1"), 1e-3, sizes=(96, 75)
    ),
    "timm tf_efficientnet_lite2": Case(
        "efficientnet_lite2", timm_model("tf_efficientnet_lite2"), 1e-3, sizes=(96, 75)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_weights_give_the_same_outputs(name: str) -> None:
    case = CASES[name]
    oracle = case.build()
    randomise(oracle, seed=0)
    architecture = (
        MODELS[case.ours]
        .build(width=case.width, resolution=case.sizes[0], classes=CLASSES, padding=case.padding)
        .changed(dropout=0.0)
    )
    if name.startswith("timm") and case.norm_eps == 1e-5:  # timm's own epsilon for V3
        architecture = architecture.changed(norm_eps=1e-5)
    assert architecture.norm_eps == case.norm_eps
    network = Network(architecture)
    copy_by_position(oracle, network)
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.randn(4, 3, size, size, generator=generator) for size in case.sizes]
    for training in (False, True):  # training last: it moves the statistics
        oracle.train(training)
        network.train(training)
        for images in pictures:
            with torch.no_grad():
                error = relative_error(network(images), oracle(images))
            assert error <= LARGEST_RELATIVE_ERROR, f"{images.shape}, training {training}"


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_efficientnet_lite_has_the_counts_of_timm(variant: int) -> None:
    architecture = MODELS[f"efficientnet_lite{variant}"].build()
    with torch.device("meta"):
        oracle = timm.create_model(f"tf_efficientnet_lite{variant}")
    ours = profile(architecture)
    counted = count(oracle, input_shape=architecture.input_shape)
    assert (ours.params, ours.macs, ours.flops) == counted


def test_a_wrong_network_does_not_pass() -> None:
    """The comparison sees another padding, which no count shows."""
    oracle = CASES["timm tf_efficientnet_lite0"].build()
    randomise(oracle, seed=0)
    network = Network(
        MODELS["efficientnet_lite0"].build(resolution=96, classes=CLASSES, padding="symmetric")
    )
    copy_by_position(oracle, network)
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        error = relative_error(network.eval()(images), oracle.eval()(images))
    assert error > 100 * LARGEST_RELATIVE_ERROR
