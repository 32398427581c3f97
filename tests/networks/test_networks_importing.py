"""Foreign modules become layers: the same outputs, counts, files; unknown operators are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from cases import often
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


@pytest.mark.parametrize(
    "name",
    often(
        MODULES,
        {
            "torchvision shufflenet_v2_x0_5",
            "timm ghostnet_050",
            "timm regnetx_002",
        },
    ),
)
def test_an_imported_network_computes_the_same(name: str) -> None:
    module = MODULES[name]()
    randomise(module, seed=0)
    module.train()
    network = import_module(module, input_shape=(3, SIDE, SIDE), name=name)
    assert module.training, "the module was changed"
    for side in (SIDE, SIDE + 1):
        images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            assert relative_error(network(images), module.eval()(images)) <= 1e-5
    assert not network.architecture.fixed_size
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
        pytest.param("torchvision mobilenet_v3_small", marks=pytest.mark.slow),
        pytest.param("torchvision efficientnet_b0", marks=pytest.mark.slow),  # SiLU
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
        network.architecture,
        weights,
        preprocessing=Preprocessing(),
        labels=tuple("abcde"),
        uint8_input=False,
    )
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


class Answers(nn.Module):
    """A convolution, pooled, and whatever is returned for its vector."""

    def __init__(self, answer: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.answer = answer

    def forward(self, x: torch.Tensor) -> object:
        return self.answer(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda y: {"out": y, "aux": y}, "returns a dict of out, aux.*wrap it in a module"),
        (lambda y: {"out": y}, "returns a dict of out"),
        (lambda y: (y, y), "returns a tuple"),
        (lambda y: (y,), "returns a tuple"),
        (lambda y: [y], "returns a list"),
        (lambda y: None, "returns a NoneType"),
        (lambda y: y.view(-1, 4, 1, 1), r"returns float32 \(2, 4, 1, 1\).*needs pooling"),
        (lambda y: y.argmax(1), "the operator 'argmax'"),
        (lambda y: y.double(), "a conversion to torch.float64"),
        (lambda y: torch.zeros(2, 5), "the same answer to every picture"),
    ],
)
def test_an_output_that_is_no_vector_is_refused(
    answer: Callable[[torch.Tensor], object], problem: str
) -> None:
    with pytest.raises(UnsupportedError, match=problem):
        import_module(Answers(answer), input_shape=(3, 16, 16))


def test_a_module_that_ends_in_a_map_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(UnsupportedError, match=r"returns float32 \(2, 4, 14, 14\).*needs pooling"):
        import_module(module, input_shape=(3, 16, 16))
    with pytest.raises(UnsupportedError, match="does not end with the output of a layer"):
        import_module(nn.Flatten(), input_shape=(3, 16, 16))


def fails(error: Exception) -> nn.Module:
    def answer(_: torch.Tensor) -> object:
        raise error

    return Answers(answer)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("boom"), "KeyError: 'boom'"),
        (AttributeError("no such part\nand more"), "AttributeError: no such part"),
        (NotImplementedError(), "NotImplementedError"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_what_a_module_raises_is_named_in_one_line(error: Exception, said: str) -> None:
    module = fails(error)
    with pytest.raises(UsageError, match=f"Answers cannot be traced with .*: {said}$") as caught:
        import_module(module, input_shape=(3, 16, 16))
    assert "\n" not in str(caught.value)
    assert module.training


def test_what_is_no_finished_module_is_refused() -> None:
    plain: Any = "resnet18"
    with pytest.raises(UsageError, match="cannot import a str"):
        import_module(plain, input_shape=(3, 16, 16))
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten())
    with pytest.raises(UsageError, match=r"0 is lazy \(LazyConv2d\).*run the module once"):
        import_module(lazy, input_shape=(3, 16, 16))
    assert type(lazy[0]) is nn.LazyConv2d, "it is as it was"
    broken = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.constant_(broken[0].weight, float("nan"))
    with pytest.raises(UsageError, match="not finite"):
        import_module(broken, input_shape=(3, 16, 16))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_exported_and_scripted_modules() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    program = torch.export.export(module, (images,))
    with pytest.raises(UsageError, match=r"cannot import a ExportedProgram.*\.module\(\)"):
        import_module(program, input_shape=(3, 16, 16))
    network = import_module(program.module(), input_shape=(3, 16, 16))
    with torch.no_grad():
        assert relative_error(network(images), module(images)) <= 1e-5
    frozen = torch.jit.freeze(torch.jit.script(module))
    with pytest.raises(UsageError, match="Exporting a ScriptModule is not supported"):
        import_module(frozen, input_shape=(3, 16, 16))


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
