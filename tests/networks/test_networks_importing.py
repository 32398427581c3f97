"""Foreign modules become layers: the same outputs, counts, files; unknown operators are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from oracles.transplant import count, randomise, relative_error
from torch import nn
from torch.nn import functional

import featherweight as fw
from featherweight.architecture import Architecture
from featherweight.errors import ArchitectureError, UnsupportedError, UsageError
from featherweight.layers import layers
from featherweight.networks.importing import import_module
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.features import FeatureMaps
from featherweight.nn.network import build_network
from featherweight.profiling.profile import profile
from featherweight.records import parse_record, to_plain
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import open_session

SIDE = 64
MODULES: dict[str, Callable[[], nn.Module]] = {
    "torchvision mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
    "torchvision shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5),
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "torchvision efficientnet_b0": lambda: torchvision.models.efficientnet_b0(num_classes=5),
    "torchvision mnasnet0_5": lambda: torchvision.models.mnasnet0_5(num_classes=5),
    "timm ghostnet_050": lambda: timm.create_model("ghostnet_050", num_classes=5),
    "timm tf_mobilenetv3_small_minimal_100": lambda: timm.create_model(
        "tf_mobilenetv3_small_minimal_100", num_classes=5
    ),
    "timm regnetx_002": lambda: timm.create_model("regnetx_002", num_classes=5),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_imported_network_computes_the_same(name: str) -> None:
    module = MODULES[name]()
    randomise(module, seed=0)
    module.train()
    network = import_module(module, input_shape=(3, SIDE, SIDE), name=name)
    assert module.training, "the module was changed"
    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert relative_error(network(images), module.eval()(images)) <= 1e-5
    counted = profile(network.architecture)
    params, macs, _ = count(module, input_shape=(3, SIDE, SIDE))
    assert counted.macs == macs
    # A convolution's bias before a norm becomes part of the norm.
    assert counted.params is not None
    assert counted.params <= params + 5
    again = parse_record(Architecture, to_plain(network.architecture), source="test")
    assert (again, again.digest) == (network.architecture, network.architecture.digest)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision mobilenet_v3_small",
        "torchvision efficientnet_b0",  # SiLU
        "timm ghostnet_050",
        "timm tf_mobilenetv3_small_minimal_100",  # uneven padding
    ],
)
def test_the_file_of_an_imported_network_computes_the_same(name: str) -> None:
    module = MODULES[name]()
    randomise(module, seed=0)
    network = import_module(module.eval(), input_shape=(3, SIDE, SIDE))
    weights = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    model = write_onnx(
        network.architecture, weights, preprocessing=Preprocessing(),
        labels=tuple("abcde"), uint8_input=False,
    )  # fmt: skip
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    session = open_session(model.SerializeToString(), num_threads=1)
    found = session.run(None, {"image": images.numpy()})[0]
    with torch.no_grad():
        expected = module(images).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_another_size_and_other_classes() -> None:
    module = MODULES["torchvision resnet18"]().eval()
    network = import_module(module, input_shape=(3, SIDE, SIDE))
    larger = network.architecture.at_resolution(96)
    assert layers(larger)[0].output_shape == (64, 48, 48)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert relative_error(network(images), module(images)) <= 1e-5
    fresh = build_network(larger.changed(num_classes=9), seed=0).eval()
    assert fresh(images).shape == (2, 9)
    assert fresh.forward_features(images).shape == (2, 512)
    with pytest.raises(ArchitectureError, match="imported"):
        larger.changed(num_classes=0)


class Strange(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.stem(x)).mean((2, 3))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Strange()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (Nested(), r"Nested: the operator 'gelu' \(in inner\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)), "dilated"),
        (nn.Sequential(nn.BatchNorm2d(3)), "batch norm that does not follow"),
        (nn.Sequential(nn.AvgPool2d(3, 2, padding=1)), "counts its padding"),
        (nn.Sequential(nn.Hardtanh(-1, 1)), "other than ReLU6"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "more than one pixel"),
    ],
)
def test_what_is_unknown_is_named_with_its_place(module: nn.Module, problem: str) -> None:
    with pytest.raises(UnsupportedError, match=problem):
        import_module(module, input_shape=(3, 16, 16))


def test_an_input_that_does_not_fit() -> None:
    with pytest.raises(UsageError, match="cannot be traced with inputs"):
        import_module(nn.Sequential(nn.Conv2d(4, 4, 3)), input_shape=(3, 16, 16))


def test_text_names_a_network_of_timm() -> None:
    architecture = fw.resolve_architecture("timm:mobilenetv2_050:resolution=64,classes=10")
    ours = fw.resolve_architecture("mobilenet_v2:width=0.5,resolution=64,classes=10,form=standard")
    assert architecture.name == "timm:mobilenetv2_050"
    assert profile(architecture).macs == profile(ours).macs
    assert profile(architecture).params == profile(ours).params
    with pytest.raises(UsageError, match=r"no network 'ghostnet_10'.*did you mean 'ghostnet_1"):
        fw.resolve_architecture("timm:ghostnet_10")
    with pytest.raises(UsageError, match="width cannot be set"):
        fw.resolve_architecture("timm:mobilenetv2_050:width=0.5")


def test_an_imported_network_is_saved_and_loaded(tmp_path: Path) -> None:
    module = MODULES["torchvision mobilenet_v3_small"]().eval()
    network = import_module(module, input_shape=(3, 64, 64))
    fw.save_network(network, tmp_path, preprocessing=Preprocessing(), classes=tuple("abcde"))
    with pytest.raises(UnsupportedError, match="is imported"):
        FeatureMaps(network)
    again = fw.load_network(tmp_path).network
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
