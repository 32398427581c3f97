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


def torchvision_plain(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(num_classes=CLASSES)


def timm_model(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, drop_rate=0.0)


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
    **{
        f"timm tf_efficientnet_lite{variant}": Case(
            f"efficientnet_lite{variant}",
            timm_model(f"tf_efficientnet_lite{variant}"),
            1e-3,
            sizes=(96, 75) if variant == 0 else (64,),
        )
        for variant in range(5)
    },
    **{
        f"timm tf_mobilenetv3_{size}_minimal_100": Case(
            f"mobilenet_v3_{size}_minimalistic",
            timm_model(f"tf_mobilenetv3_{size}_minimal_100"),
            1e-3,
            padding="same",
            sizes=(96, 75),
        )
        for size in ("large", "small")
    },
    **{
        f"timm mobilenetv4_conv_{size}": Case(
            f"mobilenet_v4_conv_{size}",
            timm_model(f"mobilenetv4_conv_{size}"),
            1e-5,
            sizes=(96, 75) if size == "small" else (64,),
        )
        for size in ("small", "medium", "large")
    },
    "timm mobilenetv4_conv_small_050": Case(
        "mobilenet_v4_conv_small", timm_model("mobilenetv4_conv_small_050"), 1e-5, width=0.5
    ),
    **{
        f"timm {prefix}_{100 * width:03.0f}": Case(
            ours,
            timm_model(f"{prefix}_{100 * width:03.0f}"),
            1e-5,
            width=width,
            sizes=(96, 75) if width == 0.5 else (64,),
        )
        for prefix, ours in (("mnasnet", "mnasnet_b1"), ("semnasnet", "mnasnet_a1"))
        for width in (0.5, 0.75, 1.0, 1.4)
    },
    "timm mnasnet_small": Case("mnasnet_small", timm_model("mnasnet_small"), 1e-5, sizes=(96, 75)),
    **{
        f"torchvision mnasnet{width}": Case(
            "mnasnet_b1",
            torchvision_model(f"mnasnet{width}".replace(".", "_")),
            1e-5,
            width=width,
            sizes=(64,),
        )
        for width in (0.5, 0.75, 1.0, 1.3)
    },
    **{
        f"torchvision shufflenet_v2_x{width}": Case(
            "shufflenet_v2",
            torchvision_plain(f"shufflenet_v2_x{width}".replace(".", "_")),
            1e-5,
            width=width,
            sizes=(96, 75) if width == 0.5 else (64,),
        )
        for width in (0.5, 1.0, 1.5, 2.0)
    },
    **{
        f"timm ghostnet_{100 * width:03.0f}": Case(
            "ghostnet",
            timm_model(f"ghostnet_{100 * width:03.0f}"),
            1e-5,
            width=width,
            sizes=(96, 75) if width == 0.5 else (64,),
        )
        for width in (0.5, 1.0, 1.3)
    },
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


@pytest.mark.parametrize("variant", range(5))
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
