"""Counting ONNX files, and `fw.profile` on everything it takes."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from artifact_networks import labels_of, pictures, trained_like, weights_of
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import featherweight as fw
from featherweight.architecture import Architecture
from featherweight.errors import UsageError
from featherweight.exporting.onnx_profile import profile_onnx
from featherweight.exporting.onnx_rules import COUNTED, FREE, LEARNED, METADATA, WEIGHT_CARRIERS
from featherweight.layers import layers
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network
from featherweight.profiling.module import profile_module
from featherweight.profiling.profile import profile
from featherweight.runtimes.onnx_writer import write_onnx
from featherweight.runtimes.onnxruntime import open_session
from featherweight.runtimes.quantisation import observe, quantise_model, with_observers
from featherweight.zoo.model import MODELS


def small(name: str) -> Architecture:
    return MODELS[name].build(resolution=32, width=0.5, classes=10)


def write(architecture: Architecture, path: Path, *, int8: bool = False) -> Path:
    network = trained_like(architecture)
    model = write_onnx(
        architecture,
        weights_of(network),
        preprocessing=Preprocessing(),
        labels=labels_of(architecture),
    )
    if int8:
        session = open_session(with_observers(model).SerializeToString(), num_threads=1)
        seen = observe(
            model, pictures(architecture, 2), run=lambda image: session.run(None, {"image": image})
        )
        model = quantise_model(model, seen, saturation_safe=True)
    onnx.save(model, path)
    return path


def test_the_tables_name_operators_that_exist_once_each() -> None:
    tables = (set(COUNTED), set(FREE), set(METADATA))
    names = set().union(*tables)
    assert len(names) == sum(map(len, tables)) >= 150
    assert names >= set(LEARNED) | WEIGHT_CARRIERS
    newer = {"RMSNormalization", "Swish"}  # than the oldest onnx that is supported
    assert {name for name in names - newer if not onnx.defs.has(name)} == set()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_our_files_count_like_their_architecture(name: str, int8: bool, tmp_path: Path) -> None:
    architecture = small(name)
    expected = profile(architecture)
    counted = profile_onnx(write(architecture, tmp_path / "network.onnx", int8=int8))
    assert counted.unknown_ops == ()
    assert counted.macs == expected.macs
    assert (counted.name, counted.input_shape) == ("network", (32, 32, 3))
    # Norms are folded: gamma and beta of a channel became one bias, which is added once per value.
    folded = [layer for layer in layers(architecture) if layer.norm_eps is not None]
    assert expected.params is not None
    assert expected.flops is not None
    assert counted.params == expected.params - sum(layer.output_shape[0] for layer in folded)
    added = sum(int(np.prod(layer.output_shape)) for layer in folded)
    assert counted.flops == expected.flops + added


def test_conversions_of_a_quantised_file_move_bytes_and_compute_nothing(tmp_path: Path) -> None:
    rows = profile_onnx(write(small("convnet"), tmp_path / "a.onnx", int8=True)).layers
    conversions = [row for row in rows if row.op == "QuantizeLinear"]
    assert len(conversions) >= 5
    for row in conversions:
        values = int(np.prod(row.output_shape))
        assert (row.flops, row.params) == (0, 0)
        assert row.memory_access_bytes == 4 * values + values + 4 + 1  # scale and zero point


def exported(module: nn.Module, *input_shape: int, dynamic: bool) -> onnx.ModelProto:
    """What torch's own exporter writes."""
    stream = io.BytesIO()
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *input_shape),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: batch},) if dynamic else None,
        )
    assert program is not None
    program.save(stream)
    return onnx.load_from_string(stream.getvalue())


