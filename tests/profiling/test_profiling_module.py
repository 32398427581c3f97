"""Any torch module, by hand and against the Architecture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.nn import functional
from torch.nn.modules import module as torch_module

from featherweight.errors import UnsupportedError, UsageError
from featherweight.nn.network import Network
from featherweight.profiling.aten import COUNTED, FREE, METADATA
from featherweight.profiling.module import profile_module
from featherweight.profiling.profile import Profile, profile
from featherweight.records import parse_record, to_plain
from featherweight.zoo.model import MODELS


class Calls(nn.Module):
    """A module that computes a function of its input and one weight."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *weight: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(*weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


def counts(module: nn.Module, *input_shape: int) -> tuple[int | None, int | None, int | None]:
    counted = profile_module(module, input_shape=input_shape)
    assert counted.unknown_ops == ()
    return counted.params, counted.macs, counted.flops


def test_the_tables_name_operators_that_exist_once_each() -> None:
    tables = (set(COUNTED), set(FREE), set(METADATA))
    names = set().union(*tables)
    assert len(names) == sum(map(len, tables)) >= 300
    profiler = {name for name in names if name.startswith("profiler.")}
    missing = {name for name in names - profiler if not hasattr(torch.ops.aten, name.split(".")[0])}
    missing |= {name for name in profiler if not hasattr(torch.ops.profiler, name.split(".")[1])}
    assert missing == set()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_network_counts_like_its_architecture(name: str, padding: str) -> None:
    architecture = MODELS[name].build(resolution=64, width=0.5, classes=10, padding=padding)
    expected = profile(architecture)
    counted = profile_module(Network(architecture), input_shape=architecture.input_shape)
    assert counted.unknown_ops == ()
    totals = ("params", "macs", "flops", "multiplications", "additions")
    assert [getattr(counted, key) for key in totals] == [getattr(expected, key) for key in totals]
    assert counted.input_shape == architecture.input_shape
    products = [(r.macs, r.flops) for r in counted.layers if r.macs]
    assert products == [(r.macs, r.flops) for r in expected.layers if r.macs]


def test_totals_are_sums_of_the_rows_and_are_json() -> None:
    architecture = MODELS["mobilenet_v3_small"].build(resolution=32)
    counted = profile_module(Network(architecture), input_shape=(3, 32, 32))
    keys = ("params", "macs", "flops", "multiplications", "additions", "memory_access_bytes")
    for key in keys:
        assert getattr(counted, key) == sum(getattr(row, key) for row in counted.layers), key
    assert counted.flops is not None
    assert counted.memory_access_bytes is not None
    assert counted.arithmetic_intensity == counted.flops / counted.memory_access_bytes
    assert parse_record(Profile, to_plain(counted), source="test") == counted


def test_convolutions_of_the_conventions() -> None:
    """conv 3 -> 8, 3x3, on 8x8: 13,824; 27,648 with bias, 27,136 without."""
    assert counts(nn.Conv2d(3, 8, 3, padding=1), 3, 8, 8) == (224, 13_824, 27_648)
    assert counts(nn.Conv2d(3, 8, 3, padding=1, bias=False), 3, 8, 8) == (216, 13_824, 27_136)
    assert counts(nn.Conv2d(4, 8, 3, padding="same", groups=4), 4, 8, 8)[1] == 9 * 8 * 64
    assert counts(nn.Conv1d(4, 6, 5), 4, 20) == (126, 20 * 6 * 16, 2 * 20 * 6 * 16)
    assert counts(nn.Conv3d(2, 4, 3, groups=2, bias=False), 2, 5, 5, 5)[1:] == (
        27 * 4 * 27,
        (2 * 27 - 1) * 4 * 27,
    )
    functional_call = Calls(lambda x, w: functional.conv2d(x, w, padding=1), 8, 3, 3, 3)
    assert counts(functional_call, 3, 8, 8) == (216, 13_824, 27_136)


def test_transposed_convolutions() -> None:
    assert counts(nn.ConvTranspose2d(8, 4, 2, stride=2), 8, 4, 4) == (132, 2048, 2 * 2048)
    assert counts(nn.ConvTranspose2d(8, 4, 2, stride=2, groups=4), 8, 4, 4)[1] == 512
    assert counts(nn.ConvTranspose1d(2, 3, 3, bias=False), 2, 5)[1:] == (90, 90 + 90 - 3 * 7)


def test_linear_layers_on_any_leading_axes() -> None:
    assert counts(nn.Linear(16, 10), 16) == (170, 160, 320)
    assert counts(nn.Linear(16, 10, bias=False), 16) == (160, 160, 310)
    assert counts(nn.Linear(16, 10), 7, 16) == (170, 1120, 2240)
    assert counts(nn.Linear(16, 10), 2, 3, 7, 16) == (170, 6 * 1120, 6 * 2240)
    weight = torch.ones(10, 16)
    module = Calls(lambda x, bias: functional.linear(x.transpose(1, 2), weight, bias), 10)
    assert counts(module, 16, 7) == (10, 1120, 2240)


