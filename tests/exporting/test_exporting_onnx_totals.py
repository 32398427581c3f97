"""ONNX files that once had a wrong total, or none: a total is right, or it is `None`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import featherweight as fw
from featherweight.errors import UsageError
from featherweight.exporting.onnx_profile import profile_onnx

node = helper.make_node
FLOAT = TensorProto.FLOAT
KIND = "pkg.torch.export.graph_signature.InputSpec.kind"


def numbers(*shape: int) -> np.ndarray:
    """Weights of no special value."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    held: dict[str, np.ndarray],
    *,
    inputs: dict[str, tuple[int | str, ...]],
    stated: dict[str, tuple[int, ...]] | None = None,
    output: tuple[int, ...] | None = None,
    opset: int = 17,
) -> Path:
    """Write a graph that ends in `y`; `stated` is what it says of sizes in between."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, output)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
        value_info=[
            helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in (stated or {}).items()
        ],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


CONV_RELU_CONV = (
    node("Conv", ["x", "a"], ["h"], pads=[1, 1, 1, 1]),
    node("Relu", ["h"], ["r"]),
    node("Conv", ["r", "b"], ["y"]),
)


@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_below_one_in_a_file_are_not_believed(size: int, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.onnx",
        CONV_RELU_CONV,
        {"a": numbers(8, 3, 3, 3), "b": numbers(4, 8, 1, 1)},
        inputs={"x": (1, 3, 8, 8)},
        stated={"h": (size, 8, size, 8), "r": (1, 8, 8, size)},
        output=(size, 4, size, size),
    )
    counted = profile_onnx(path)
    assert (counted.macs, counted.params) == (64 * (216 + 32), 216 + 32)
    assert counted.layers[-1].output_shape == (1, 4, 8, 8)


def test_stale_sizes_of_another_resolution_are_not_believed(tmp_path: Path) -> None:
    stale = {"h": (1, 8, 224, 224), "r": (1, 8, 224, 224)}
    path = write(
        tmp_path / "a.onnx",
        CONV_RELU_CONV,
        {"a": numbers(8, 3, 3, 3), "b": numbers(4, 8, 1, 1)},
        inputs={"x": (1, 3, 160, 160)},
        stated=stale,
        output=(1, 4, 224, 224),
    )
    assert profile_onnx(path).macs == 160 * 160 * (216 + 32)


def test_sizes_that_contradict_each_other_are_unknown(tmp_path: Path) -> None:
    conv = node("Conv", ["x", "a"], ["y"])
    for weight, attributes in (
        (numbers(8, 4, 3, 3), {}),  # a picture of 3 channels
        (numbers(8, 3, 9, 9), {}),  # larger than the picture
        (numbers(8, 3, 3, 3), {"kernel_shape": [1, 1]}),
    ):
        conv = node("Conv", ["x", "a"], ["y"], **attributes)
        path = write(tmp_path / "a.onnx", [conv], {"a": weight}, inputs={"x": (1, 3, 8, 8)})
        assert profile_onnx(path).macs is None


WEIGHT_NORM = (
    node("Mul", ["v", "v"], ["squares"]),
    node("ReduceSum", ["squares", "axes"], ["sums"], keepdims=1),
    node("Sqrt", ["sums"], ["length"]),
    node("Div", ["v", "length"], ["direction"]),
    node("Mul", ["direction", "g"], ["w"]),
    node("Conv", ["x", "w"], ["y"]),
)
STANDARDISED = (
    node("ReduceMean", ["v"], ["mean"], axes=[1, 2, 3]),
    node("Sub", ["v", "mean"], ["centred"]),
    node("Mul", ["centred", "centred"], ["squares"]),
    node("ReduceMean", ["squares"], ["variance"], axes=[1, 2, 3]),
    node("Add", ["variance", "epsilon"], ["safe"]),
    node("Sqrt", ["safe"], ["deviation"]),
    node("Div", ["centred", "deviation"], ["w"]),
    node("Conv", ["x", "w"], ["y"]),
)
HALVES = (
    node("Split", ["v", "four"], ["w", "u"], axis=0),
    node("Conv", ["x", "w"], ["p"]),
    node("Conv", ["x", "u"], ["q"]),
    node("Add", ["p", "q"], ["y"]),
)


@pytest.mark.parametrize(
    ("nodes", "params"),
    [(WEIGHT_NORM, 216 + 8), (STANDARDISED, 216), (HALVES, 216)],
    ids=["weight norm", "weight standardisation", "split"],
)
def test_weights_that_a_file_computes_count(
    nodes: tuple[onnx.NodeProto, ...], params: int, tmp_path: Path
) -> None:
    held = {"v": numbers(8, 3, 3, 3), "g": numbers(8, 1, 1, 1), "axes": np.array([1, 2, 3])}
    held |= {"epsilon": np.float32(1e-5) * np.ones((), np.float32), "four": np.array([4, 4])}
    counted = profile_onnx(write(tmp_path / "a.onnx", nodes, held, inputs={"x": (1, 3, 8, 8)}))
    assert counted.params == params
    assert counted.macs == 36 * 216


def test_a_mask_of_a_weight_makes_params_unknown(tmp_path: Path) -> None:
    nodes = [node("Mul", ["v", "mask"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    held = {"v": numbers(8, 3, 3, 3), "mask": (numbers(8, 3, 3, 3) > 0).astype(np.float32)}
    counted = profile_onnx(write(tmp_path / "a.onnx", nodes, held, inputs={"x": (1, 3, 8, 8)}))
    assert (counted.params, counted.macs) == (None, 36 * 216)


def test_a_table_added_to_a_computed_product_is_no_bias(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["q", "k"], ["p"]),
        node("Add", ["p", "table"], ["y"]),
    ]
    inputs: dict[str, tuple[int | str, ...]] = {"q": (1, 3, 49, 32), "k": (1, 3, 32, 49)}
    path = write(tmp_path / "a.onnx", nodes, {"table": numbers(3, 49, 49)}, inputs=inputs)
    counted = profile_onnx(path)
    products = 3 * 49 * 49
    assert (counted.macs, counted.flops) == (products * 32, products * 63)
    assert counted.params is None  # learned positions or a mask: nobody can tell
    for kind, params in (("PARAMETER", 7203), ("BUFFER", 0)):
        model = onnx.load(path)
        info = helper.make_tensor_value_info("table", FLOAT, (3, 49, 49))
        info.metadata_props.add(key=KIND, value=kind)
        model.graph.value_info.append(info)
        onnx.save(model, tmp_path / "b.onnx")
        assert profile_onnx(tmp_path / "b.onnx").params == params


def test_a_bias_of_an_integer_product_is_one(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z"], ["sums"]),
        node("Cast", ["sums"], ["floats"], to=FLOAT),
        node("Mul", ["s", "weight_scale"], ["scale"]),
        node("Mul", ["floats", "scale"], ["p"]),
        node("Add", ["p", "b"], ["y"]),
    ]
    held = {
        "w": np.ones((16, 10), np.uint8),
        "weight_scale": np.float32(0.1) * np.ones((), np.float32),
        "b": numbers(10),
    }
    counted = profile_onnx(write(tmp_path / "a.onnx", nodes, held, inputs={"x": (1, 16)}))
    assert (counted.params, counted.macs, counted.flops) == (170, 160, 320)


@pytest.mark.parametrize("op", ["com.microsoft.QLinearAdd", "com.microsoft.QGemm", "Det"])
def test_params_are_unknown_while_an_operator_is(op: str, tmp_path: Path) -> None:
    domain, _, name = op.rpartition(".")
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node(name, ["h", "w"] if domain else ["h"], ["y"], domain=domain),
    ]
    path = write(tmp_path / "a.onnx", nodes, {"w": numbers(4, 4)}, inputs={"x": (1, 4)})
    counted = profile_onnx(path)
    assert (counted.params, counted.macs, counted.unknown_ops) == (None, None, (op,))


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_layers_count_like_torch(op: str, gates: int, tmp_path: Path) -> None:
    import torch

    held = {
        "w": numbers(2, gates * 6, 5),
        "r": numbers(2, gates * 6, 6),
        "b": numbers(2, gates * 12),
    }
    layer = node(op, ["x", "w", "r", "b"], ["y"], hidden_size=6, direction="bidirectional")
    path = write(tmp_path / "a.onnx", [layer], held, inputs={"x": (7, 1, 5)})
    expected = fw.profile(getattr(torch.nn, op)(5, 6, bidirectional=True), input_shape=(1, 5))
    counted = profile_onnx(path)
    assert counted.params == expected.params
    assert expected.macs is not None  # of one step
    assert (counted.macs, counted.unknown_ops) == (7 * expected.macs, ())


def test_shapes_computed_from_open_sizes(tmp_path: Path) -> None:
    """A channel shuffle as an exporter writes it: sizes are divided and put together."""
    nodes = [
        node("Conv", ["x", "a"], ["h"]),
        node("Shape", ["h"], ["sizes"]),
        *(node("Gather", ["sizes", f"axis{i}"], [f"size{i}"]) for i in range(4)),
        node("Div", ["size1", "two"], ["half"]),
        *(node("Unsqueeze", [n, "zero"], [f"{n}_"]) for n in ("size0", "half", "size2", "size3")),
        node("Concat", ["size0_", "pair", "half_", "size2_", "size3_"], ["split"], axis=0),
        node("Reshape", ["h", "split"], ["groups"]),
        node("Transpose", ["groups"], ["turned"], perm=[0, 2, 1, 3, 4]),
        node("Shape", ["h"], ["again"]),
        node("Reshape", ["turned", "again"], ["shuffled"]),
        node("Conv", ["shuffled", "b"], ["y"]),
    ]
    held = {f"axis{i}": np.array(i) for i in range(4)}
    held |= {"two": np.array(2), "zero": np.array([0]), "pair": np.array([2])}
    held |= {"a": numbers(8, 3, 1, 1), "b": numbers(4, 8, 1, 1)}
    path = write(tmp_path / "a.onnx", nodes, held, inputs={"x": ("n", 3, "h", "w")})
    counted = profile_onnx(path, input_shape=(3, 6, 5))
    assert (counted.macs, counted.unknown_ops) == (30 * (24 + 32), ())


def test_two_inputs_with_open_sizes(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "a"], ["p"]),
        node("Conv", ["z", "a"], ["q"]),
        node("Concat", ["p", "q"], ["y"], axis=3),
    ]
    open_sizes = {"x": ("n", 3, "h", "w"), "z": ("n", 3, "h", "v")}
    path = write(tmp_path / "a.onnx", nodes, {"a": numbers(8, 3, 1, 1)}, inputs=open_sizes)
    with pytest.raises(UsageError, match=r"input 'z' .*open beyond its batch"):
        profile_onnx(path, input_shape=(3, 5, 7))
    given = {"x": (3, 5, 7), "z": (3, 5, 2)}
    assert fw.profile(path, input_shape=given).macs == 24 * 5 * 9
    with pytest.raises(UsageError, match="has no input 'b'; allowed: x, z"):
        profile_onnx(path, input_shape={"b": (3, 5, 7)})
    with pytest.raises(UsageError, match=r"'z' .*does not take"):  # one symbol, two heights
        profile_onnx(path, input_shape={"x": (3, 5, 7), "z": (3, 6, 2)})
    same = {"x": ("n", 3, "h", "w"), "z": ("n", 3, "h", "w")}
    path = write(tmp_path / "a.onnx", nodes, {"a": numbers(8, 3, 1, 1)}, inputs=same)
    assert profile_onnx(path, input_shape=(3, 5, 7)).macs == 24 * 5 * 14


def test_the_mean_of_a_picture_is_no_param(tmp_path: Path) -> None:
    nodes = [
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "deviation"], ["n"]),
        node("Conv", ["n", "a"], ["h"]),
        node("Mul", ["h", "table"], ["y"]),
    ]
    held = {
        "mean": numbers(3, 1, 1),
        "deviation": numbers(3, 1, 1),
        "a": numbers(8, 3, 1, 1),
        "table": numbers(8, 1, 1),
    }
    path = write(tmp_path / "a.onnx", nodes, held, inputs={"x": (1, 3, 4, 4)})
    rows = profile_onnx(path).layers
    assert [row.params for row in rows] == [0, 0, 24, None]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "swin_t"])
def test_files_with_open_sizes_count_like_torchvision(name: str, tmp_path: Path) -> None:
    import torch
    import torchvision

    module = torchvision.models.get_model(name, weights=None).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, 64, 64),),
            tmp_path / "a.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n", 2: "h", 3: "w"}},
        )
    counted = profile_onnx(tmp_path / "a.onnx", input_shape=(3, 64, 64))
    assert counted.macs == fw.profile(module, input_shape=(3, 64, 64)).macs
    assert counted.unknown_ops == ()