class Tokens(nn.Module):
    """A convolution, tokens, attention, a linear layer on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        weights = (q @ k.transpose(1, 2) / 4.0).softmax(dim=-1)
        return self.out(weights @ v)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet"])
def test_files_of_torch_count_like_the_architecture(name: str, tmp_path: Path) -> None:
    architecture = small(name)
    model = exported(Network(architecture), *architecture.input_shape, dynamic=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    onnx.save(model, tmp_path / "torch.onnx")
    counted = profile_onnx(tmp_path / "torch.onnx")
    assert counted.unknown_ops == ()
    assert counted.macs == profile(architecture).macs
    assert counted.input_shape == architecture.input_shape


@pytest.mark.slow
def test_a_transformer_of_torch_counts_like_the_module(tmp_path: Path) -> None:
    module = Tokens()
    onnx.save(exported(module, 3, 16, 16, dynamic=True), tmp_path / "tokens.onnx")
    counted = profile_onnx(tmp_path / "tokens.onnx")
    expected = profile_module(module, input_shape=(3, 16, 16))
    assert counted.unknown_ops == ()
    assert (counted.params, counted.macs, counted.flops) == (
        expected.params,
        expected.macs,
        expected.flops,
    )


def graph_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    path: Path,
    *,
    shape: tuple[int | str, ...],
    output: str = "y",
    kind: int = TensorProto.FLOAT,
) -> Path:
    inputs = [helper.make_tensor_value_info("x", kind, list(shape))]
    outputs = [helper.make_tensor_value_info(output, TensorProto.UNDEFINED, None)]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def ones(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.ones(shape, dtype=dtype)


def test_convolutions_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    held = {"w": ones(8, 3, 3, 3), "b": ones(8)}
    counted = profile_onnx(graph_of([conv], held, path, shape=("batch", 3, 8, 8)))
    assert (counted.params, counted.macs, counted.flops) == (224, 13_824, 27_648)
    assert counted.memory_access_bytes == 4 * (3 * 64 + 224 + 8 * 64)
    without = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    counted = profile_onnx(graph_of([without], held, path, shape=(1, 3, 8, 8)))
    assert (counted.params, counted.macs, counted.flops) == (216, 13_824, 27_136)
    up = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    counted = profile_onnx(graph_of([up], {"w": ones(8, 4, 2, 2)}, path, shape=(1, 8, 4, 4)))
    assert (counted.params, counted.macs, counted.flops) == (128, 2048, 2048 + 1792)


def test_matrix_products_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    held = {"w": ones(10, 16), "b": ones(10)}
    counted = profile_onnx(graph_of([gemm], held, path, shape=(1, 16)))
    assert (counted.params, counted.macs, counted.flops) == (170, 160, 320)
    turned = helper.make_node("Gemm", ["w", "x"], ["y"], transA=1, transB=1)
    counted = profile_onnx(graph_of([turned], {"w": ones(16, 10)}, path, shape=(1, 16)))
    assert (counted.params, counted.macs, counted.flops) == (160, 160, 310)
    product = helper.make_node("MatMul", ["x", "w"], ["p"])
    bias = helper.make_node("Add", ["b", "p"], ["y"])
    held = {"w": ones(16, 10), "b": ones(10)}
    counted = profile_onnx(graph_of([product, bias], held, path, shape=(1, 7, 16)))
    assert (counted.params, counted.macs, counted.flops) == (170, 1120, 2240)
    assert [(row.macs, row.additions) for row in counted.layers] == [(1120, 1050), (0, 70)]
    square = helper.make_node("MatMul", ["x", "x"], ["y"])
    assert profile_onnx(graph_of([square], {}, path, shape=(1, 5, 5))).params == 0


@pytest.mark.parametrize("op", ["ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"])
def test_integer_operators(op: str, tmp_path: Path) -> None:
    image = "Conv" in op
    weight = ones(8, 3, 3, 3, dtype=np.uint8) if image else ones(16, 10, dtype=np.uint8)
    held = {"w": weight, "s": ones(dtype=np.float32), "z": ones(dtype=np.uint8)}
    linear = op.startswith("QLinear")
    held |= {"b": ones(8, dtype=np.int32)} if op == "QLinearConv" else {}
    names = ["x", "s", "z", "w", "s", "z", "s", "z"] if linear else ["x", "w"]
    names += ["b"] if op == "QLinearConv" else []
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if image else {}
    node = helper.make_node(op, names, ["y"], **attributes)
    path = graph_of(
        [node],
        held,
        tmp_path / "a.onnx",
        shape=(1, 3, 8, 8) if image else (1, 7, 16),
        kind=TensorProto.UINT8,
    )
    counted = profile_onnx(path)
    assert counted.macs == (13_824 if image else 1120)
    assert counted.params == weight.size + (8 if op == "QLinearConv" else 0)
    assert counted.macs is not None
    outputs = 512 if image else 70
    assert counted.additions == counted.macs - (0 if op == "QLinearConv" else outputs)
    assert counted.unknown_ops == ()


def test_a_shared_constant_counts_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in (("x", "h"), ("h", "y"))]
    counted = profile_onnx(graph_of(nodes, {"w": ones(4, 4)}, tmp_path / "a.onnx", shape=(1, 4)))
    assert (counted.params, counted.macs) == (16, 32)


@pytest.mark.parametrize(("domain", "name"), [("", "Det"), ("com.microsoft", "FusedConv")])
def test_unknown_operators_are_listed(domain: str, name: str, tmp_path: Path) -> None:
    strange = helper.make_node(name, ["x"], ["h"], domain=domain)
    relu = helper.make_node("Relu", ["x"], ["y"])
    counted = profile_onnx(graph_of([strange, relu], {}, tmp_path / "a.onnx", shape=(2, 3, 3)))
    assert counted.unknown_ops == (f"{domain}.{name}".lstrip("."),)
    assert (counted.macs, counted.flops, counted.memory_access_bytes) == (None, None, None)
    assert [row.macs for row in counted.layers] == [None, 0]


def test_a_product_of_unknown_shape_is_unknown(tmp_path: Path) -> None:
    strange = helper.make_node("Mystery", ["x"], ["h"], domain="com.microsoft")
    product = helper.make_node("MatMul", ["h", "w"], ["y"])
    held = {"w": ones(4, 4)}
    counted = profile_onnx(graph_of([strange, product], held, tmp_path / "a.onnx", shape=(1, 4)))
    assert counted.unknown_ops == ("MatMul", "com.microsoft.Mystery")
    assert counted.layers[1].output_shape is None


def test_shapes_that_nodes_compute(tmp_path: Path) -> None:
    """Flattening as torch's older exporter writes it: Shape, Gather, Unsqueeze, Concat, Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batches"]),
        helper.make_node("Concat", ["batches", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["x", "flat"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    held = {
        "zero": np.array(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
        "w": ones(48, 10),
    }
    path = graph_of(nodes, held, tmp_path / "a.onnx", shape=("batch", 3, 4, 4))
    model = onnx.load(path)
    stale = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", "rest"])
    model.graph.value_info.append(stale)
    onnx.save(model, path)
    assert profile_onnx(path).macs == 480


def test_open_sizes(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])
    shape = ("n", 3, "height", "width")
    path = graph_of([conv], {"w": ones(8, 3, 1, 1)}, tmp_path / "a.onnx", shape=shape)
    with pytest.raises(UsageError, match="open beyond its batch axis"):
        profile_onnx(path)
    assert profile_onnx(path, input_shape=(3, 5, 7)).macs == 24 * 35
    assert fw.profile(path, input_shape=(3, 5, 7)).input_shape == (3, 5, 7)
    for wrong in ((4, 5, 7), (3, 5)):
        with pytest.raises(UsageError, match="does not take input_shape"):
            profile_onnx(path, input_shape=wrong)


def test_files_that_are_not_onnx(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*missing\.onnx"):
        profile_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("certainly not a protobuf")
    with pytest.raises(UsageError, match=r"text\.onnx"):
        profile_onnx(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match="holds no ONNX graph"):
        profile_onnx(tmp_path / "empty.onnx")


def test_weights_in_another_file_need_not_be_there(tmp_path: Path) -> None:
    path = write(small("resnet"), tmp_path / "whole.onnx")
    expected = profile_onnx(path)
    onnx.save(
        onnx.load(path), tmp_path / "whole.onnx", save_as_external_data=True, location="weights"
    )
    (tmp_path / "weights").unlink()
    assert profile_onnx(path) == expected


def test_profile_takes_whatever_describes_a_network(tmp_path: Path) -> None:
    architecture = small("mobilenet_v2")
    expected = profile(architecture)
    text = "mobilenet_v2:width=0.5,resolution=32,classes=10,form=standard"
    assert fw.profile(architecture) == fw.profile(text) == expected
    module = fw.profile(Network(architecture), input_shape=architecture.input_shape)
    path = write(architecture, tmp_path / "network.onnx")
    assert module.macs == fw.profile(path).macs == fw.profile(str(path)).macs == expected.macs
    with pytest.raises(UsageError, match="needs its input"):
        fw.profile(Network(architecture))
    with pytest.raises(UsageError, match="has its own input"):
        fw.profile(architecture, input_shape=(3, 32, 32))


def test_an_architecture_needs_neither_torch_nor_onnx() -> None:
    script = (
        "import sys, featherweight as fw; assert fw.profile('mobilenet_v2').macs == 300_774_272; "
        "assert not {'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