@pytest.mark.parametrize(
    ("function", "weight", "additions"),
    [
        (lambda x, w: x @ w, (16, 10), 7 * 10 * 15),
        (lambda x, w: torch.mm(x[0], w), (16, 10), 7 * 10 * 15),
        (torch.bmm, (1, 16, 10), 7 * 10 * 15),
        (lambda x, w: torch.einsum("btc,cd->btd", x, w), (16, 10), 7 * 10 * 15),
        (lambda x, w: torch.tensordot(x, w, dims=1), (16, 10), 7 * 10 * 15),
        (lambda x, w: torch.addmm(torch.ones(10), x[0], w), (16, 10), 7 * 10 * 16),
        (lambda x, w: torch.addmm(torch.ones(10), x[0], w, beta=0), (16, 10), 7 * 10 * 15),
        (lambda x, w: torch.baddbmm(torch.ones(1, 7, 10), x, w), (1, 16, 10), 7 * 10 * 16),
        (lambda x, w: torch.addbmm(torch.ones(7, 10), x, w), (1, 16, 10), 7 * 10 * 16),
    ],
    ids=["@", "mm", "bmm", "einsum", "tensordot", "addmm", "beta0", "baddbmm", "addbmm"],
)
def test_matrix_products(
    function: Callable[[Tensor, Tensor], Tensor], weight: tuple[int, ...], additions: int
) -> None:
    assert counts(Calls(function, *weight), 7, 16)[1:] == (1120, 1120 + additions)


def test_the_products_of_a_batch_are_summed() -> None:
    """addbmm of 3 pairs: each output sums 3 x 16 products; with and without what it is added to."""
    for beta, additions in ((1, 48), (0, 47)):
        module = Calls(
            lambda x, w, b=beta: torch.addbmm(torch.ones(7, 10), x, w, beta=b), 3, 16, 10
        )
        counted = profile_module(module, inputs=(torch.ones(3, 7, 16),))
        assert (counted.macs, counted.additions) == (3 * 1120, 70 * additions)


def test_matrix_times_vector() -> None:
    assert counts(Calls(lambda x, w: x[0] @ w, 16), 7, 16)[1:] == (112, 112 + 7 * 15)
    assert counts(Calls(lambda x, w: torch.mv(x[0], w), 16), 7, 16)[1] == 112
    assert counts(Calls(lambda x, w: torch.dot(x[0, 0], w), 16), 7, 16)[1:] == (16, 31)


