"""ONNX files that would keep whoever reads them busy for ever: one line, at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featherweight.errors import UsageError
from featherweight.exporting.onnx_profile import profile_onnx

node = helper.make_node
FLOAT = TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def model_of(nodes: list[onnx.NodeProto], **options: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, (1, 4))],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, **options)


def functions(calls: dict[str, list[str]]) -> list[onnx.FunctionProto]:
    """Functions of one input and output that call others in a row; `*` multiplies by a weight."""
    made = []
    for name, called in calls.items():
        nodes = [
            node(
                "Relu" if to == "*" else to,
                [f"t{i}"],
                [f"t{i + 1}"],
                domain="" if to == "*" else "own",
            )
            for i, to in enumerate(called)
        ]
        made.append(helper.make_function("own", name, ["t0"], [f"t{len(called)}"], nodes, OPSETS))
    return made


CYCLES = {
    "circle": [
        node("Add", ["x", "b"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Relu", ["a"], ["y"]),
    ],
    "itself": [node("Identity", ["h"], ["h"]), node("MatMul", ["x", "h"], ["y"])],
    "weight": [
        node("Identity", ["a"], ["b"]),
        node("Identity", ["b"], ["a"]),
        node("MatMul", ["x", "a"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", CYCLES)
def test_nodes_in_a_circle_are_refused(name: str, tmp_path: Path) -> None:
    onnx.save(model_of(CYCLES[name]), tmp_path / "a.onnx")
    with pytest.raises(
        UsageError, match=r"a\.onnx is no ONNX graph that can run: .*waits for itself"
    ):
        profile_onnx(tmp_path / "a.onnx")


CALLS = {
    "calls itself": {"f": ["f"]},
    "'[fg]' calls itself": {"f": ["g"], "g": ["*", "f"]},
    "stand for more than": {f"f{i}": [f"f{i + 1}"] * 2 for i in range(60)} | {"f60": ["*"]},
    "deep": {f"f{i}": [f"f{i + 1}"] for i in range(3000)} | {"f3000": ["*"]},
    "a function twice": {"f": ["*"]},
}


@pytest.mark.parametrize("reason", CALLS)
def test_functions_without_end_are_refused(reason: str, tmp_path: Path) -> None:
    made = functions(CALLS[reason])
    made += made[:1] if "twice" in reason else []
    model = model_of([node(made[0].name, ["x"], ["y"], domain="own")], functions=made)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(UsageError, match=reason) as caught:
        profile_onnx(tmp_path / "a.onnx")
    assert len(str(caught.value).splitlines()) == 1


def test_functions_that_end_are_written_out(tmp_path: Path) -> None:
    made = functions({"f": ["g", "g"], "g": ["*", "*"]})
    onnx.save(
        model_of([node("f", ["x"], ["y"], domain="own")], functions=made), tmp_path / "a.onnx"
    )
    counted = profile_onnx(tmp_path / "a.onnx")
    assert [row.op for row in counted.layers] == ["Relu"] * 4
    assert (counted.macs, counted.params) == (0, 0)


def test_nodes_in_another_order_count_the_same(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["h", "w"], ["y"]), node("MatMul", ["x", "w"], ["h"])]
    onnx.save(model_of(nodes), tmp_path / "a.onnx")
    counted = profile_onnx(tmp_path / "a.onnx")
    assert (counted.macs, counted.params) == (32, 16)


def test_a_graph_that_cannot_run_is_one_line(tmp_path: Path) -> None:
    relu = node("Relu", ["x"], ["y"])
    bad_data = model_of([relu])
    bad_data.graph.initializer[0].dims[0] = 400
    newer = model_of([relu])
    newer.opset_import[0].version = 9999
    models = {
        r"\(Add\) reads \['x'\]": model_of([node("Add", ["x"], ["y"])]),
        r"\(MatMul\) reads \['', 'w'\]": model_of([node("MatMul", ["", "w"], ["y"])]),
        "another type of attribute 'alpha'": model_of([node("Elu", ["x"], ["y"], alpha="a")]),
        "written twice": model_of([relu, relu]),
        "nothing writes tensor 'z'": model_of([node("Add", ["x", "z"], ["y"])]),
        "'w' holds other data than its sizes say": bad_data,
        "it has opset 9999": newer,
    }
    for reason, model in models.items():
        onnx.save(model, tmp_path / "a.onnx")
        with pytest.raises(UsageError, match=reason):
            profile_onnx(tmp_path / "a.onnx")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    content = model_of([node("Relu", ["x"], ["y"], name="abcd")]).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content.replace(b"abcd", b"a\xffcd"))
    with pytest.raises(UsageError, match="a name in it is no text"):
        profile_onnx(tmp_path / "a.onnx")


def test_a_pipe_is_no_onnx_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="not a regular file"):
        profile_onnx(tmp_path / "a.onnx")
