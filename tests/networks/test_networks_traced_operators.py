"""Graphs that an import takes as they are, or refuses with one true line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles.transplant import relative_error
from torch import Tensor, nn
from torch.nn import functional

import featherweight as fw
from featherweight.errors import UnsupportedError
from featherweight.networks.importing import import_module
from featherweight.networks.preprocessing import Preprocessing
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import open_session


class Calls(nn.Module):
    """A convolution, then whatever is done with its map, then pooling and a classifier."""

    def __init__(self, after: Callable[[Calls, Tensor], Tensor]) -> None:
        super().__init__()
        self.after = after
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3)
        self.columns = nn.Linear(14, 14)
        self.kernel = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        self.scale = torch.full((4, 1, 1), 2.0)
        self.head = nn.LazyLinear(5)
        self.eval()(torch.zeros(1, 3, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.after(self, self.conv(x))
        return self.head(y.mean((2, 3)) if y.ndim == 4 else y)


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def drop_unread(module: Calls, y: Tensor) -> Tensor:
    module.second(y)
    return y


TAKEN: dict[str, Callable[[Calls, Tensor], Tensor]] = {
    "pad after pad": lambda m, y: m.second(
        functional.pad(functional.pad(y, (1, 0, 2, 0)), (0, 1, 0, 3))
    ),
    "x * x": lambda m, y: y * y,
    "x + x": lambda m, y: y + y,
    "x beside x": lambda m, y: torch.cat([y, y], 1),
    "x * x of a norm": lambda m, y: (lambda z: z * z)(m.norm(y)),
    "in place and again": lambda m, y: functional.relu_(y) + y,
    "a plain tensor as weights": lambda m, y: functional.conv2d(y, m.kernel),
    "computed weights": lambda m, y: functional.conv2d(y, m.second.weight * m.scale),
    "same without stride": lambda m, y: functional.conv2d(y, m.kernel, padding="same"),
    "float of float": lambda m, y: y.float(),
    "a layer that nobody reads": drop_unread,
    "twice as large": lambda m, y: functional.interpolate(y, scale_factor=2) + y.mean((2, 3), True),
    "a number for each channel comes first": lambda m, y: y.mean((2, 3), True) + y,
}
REFUSED: dict[str, tuple[Callable[[Calls, Tensor], Tensor], str]] = {
    "linear on the last axis": (
        lambda m, y: m.columns(y),
        r"a linear layer on the last axis of \(2, 4, 14, 14\)",
    ),
    "times a plain tensor": (
        lambda m, y: y * m.scale,
        r"multiply of a constant tensor \(4, 1, 1\)",
    ),
    "to another size": (
        lambda m, y: functional.interpolate(y, size=(20, 20)),
        r"a resize from .*14.* to .*20",
    ),
    "plus a plain tensor": (lambda m, y: y + m.scale, r"add of a constant tensor"),
    "times a number": (lambda m, y: y * 2, r"multiply of a map and 2"),
    "pad before pool": (
        lambda m, y: functional.max_pool2d(functional.pad(y, (1, 1, 1, 1)), 2),
        r"pool of a map with a border of zeros",
    ),
    "pad of features": (
        lambda m, y: functional.pad(y.mean((2, 3)), (0, 2)),
        r"the padding \[0, 2\] of \(2, 4\)",
    ),
    "norm of a padded map": (
        lambda m, y: m.norm(functional.pad(y, (1, 1, 1, 1))),
        r"a batch norm that does not follow",
    ),
    "norm with the batch": (
        lambda m, y: functional.batch_norm(
            y, m.norm.running_mean, m.norm.running_var, training=True
        ),
        r"a batch norm without running statistics",
    ),
    "part of a flattened map": (
        lambda m, y: y.flatten(1)[:, :2],
        r"a selection of a flattened map",
    ),
    "dropout in eval mode": (
        lambda m, y: functional.dropout(y, 0.5, training=True),
        r"a dropout that is on in eval",
    ),
    "random weights": (
        lambda m, y: functional.conv2d(y, torch.rand(4, 4, 1, 1)),
        r"the random operator aten.rand",
    ),
    "mean over everything": (
        lambda m, y: y.mean().reshape(1, 1).expand(2, 1),
        r"a mean over other axes",
    ),
    "a part changed in place": (
        lambda m, y: (y[:, :1].relu_(), y)[1],
        r"'relu' in place of a part of a map",
    ),
    "its own tensor changed": (
        lambda m, y: (m.norm.running_mean.add_(0), y)[1],
        r"a tensor of the module that it changes",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_graph_is_taken_as_it_is(name: str) -> None:
    module = Calls(TAKEN[name]).eval()
    network = import_module(module, input_shape=(3, 16, 16))
    with torch.no_grad():
        assert relative_error(network(pictures(3)), module(pictures(3))) <= 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_computes_is_refused_truly(name: str) -> None:
    after, problem = REFUSED[name]
    with pytest.raises(UnsupportedError, match=problem):
        import_module(Calls(after).eval(), input_shape=(3, 16, 16))


@pytest.mark.parametrize("name", ["x * x", "x + x", "x beside x", "x * x of a norm"])
def test_the_file_of_a_map_read_twice(name: str) -> None:
    module = Calls(TAKEN[name]).eval()
    network = import_module(module, input_shape=(3, 16, 16))
    model = write_onnx(
        network.architecture,
        {key: tensor.numpy() for key, tensor in network.state_dict().items()},
        preprocessing=Preprocessing(),
        labels=tuple("abcde"),
        uint8_input=False,
    )
    session = open_session(model.SerializeToString(), num_threads=1)
    found = session.run(None, {"image": pictures(1).numpy()})[0]
    with torch.no_grad():
        assert np.abs(found - module(pictures(1)).numpy()).max() <= 1e-5


def test_a_layer_that_nobody_reads_is_not_counted() -> None:
    with_it = import_module(Calls(drop_unread), input_shape=(3, 16, 16))
    without = import_module(Calls(lambda m, y: y), input_shape=(3, 16, 16))
    assert fw.profile(with_it.architecture).macs == fw.profile(without.architecture).macs


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore:The tensor attribute")  # the older form computes it anew
def test_weights_in_two_parts_become_one(norm: Callable[[nn.Module], nn.Module]) -> None:
    module = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = import_module(module, input_shape=(3, 16, 16))
    with torch.no_grad():
        assert relative_error(network(pictures()), module(pictures())) <= 1e-5
