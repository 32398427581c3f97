"""The layers of an ONNX file: those of the network that it was written from."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from featherweight.errors import UnsupportedError, UsageError
from featherweight.exporting.onnx_layers import OPEN_SIZE, read_onnx_layers
from featherweight.exporting.platforms import parse_platform
from featherweight.layers import layers
from featherweight.measuring.bench import export_untrained
from featherweight.networks.resolve import create_architecture
from featherweight.profiling.profile import totals
from featherweight.zoo.model import MODELS


def written(name: str, folder: Path, *, precision: str = "fp32", resolution: int = 64) -> Path:
    architecture = create_architecture(name, resolution=resolution)
    platform = parse_platform(f"local/onnxruntime:precision={precision}")
    artifact = export_untrained(architecture, platform=platform, out=folder / "net")
    return Path(artifact.directory) / artifact.files[0]


@pytest.mark.parametrize("name", MODELS)
def test_our_own_files_are_read_back(name: str, tmp_path: Path) -> None:
    read = read_onnx_layers(written(name, tmp_path))
    architecture = create_architecture(name, resolution=64)
    assert read.unknown == ()
    assert read.architecture.input_shape == architecture.input_shape
    assert totals(read.architecture).macs == totals(architecture).macs
    ours = [one.op for one in layers(architecture) if one.op not in ("conv", "activation")]
    assert [
        one.op for one in layers(read.architecture) if one.op not in ("conv", "activation")
    ] == ours


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2", "ghostnet"])
def test_int8_files_have_the_same_layers(name: str, tmp_path: Path) -> None:
    read = read_onnx_layers(written(name, tmp_path, precision="int8"))
    assert totals(read.architecture).macs == totals(create_architecture(name, resolution=64)).macs


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        pytest.param("shufflenet_v2_x0_5", marks=pytest.mark.slow),
        pytest.param("mnasnet0_5", marks=pytest.mark.slow),
    ],
)
def test_torchvisions_networks_written_by_torch(name: str, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.get_model(name, weights=None).eval()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (torch.zeros(1, 3, 64, 64),), dynamo=True, verbose=False
        )
    assert program is not None
    program.save(path)
    read = read_onnx_layers(path)
    expected = create_architecture(name, resolution=64, form="standard")
    assert read.unknown == ()
    assert totals(read.architecture).macs == totals(expected).macs


def drawn(nodes: list[onnx.NodeProto], *, shape: list[int | str], path: Path) -> Path:
    """Write a file whose first convolution has 4 filters of 3x3."""
    weight = numpy_helper.from_array(np.zeros((4, 3, 3, 3), dtype=np.float32), "w")
    wide = numpy_helper.from_array(np.zeros((5, 4, 1, 1), dtype=np.float32), "v")
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight, wide],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path


CONV = helper.make_node("Conv", ["x", "w"], ["a"], name="stem", pads=[1, 1, 1, 1])


def test_an_operator_that_keeps_its_map_is_named_and_left_out(tmp_path: Path) -> None:
    nodes = [
        CONV,
        helper.make_node("Tanh", ["a"], ["b"], name="odd"),
        helper.make_node("Conv", ["b", "v"], ["y"], name="last"),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx"))
    assert read.unknown == ("Tanh (odd)",)
    assert [one.name for one in layers(read.architecture)][:2] == ["stem", "last"]
    assert read.architecture.num_classes == 2  # what ends in a map is pooled


def test_the_layers_end_before_what_changes_its_map(tmp_path: Path) -> None:
    nodes = [
        CONV,
        helper.make_node("DepthToSpace", ["a"], ["b"], name="odd", blocksize=2),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx"))
    assert read.unknown == ("DepthToSpace (odd)",)
    assert [one.op for one in layers(read.architecture)] == ["conv", "global_pool", "linear"]


def test_open_sizes_are_said(tmp_path: Path) -> None:
    nodes = [CONV, helper.make_node("Conv", ["a", "v"], ["y"])]
    read = read_onnx_layers(drawn(nodes, shape=["n", 3, "h", "w"], path=tmp_path / "net.onnx"))
    assert read.open_sizes
    assert read.architecture.input_shape == (3, OPEN_SIZE, OPEN_SIZE)


def test_a_gate_of_its_own_map_is_an_activation(tmp_path: Path) -> None:
    nodes = [
        CONV,
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["y"]),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx"))
    assert [one.function for one in layers(read.architecture) if one.op == "activation"] == ["silu"]


def test_hard_swish_of_older_files_is_one(tmp_path: Path) -> None:
    nodes = [
        CONV,
        helper.make_node("Constant", [], ["three"], value=numpy_helper.from_array(np.float32(3))),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.float32(0))),
        helper.make_node("Constant", [], ["six"], value=numpy_helper.from_array(np.float32(6))),
        helper.make_node("Add", ["a", "three"], ["p"]),
        helper.make_node("Clip", ["p", "zero", "six"], ["c"]),
        helper.make_node("Mul", ["a", "c"], ["m"]),
        helper.make_node("Div", ["m", "six"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["y"]),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx"))
    functions = [one.function for one in layers(read.architecture) if one.op == "activation"]
    assert functions == ["hard_swish"]


def test_zeros_around_a_map_go_with_the_window_that_reads_them(tmp_path: Path) -> None:
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64))
    nodes = [
        CONV,
        helper.make_node("Constant", [], ["pads"], value=pads),
        helper.make_node("Pad", ["a", "pads"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["q"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["q", "v"], ["y"]),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 16, 16], path=tmp_path / "net.onnx"))
    (pool,) = [one for one in layers(read.architecture) if one.op == "pool"]
    assert read.unknown == ()
    assert pool.output_shape == (4, 8, 8)


def test_of_several_vectors_the_last_is_taken(tmp_path: Path) -> None:
    head = numpy_helper.from_array(np.zeros((6, 4), dtype=np.float32))
    nodes = [
        CONV,
        helper.make_node("Constant", [], ["head"], value=head),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "head"], ["first"], transB=1),
        helper.make_node("Gemm", ["f", "head"], ["y"], transB=1),
    ]
    read = read_onnx_layers(drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx"))
    assert read.architecture.num_classes == 6
    assert [one.op for one in layers(read.architecture)] == ["conv", "global_pool", "linear"]


def test_a_file_without_convolutions_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = drawn(nodes, shape=[1, 3, 8, 8], path=tmp_path / "net.onnx")
    with pytest.raises(UnsupportedError, match="holds no convolution"):
        read_onnx_layers(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_onnx_layers(tmp_path / "none.onnx")
