"""An import stays right at other sizes, or says that it has one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracles.transplant import relative_error
from torch import Tensor, nn
from torch.nn import functional

import featherweight as fw
from featherweight.architecture import Architecture
from featherweight.errors import ArchitectureError, UsageError
from featherweight.layers import layers
from featherweight.networks.importing import import_module
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import resized
from featherweight.records import parse_record, to_plain
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import open_session


class SamePadding(nn.Module):
    """Two strided convolutions padded like TensorFlow's, one like PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.middle = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 8, 5, stride=2, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.stem(self._padded(x, 3)))
        return self.head(self.last(self._padded(x, 5)).mean((2, 3)))

    @staticmethod
    def _padded(x: Tensor, kernel_size: int) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // 2) - 1) * 2 + kernel_size - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads)


class Thirds(nn.Module):
    """Something else than SAME padding follows from the size: a border of a third of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        border = x.shape[2] // 3
        return self.stem(functional.pad(x, (border, border, border, border))).mean((2, 3))


def pictures(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("traced", [32, 33, 38])
def test_padding_that_follows_the_size_stays_so(traced: int) -> None:
    module = SamePadding().eval()
    network = import_module(module, input_shape=(3, traced, traced))
    paddings = [p.padding for p in network.architecture.primitives if p.op == "conv"]
    assert paddings == ["same", (1, 1, 1, 1), "same"]
    for size in ((31, 31), (32, 32), (33, 33), (34, 34), (57, 40)):
        with torch.no_grad():
            expected = module(pictures(*size))
            assert relative_error(network(pictures(*size)), expected) <= 1e-5
    with torch.no_grad():
        other = resized(network, 35)
        assert relative_error(other(pictures(35, 35)), module(pictures(35, 35))) <= 1e-5
    plain = to_plain(network.architecture)
    assert parse_record(Architecture, plain, source="test") == network.architecture


def test_the_file_for_another_size_is_padded_for_it() -> None:
    module = SamePadding().eval()
    network = resized(import_module(module, input_shape=(3, 32, 32)), 33)
    model = write_onnx(
        network.architecture,
        {key: tensor.numpy() for key, tensor in network.state_dict().items()},
        preprocessing=Preprocessing(),
        labels=tuple("abcde"),
        uint8_input=False,
    )
    session = open_session(model.SerializeToString(), num_threads=1)
    found = session.run(None, {"image": pictures(33, 33)[:1].numpy()})[0]
    with torch.no_grad():
        expected = module(pictures(33, 33)[:1])
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [Thirds(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))],
    ids=["border", "flattened"],
)
def test_a_network_of_one_size_refuses_others(module: nn.Module, tmp_path: Path) -> None:
    network = import_module(module.eval(), input_shape=(3, 16, 16), name="one_size")
    assert network.architecture.fixed_size
    with torch.no_grad():
        assert relative_error(network(pictures(16, 16)), module(pictures(16, 16))) <= 1e-5
    refused = r"one_size cannot be made for 3 x 24 x 24: it was imported at 3 x 16 x 16"
    with pytest.raises(ArchitectureError, match=refused):
        resized(network, 24)
    with pytest.raises(UsageError, match=r"cannot answer pictures \(3, 24, 24\)"):
        network(pictures(24, 24))
    fw.save_network(
        network,
        tmp_path,
        preprocessing=Preprocessing(),
        classes=tuple(map(str, range(network.architecture.num_classes))),
    )
    assert fw.load_network(tmp_path).network.architecture.fixed_size
    assert network.architecture.at_resolution(16) == network.architecture


def test_what_does_not_depend_on_the_size_is_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1))
    network = import_module(nn.Sequential(module, nn.Flatten()), input_shape=(3, 16, 16))
    assert not network.architecture.fixed_size
    assert network.architecture.primitives[0].padding == (1, 1, 1, 1)
    assert layers(network.architecture.at_resolution(24))[0].output_shape == (8, 12, 12)
