"""Modules as other people have them: wrapped, packed, parametrised, exported, lazy or broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

import featherweight as fw
from featherweight.errors import UsageError
from featherweight.profiling.module import profile_module
from featherweight.profiling.profile import Profile


def totals(counted: Profile) -> tuple[int | None, int | None, int | None]:
    assert counted.unknown_ops == ()
    return counted.params, counted.macs, counted.flops


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 10), nn.ReLU())


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).eval()


def test_data_parallel_counts_like_the_module_inside() -> None:
    wrapped = profile_module(nn.DataParallel(linear()), input_shape=(16,))
    assert totals(wrapped) == (170, 160, 320)
    assert [row.name for row in wrapped.layers] == ["0", "1"]
    inside = nn.Sequential(nn.DataParallel(linear()), nn.Linear(10, 2))
    assert totals(profile_module(inside, input_shape=(16,))) == (192, 180, 360)


def test_a_recorded_function_costs_nothing() -> None:
    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            with torch.profiler.record_function("part"):
                return self.linear(x)

    counted = profile_module(Recorded(), input_shape=(16,))
    assert totals(counted) == (170, 160, 320)
    assert [row.name for row in counted.layers] == ["linear"]


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weight_norm_in_both_forms(norm: Any) -> None:
    """Weight, its 10 lengths, and the bias."""
    counted = profile_module(norm(nn.Linear(16, 10)), input_shape=(16,))
    assert totals(counted) == (180, 160, 320)
    assert sum(row.params or 0 for row in counted.layers) == 180
    assert totals(profile_module(norm(nn.Conv2d(3, 8, 3, padding=1)), input_shape=(3, 8, 8))) == (
        232,
        13_824,
        27_648,
    )


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_packed_sequences_count_their_own_steps(kind: type[nn.RNNBase], gates: int) -> None:
    """Sequences of 5, 3 and 1 steps: nine steps, not fifteen."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = kind(6, 5, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.tensor([5, 3, 1])
            packed = rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return rnn.pad_packed_sequence(self.inner(packed)[0], batch_first=True)[0]

    counted = profile_module(Packed(), inputs=(torch.zeros(3, 5, 6),))
    macs = 9 * 2 * (gates * 5 * (6 + 5) + gates * 5 * (10 + 5))
    assert totals(counted)[1:] == (macs, 2 * macs)


def test_exported_modules() -> None:
    module = convolution()
    program = torch.export.export(module, (torch.zeros(1, 3, 8, 8),))
    exported = program.module()
    assert totals(profile_module(exported, input_shape=(3, 8, 8))) == (240, 13_824, 27_648)
    assert exported.training
    inside = profile_module(nn.Sequential(exported, nn.Flatten()), input_shape=(3, 8, 8))
    assert totals(inside) == (240, 13_824, 27_648)
    with pytest.raises(UsageError, match=r"GraphModule cannot run on .*AssertionError: Guard"):
        profile_module(exported, inputs=(torch.zeros(2, 3, 8, 8),))
    with pytest.raises(
        UsageError, match=r"cannot count a ExportedProgram.*its \.module\(\) is one"
    ):
        fw.profile(program, input_shape=(3, 8, 8))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_frozen_modules_have_no_parameters_to_count() -> None:
    frozen = torch.jit.freeze(torch.jit.script(convolution()), optimize_numerics=False)
    counted = profile_module(frozen, input_shape=(3, 8, 8))
    assert totals(counted) == (None, 13_824, 27_648)
    assert {row.params for row in counted.layers} == {None}
    assert not hasattr(frozen, "training"), "it is as it was"
    mixed = nn.Sequential(frozen, nn.Conv2d(8, 8, 1))
    assert profile_module(mixed, input_shape=(3, 8, 8)).params is None


@pytest.mark.parametrize(
    ("part", "name"), [(nn.LazyLinear(3), "LazyLinear"), (nn.LazyBatchNorm1d(), "LazyBatchNorm1d")]
)
def test_a_lazy_layer_is_named(part: nn.Module, name: str) -> None:
    module = nn.Sequential(nn.ReLU(), part)
    problem = rf"cannot count Sequential: 1 is lazy \({name}\) and has no weights yet; run"
    with pytest.raises(UsageError, match=problem):
        profile_module(module, input_shape=(4,))
    module.eval()(torch.zeros(2, 4))
    assert profile_module(module, input_shape=(4,)).params


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("boom"), "KeyError: 'boom'"),
        (AttributeError("no such part\nand more"), "AttributeError: no such part"),
        (NotImplementedError(), "NotImplementedError"),
        (IndexError("list index"), "IndexError: list index"),
    ],
)
def test_what_a_module_raises_is_named_in_one_line(error: Exception, said: str) -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    module = Raises()
    with pytest.raises(
        UsageError, match=rf"Raises cannot run on .*\[\[1, 4\]\]: {said}$"
    ) as caught:
        profile_module(module, input_shape=(4,))
    assert caught.value.__cause__ is error
    assert module.training


def test_an_input_that_the_module_cannot_take() -> None:
    with pytest.raises(UsageError, match=r"TypeError: .*must be Tensor, not numpy.ndarray"):
        profile_module(linear(), inputs=(np.zeros((1, 16), dtype=np.float32),))
    with pytest.raises(UsageError, match=r"TypeError: .*missing 1 required positional argument"):
        profile_module(linear(), inputs=())
    bare: Any = torch.zeros(1, 16)
    with pytest.raises(
        UsageError, match=r"inputs is a Tensor; allowed: .*inputs=\(tensor, \.\.\.\)"
    ):
        profile_module(linear(), inputs=bare)


@pytest.mark.parametrize("shape", ["a", 16, (16.0,), (None,), (-16,), (0,)])
def test_an_input_shape_that_is_none(shape: Any) -> None:
    with pytest.raises(UsageError, match="input_shape is "):
        profile_module(linear(), input_shape=shape)


def test_numpy_integers_are_a_shape() -> None:
    shape: Any = np.array([16])
    assert totals(profile_module(linear(), input_shape=shape)) == (170, 160, 320)


@pytest.mark.parametrize("given", [np.zeros(3), None, 3, b"resnet18", nn.Linear, torch.zeros(3)])
def test_what_names_no_network_is_told_what_does(given: Any) -> None:
    problem = (
        rf"cannot count a {type(given).__name__}; allowed: an Architecture, .*\.onnx file, a name"
    )
    with pytest.raises(UsageError, match=problem):
        fw.profile(given, input_shape=(3,))