class Attention(nn.Module):
    """One linear layer for query, key and value, then the fused operator."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).reshape(*x.shape[:2], 3, 4, 4).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(*heads)


def test_fused_attention_on_a_cpu() -> None:
    counted = profile_module(Attention(), input_shape=(7, 16))
    assert counted.macs == 5376 + 1568
    assert [(row.name, row.op, row.macs) for row in counted.layers if row.macs] == [
        ("qkv", "linear", 5376),
        ("Attention", "scaled_dot_product_attention", 1568),
    ]


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention(need_weights: bool) -> None:
    """Width 16, 7 tokens: 8,736 multiply-adds on either path of torch."""
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    x = torch.zeros(1, 7, 16)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = module

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=need_weights)[0]

    counted = profile_module(Wrapped(), inputs=(x,))
    assert (counted.macs, counted.unknown_ops) == (8736, ())
    assert counted.params == sum(p.numel() for p in module.parameters())
    assert sum(row.params or 0 for row in counted.layers) == counted.params


def test_transformer_encoder() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True)
    counted = profile_module(nn.TransformerEncoder(layer, 2), input_shape=(7, 16))
    assert counted.macs == 2 * (8736 + 2 * 7 * 16 * 32)
    assert mha.get_fastpath_enabled()


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int) -> None:
    module = kind(6, 5, num_layers=2, bidirectional=True, batch_first=True)
    first, second = gates * 5 * (6 + 5), gates * 5 * (10 + 5)
    macs = 3 * 2 * (first + second)
    assert counts(module, 3, 6)[1:] == (macs, 2 * macs)


def test_an_unknown_operator_is_listed_and_makes_totals_unknown() -> None:
    module = Calls(lambda x, w: torch.fft.fft(x @ w).real, 16, 10)
    counted = profile_module(module, input_shape=(7, 16))
    assert counted.unknown_ops == ("_fft_r2c",)
    assert (counted.macs, counted.flops, counted.additions) == (None, None, None)
    assert (counted.memory_access_bytes, counted.arithmetic_intensity) == (None, None)
    assert counted.params == 160
    assert [row.macs for row in counted.layers] == [1120, None]


def test_shared_parameters_count_once() -> None:
    shared = nn.Linear(16, 16)
    twice = nn.Sequential(shared, nn.ReLU(), shared)
    counted = profile_module(twice, input_shape=(16,))
    assert counted.params == 272
    assert counted.macs == 2 * 256
    rows = [(row.name, row.params) for row in counted.layers if row.macs]
    assert rows == [("0", 272), ("0:2", 0)]
    tied = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False))
    tied[1].weight = tied[0].weight
    assert profile_module(tied, input_shape=(16,)).params == 256


def test_rows_are_named_by_the_module_that_ran() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    rows = profile_module(module, input_shape=(3, 8, 8)).layers
    assert [(row.name, row.op, row.output_shape, row.params, row.macs) for row in rows] == [
        ("0", "convolution", (1, 4, 6, 6), 112, 27 * 144),
        ("1.0", "batch_norm", (1, 4, 6, 6), 8, 0),
        ("1.1", "relu", (1, 4, 6, 6), 0, 0),
    ]
    assert rows[0].memory_access_bytes == 4 * (3 * 64 + 112 + 144)
    assert rows[2].memory_access_bytes == 4 * (144 + 144)


class Broken(nn.Module):
    """Mixed training flags, and a forward that fails in its second part."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4).eval()
        self.drop = nn.Dropout()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        self.drop(self.norm(x + torch.rand(4)))
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("x"), UsageError),
        (RuntimeError("bad\nshape"), UsageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_everything_is_restored_after_an_exception(
    error: BaseException, expected: type[BaseException]
) -> None:
    module = Broken(error)
    state = torch.random.get_rng_state()
    global_hooks = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
    with pytest.raises(expected):
        profile_module(module, input_shape=(4,))
    assert [part.training for part in module.modules()] == [True, False, True]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(global_hooks)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    weight = torch.ones(2, requires_grad=True)
    (weight * 2).sum().backward()  # autograd is back
    assert weight.grad is not None


def test_a_counted_module_can_be_trained() -> None:
    """What it kept from the counted run is an ordinary tensor (inference mode's is not)."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.kept: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.kept is None:
                self.kept = torch.ones(4)
            return self.linear(x) * self.kept

    module = Keeps()
    profile_module(module, input_shape=(4,))
    module(torch.ones(2, 4)).sum().backward()
    assert module.training
    assert module.linear.weight.grad is not None


def test_norms_do_not_learn_from_the_zeros() -> None:
    module = nn.BatchNorm2d(3)
    profile_module(module, input_shape=(3, 4, 4))
    assert module.num_batches_tracked == 0
    assert module.running_mean is not None
    assert torch.equal(module.running_mean, torch.zeros(3))


def test_meta_and_half_modules() -> None:
    with torch.device("meta"):
        on_meta = nn.Conv2d(3, 8, 3, padding=1)
    assert counts(on_meta, 3, 8, 8) == (224, 13_824, 27_648)
    half = profile_module(nn.Conv2d(3, 8, 3, padding=1).bfloat16(), input_shape=(3, 8, 8))
    assert half.memory_access_bytes == 2 * (3 * 64 + 224 + 8 * 64)


def test_a_whole_batch_and_several_inputs() -> None:
    module = nn.Bilinear(2, 2, 2)
    counted = profile_module(module, inputs=(torch.ones(4, 2), torch.ones(4, 2)), name="pair")
    assert counted.name == "pair"
    assert counted.unknown_ops == ("_trilinear",)
    batch = profile_module(nn.Linear(16, 10), inputs=(torch.ones(5, 16),))
    assert (batch.macs, batch.input_shape) == (800, (16,))


def test_scripted_modules_are_seen() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit.script itself
        scripted = torch.jit.script(nn.Sequential(nn.Linear(16, 10), nn.ReLU()))
    assert counts(scripted, 7, 16)[1:] == (1120, 2240)


def test_what_cannot_be_counted_is_refused() -> None:
    module = nn.Linear(4, 4)
    with pytest.raises(UsageError, match="needs its input"):
        profile_module(module)
    with pytest.raises(UsageError, match="needs its input"):
        profile_module(module, input_shape=(4,), inputs=(torch.ones(1, 4),))
    with pytest.raises(UsageError, match=r"Linear cannot run on inputs of shape \[\[1, 5\]\]"):
        profile_module(module, input_shape=(5,))
    wrong: Any = "mobilenet"
    with pytest.raises(UsageError, match="cannot count a str"):
        profile_module(wrong, input_shape=(4,))
    module.compile()
    with pytest.raises(UnsupportedError, match="compiled"):
        profile_module(nn.Sequential(module), input_shape=(4,))
