"""The inputs of fuzz.py: what is given to which command, drawn from a seed.

Every kind has a function that takes a `Draw` and returns command lines (lists of arguments of
`featherweight`) or a function to call; files are made in the folder of the draw. The same seed,
kind and number give the same input.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import random
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as parquet
from onnx import TensorProto, helper
from PIL import Image

__all__ = ["KINDS", "Base", "Draw", "Task", "make_base"]

Task = list[str] | Callable[[], object]
"""Arguments of the command line, or something to call."""

SIDE = 16
CLASSES = ("a", "b", "c")
NETWORK = f"convnet:resolution={SIDE},width=0.25"
_FIT = ["--latency", "5ms", "--epochs", "1", "--model", "convnet"]
ODD_TEXT = (
    "",
    " ",
    "\t",
    "\n",
    "-",
    "--",
    "=",
    ":",
    "/",
    ",",
    "%",
    "%s",
    "{}",
    "\x1b[31m",
    "\x7f",
    "\u202e",
    "\ufeff",
    "é",
    "e\u0301",
    "中文",
    "\U0001f600",
    "\udcff",
    "٣",
    "½",
    "\uff12",
    "0x10",
    "1_000",
    "'",
    '"',
    "\\",
    "~",
    "~nosuchuser",
    "*",
    "..",
    "://",
    "@",
    "[::1]",
    ":99999",
    "?",
    "#",
    "a" * 300,
    "9" * 400,
)
ODD_NUMBERS = (
    "0",
    "-0",
    "-1",
    "1e309",
    "-1e309",
    "1e-400",
    "nan",
    "inf",
    "-inf",
    "1e5",
    "+5",
    "1.5.2",
    ".",
    "1,5",
    "2147483648",
    "9223372036854775808",
    "18446744073709551616",
    "0.0000001",
    "1" + "0" * 30,
    "9" * 400,
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0",
    "a" * 300,
    "\udcff",
    "\u0000",
    [],
    [[]],
    {},
    {"": None},
    [None],
    [0, 0, 0],
    ["x"] * 50,
)


@dataclass(frozen=True)
class Base:
    """Sound things that inputs are made from, in one folder."""

    folder: Path

    @property
    def photos(self) -> Path:
        """Return a folder of pictures."""
        return self.folder / "photos"

    @property
    def runs(self) -> list[Path]:
        """Return run directories of finished runs."""
        return sorted(path for path in (self.folder / "runs").iterdir() if path.is_dir())

    @property
    def trained(self) -> Path:
        """Return a run directory with a network."""
        return self.folder / "runs" / "trained"

    @property
    def artifact(self) -> Path:
        """Return the folder of an exported file."""
        return self.folder / "artifacts" / "onnxruntime-fp32"

    @property
    def bundle(self) -> Path:
        """Return a bundle of that file."""
        return self.folder / "bundle"

    @property
    def table(self) -> Path:
        """Return a table of latencies."""
        return self.folder / "table.json"


class Draw:
    """Random choices of one input, and where its files go."""

    def __init__(self, seed: str, folder: Path, base: Base) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.base = base

    def of(self, options: Any) -> Any:
        """Return one of some things."""
        return self.random.choice(list(options))

    def chance(self, share: float) -> bool:
        """Return true in that share of cases."""
        return self.random.random() < share


# ---------------------------------------------------------------------------------- sound things


def make_base(folder: Path, *, with_runs: bool) -> Base:
    """Make what inputs are changed from.

    Args:
        folder: an empty folder.
        with_runs: also run a training and a fit of the demo: a minute or two.
    """
    import featherweight as fw
    from featherweight.cli.app import run
    from featherweight.networks.preprocessing import Preprocessing
    from featherweight.runtimes.runtime import RUNTIMES

    base = Base(folder)
    pixels = np.random.default_rng(0)
    for name in CLASSES:
        (base.photos / name).mkdir(parents=True)
        for k in range(8):
            noise = pixels.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(base.photos / name / f"{k}.{('png', 'jpg')[k % 2]}")
    architecture = fw.resolve_architecture(f"{NETWORK},classes={len(CLASSES)}")
    network = fw.build_network(architecture, seed=0)
    preprocessing = Preprocessing()
    fw.save_network(network, base.trained, preprocessing=preprocessing, classes=CLASSES)
    (base.trained / "run.yaml").write_text(
        "schema_version: 1\nidentity:\n  name: train-photos\n  model: convnet\n  seed: 0\n"
        "attempts:\n- command: train\n  started: '2026-01-01T00:00:00+00:00'\n  pid: 1\n"
        "  elapsed_s: 1.0\n"
    )
    (base.trained / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _EPOCHS))
    artifact = fw.export_network(
        network,
        runtime="onnxruntime",
        precision="fp32",
        out=base.artifact,
        preprocessing=preprocessing,
        labels=CLASSES,
    )
    sample = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    expected = RUNTIMES["onnxruntime"].load(artifact, num_threads=1)(sample)
    fw.write_bundle(artifact, base.bundle, sample=sample, expected=expected)
    base.table.write_text(json.dumps(_TABLE))
    if with_runs:
        runs = folder / "runs"
        photos = [str(base.photos), "--model", NETWORK, "--epochs", "1"]
        codes = [
            run(["train", *photos, "--output", str(runs / "train")]),
            run(["fit", "demo", *_FIT, "--output", str(runs / "fit")]),
        ]
        if any(code not in (0, 3) for code in codes):
            raise SystemExit(f"the runs to damage ended with {codes}")
    return base


_EPOCHS: list[dict[str, Any]] = [
    {"event": "start", "network": "convnet", "identity": "0" * 64, "architecture_digest": "0" * 64},
    {
        "event": "epoch",
        "epoch": 1,
        "images_seen": 24,
        "seconds": 1.0,
        "images_per_s": 24.0,
        "train_loss": 2.0,
        "val_loss": 2.0,
        "val_accuracy": 0.3,
        "learning_rate": 0.1,
        "resolution": SIDE,
        "memory_format": "contiguous",
        "dtype": "fp32",
        "foreign_cpu_share": 0.0,
    },
]
_TABLE: dict[str, Any] = {
    "schema_version": 1,
    "platform": "local/onnxruntime:threads=1,precision=fp32",
    "fingerprint": {
        "cpu": "x",
        "arch": "x86_64",
        "cores": 2,
        "os": "Linux",
        "runtime_version": "1",
        "governor": None,
    },
    "started": "2026-01-01T00:00:00+00:00",
    "seconds": 1.0,
    "seed": 0,
    "entries": [
        {
            "network": f"mobilenet_v2:width={width},resolution={side}",
            "disturbed": False,
            "median_ms": side / 50 * width,
            "interval_ms": [side / 51 * width, side / 49 * width],
        }
        for width in (0.5, 1.0)
        for side in (96, 128, 160, 192)
    ],
    "held_out": {
        "networks": 2,
        "within_10_percent": 1.0,
        "mape": 0.1,
        "spearman": 1.0,
        "coverage": 1.0,
    },
}


# --------------------------------------------------------------------------------------- changes


def changed_text(draw: Draw, text: str) -> str:
    """Return a text with one to three things wrong in it."""
    for _ in range(draw.random.randint(1, 3)):
        at = draw.random.randint(0, len(text))
        to = min(len(text), at + draw.random.randint(0, 4))
        text = draw.of(
            (
                lambda at=at, text=text: text[:at] + draw.of(ODD_TEXT) + text[at:],
                lambda at=at, to=to, text=text: text[:at] + text[to:],
                lambda at=at, to=to, text=text: (
                    text[:at] + text[at:to] * draw.of((2, 3, 50)) + text[to:]
                ),
                lambda text=text: _other_number(draw, text),
                lambda text=text: draw.of((text.upper(), text.swapcase(), f" {text} ", text[::-1])),
            )
        )()
    return text


def _other_number(draw: Draw, text: str) -> str:
    digits = [k for k, character in enumerate(text) if character.isdigit()]
    if not digits:
        return text + draw.of(ODD_NUMBERS)
    start = end = draw.of(digits)
    while end < len(text) and text[end].isdigit():
        end += 1
    return text[:start] + draw.of(ODD_NUMBERS) + text[end:]


def changed_bytes(draw: Draw, content: bytes) -> bytes:
    """Return bytes that are cut, flipped, repeated, emptied or prefixed."""
    if not content:
        return draw.random.randbytes(20)
    how = draw.of(("cut", "flip", "flip", "flip", "zero", "repeat", "insert", "empty", "tail"))
    at = draw.random.randrange(len(content))
    if how == "cut":
        return content[:at]
    if how in ("flip", "zero"):
        found = bytearray(content)
        for _ in range(draw.of((1, 1, 3, 20))):
            place = draw.random.randrange(len(found))
            found[place] = 0 if how == "zero" else draw.random.randrange(256)
        return bytes(found)
    if how == "repeat":
        return content[:at] + content[at : at + 64] * draw.of((2, 100)) + content[at:]
    if how == "insert":
        return content[:at] + draw.random.randbytes(draw.of((1, 8, 100))) + content[at:]
    return b"" if how == "empty" else content + draw.random.randbytes(50)


def changed_plain(draw: Draw, plain: Any) -> Any:
    """Return plain data with one to three keys gone, added or of another kind."""
    plain = json.loads(json.dumps(plain))
    for _ in range(draw.random.randint(1, 3)):
        places = list(_places(plain))
        if not places:
            return odd_value(draw)
        holder, key = draw.of(places)
        how = draw.of(("replace", "replace", "replace", "remove", "add", "deep"))
        if how == "remove":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[draw.of(("", "x", "schema_version", "__class__"))] = odd_value(draw)
        elif how == "deep":
            holder[key] = _nested(draw.of((10, 200)))
        else:
            holder[key] = odd_value(draw)
    return plain


def odd_value(draw: Draw) -> Any:
    """Return a value that no key expects; a copy, for the next change may change it."""
    return copy.deepcopy(draw.of(ODD_VALUES))


def _places(plain: Any) -> Any:
    keys = (
        range(len(plain))
        if isinstance(plain, list)
        else list(plain)
        if isinstance(plain, dict)
        else ()
    )
    for key in keys:
        yield plain, key
        yield from _places(plain[key])


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def changed_json(draw: Draw, content: bytes) -> bytes:
    """Return a changed JSON file: its data, its bytes, or something else altogether."""
    if draw.chance(0.15):
        return draw.of(
            (
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b"1" * 5_000,
                b"NaN",
                b"null",
                b"[]",
                b'"',
                b"\xff\xfe{}",
                b"\xef\xbb\xbf{}",
                b"{}" * 2,
                b"1e999",
                b'{"a":1,"a":2}',
            )
        )
    plain = _loaded(content)
    if plain is None or draw.chance(0.3):
        return changed_bytes(draw, content)
    return json.dumps(changed_plain(draw, plain)).encode("utf-8", "surrogatepass")


def _loaded(content: bytes) -> Any:
    """Return what a JSON file holds; nothing where an earlier change has damaged it."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------ text


def text_task(draw: Draw) -> Task:
    """A command line with odd text, or a parser called with it."""
    from featherweight.budget import parse_duration_s, parse_latency_ms
    from featherweight.exporting.platforms import parse_platform
    from featherweight.networks.resolve import resolve_architecture

    def odd(*examples: str) -> str:
        return changed_text(draw, draw.of(examples))

    latency = odd("5ms", "5000us", "200fps", "0.005s")
    duration = odd("90s", "20m", "1.5h")
    platform = odd(
        "local/onnxruntime:threads=1,precision=int8",
        "local/onnxruntime",
        "ssh://pi@host:22/onnxruntime",
        "local/ncnn:precision=fp32",
        "adb://serial/onnxruntime",
        "ssh://[::1]:22/onnxruntime",
    )
    network = odd(
        "mobilenet_v2:width=0.5,resolution=160,classes=10",
        "efficientnet_lite0",
        "timm:mobilenetv2_050",
        "convnet:resolution=16",
        "ghostnet:padding=same",
        "architecture.json",
        "runs/x",
        "model.onnx",
    )
    url = odd(
        "ssh://pi@raspberrypi.local", "ssh://host:2222", "adb://emulator-5554", "ssh://[fe80::1]:22"
    )
    path = _inside(odd("photos", "data/train.parquet", "runs/one", "photo.jpg"))
    seed = odd("0", "7", "123")
    return draw.of(
        (
            ["fit", "nowhere", f"--latency={latency}", *draw.of(([], ["--json"]))],
            ["fit", "nowhere", "--latency", "5ms", f"--time={duration}"],
            ["fit", "nowhere", "--latency", "5ms", f"--on={platform}"],
            ["fit", "nowhere", "--latency", "5ms", f"--model={network}", f"--seed={seed}"],
            [
                "fit",
                path,
                "--latency",
                "5ms",
                f"--metric={odd('accuracy')}",
                f"--device={odd('cuda')}",
            ],
            ["fit", "nowhere", "--latency", "5ms", f"--precision={odd('int8')}"],
            ["fit", "nowhere", "--latency", "5ms", f"--pretrained={odd('auto')}"],
            ["fit", f"--latency={latency}", f"--from={path}", *draw.of(([], [f"--on={platform}"]))],
            ["train", "nowhere", f"--model={network}", f"--epochs={odd('3')}", f"--seed={seed}"],
            ["train", path, "--model", "convnet", f"--time={duration}", f"--teacher={path}"],
            ["profile", network, *draw.of(([], ["--json"]))],
            ["measure", network, "--predicted", f"--on={platform}"],
            ["measure", network, f"--table={path}"],
            ["device", "add", odd("pi", "my-board"), url, f"--python={odd('python3')}"],
            ["device", "list"],
            ["models", odd("mobile", "lite"), "--json"],
            ["models", f"--latency={latency}"],
            ["data", "check", path, f"--seed={seed}"],
            ["evaluate", str(draw.base.trained), path, f"--split={odd('test')}"],
            ["predict", path, path],
            ["report", path, f"--lang={odd('en')}"],
            ["verify", path, path, path],
            ["export", str(draw.base.trained), f"--output={path}"],
            [odd("fit", "train", "doctor"), odd("--help", "--json"), odd("x")],
            lambda: parse_latency_ms(latency),
            lambda: parse_duration_s(duration),
            lambda: parse_platform(platform),
            lambda: resolve_architecture(network),
        )
    )


def _inside(text: str) -> str:
    """Return the text, or a harmless one where it would lead out of the folder."""
    return "nowhere" if text.startswith("/") or ".." in text or "://" in text else text


# ---------------------------------------------------------------------------------- JSON and YAML


def json_task(draw: Draw) -> Task:
    """A command that reads a changed JSON file."""
    what = draw.of(("architecture", "architecture", "table", "devices"))
    if what == "devices":
        home = draw.folder / "home"
        sound = {"schema_version": 1, "devices": {"pi": {"url": "ssh://pi@host", "python": None}}}
        _write(home / "devices.json", changed_json(draw, json.dumps(sound).encode()))
        lines = draw.of(
            (
                ["device", "list"],
                ["device", "list", "--json"],
                ["device", "add", "b", "ssh://b"],
                ["measure", "convnet", "--predicted", "--on", "pi/onnxruntime"],
            )
        )
        return with_home(home, lines)
    if what == "table":
        file = _write(draw.folder / "table.json", changed_json(draw, draw.base.table.read_bytes()))
        return ["measure", "mobilenet_v2:width=0.75", "--table", str(file)]
    sound_file = draw.base.trained / "architecture.json"
    file = _write(draw.folder / "architecture.json", changed_json(draw, sound_file.read_bytes()))
    return draw.of(
        (["profile", str(file)], ["profile", str(file.parent)], ["profile", str(file), "--json"])
    )


def with_home(home: Path, arguments: list[str]) -> Task:
    """Return a call of the command line with another home."""

    def call() -> object:
        from featherweight.cli.app import run

        before = os.environ["FEATHERWEIGHT_HOME"]
        os.environ["FEATHERWEIGHT_HOME"] = str(home)
        try:
            return run(arguments)
        finally:
            os.environ["FEATHERWEIGHT_HOME"] = before

    call.__qualname__ = " ".join(arguments)
    return call


def yaml_task(draw: Draw) -> Task:
    """A command on a run directory with another run.yaml."""
    import yaml

    run = _copy(draw, draw.of(draw.base.runs))
    content = (run / "run.yaml").read_bytes() if (run / "run.yaml").exists() else b"{}"
    if draw.chance(0.35):
        content = draw.of(_ODD_YAML)
    elif draw.chance(0.4):
        content = changed_bytes(draw, content)
    else:
        plain = changed_plain(draw, yaml.safe_load(content))
        content = json.dumps(plain).encode("utf-8", "surrogatepass")
    _write(run / "run.yaml", content)
    return _use_of_run(draw, run)


_ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, one in zip("abcdefghi", "bcdefghij", strict=True)
)
_ODD_YAML = (
    b"",
    b"---\n---\n",
    b"- 1\n- 2\n",
    b"1",
    b"text",
    b"identity: []\n",
    b"identity:\n",
    b"identity: 1\n",
    b"identity: {seed: x}\n",
    b"identity: {seed: -1}\nattempts: []\n",
    b"identity: {seed: 1e400}\n",
    b"identity: {seed: " + b"9" * 400 + b"}\n",
    b"identity: {1: 2}\nattempts: 3\n",
    b"&a [*a]\n",
    b"identity: &a {x: *a}\n",
    _ALIASES.encode(),
    b"identity: !!python/object/apply:os.getpid []\n",
    b"identity: {seed: 2026-13-45}\n",
    b"identity: {seed: .nan}\n",
    b"? [a, b]\n: c\n",
    b"\xff\xfe",
    b"a: b: c\n",
    b"\t- x\n",
    b"[" * 2000,
    b"{a: " * 500,
    b"identity: {seed: !!binary AAAA}\n",
    b"identity: {seed: 0o17}\n",
    b"%YAML 9.9\n---\n",
    b"identity: {seed: 1:30}\n",
    b"<<: [1]\n",
    b'identity: {name: "\\uD800"}\nattempts: []\n',
    b"schema_version: 99\nidentity: {}\n",
)


# ------------------------------------------------------------------------------------------- ONNX


def onnx_task(draw: Draw) -> Task:
    """Profile a changed ONNX file."""
    if draw.chance(0.35):
        content = changed_bytes(draw, next(draw.base.artifact.glob("*.onnx")).read_bytes())
    else:
        model = _odd_graph(draw)
        content = model.SerializeToString()
        if draw.chance(0.2):
            content = changed_bytes(draw, content)
    name = draw.of(("model.onnx", "model.onnx", "中文.onnx", "a b.onnx"))
    file = _write(draw.folder / name, content)
    return ["profile", str(file), *draw.of(([], ["--json"]))]


_OPERATORS = ("LSTM", "Softmax", "Resize", "Einsum", "Loop", "Pad", "Mul", "Split", "QLinearConv")


def _odd_graph(draw: Draw) -> onnx.ModelProto:
    sizes = (1, 3, 8, 8)
    odd_sizes = (
        sizes,
        (-1, 3, 8, 8),
        (0, 3, 8, 8),
        ("n", 3, "h", "w"),
        (),
        (1, 3, 2**40, 2**40),
        None,
    )
    tensor = helper.make_tensor_value_info
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, raw_data=b"\0" * 432)
    weight.dims.extend((4, 3, 3, 3))
    if draw.chance(0.3):
        weight.dims[:] = draw.of(((4, 3, 0, 3), (4,), (2**31, 3, 1, 1), (), (-4, 3, 3, 3)))
    if draw.chance(0.2):
        weight.raw_data = draw.of((b"", b"\0" * 12))
    attributes = draw.of(
        (
            {},
            {"pads": [1, 1, 1, 1]},
            {"pads": [-9] * 4},
            {"strides": [0, 0]},
            {"group": 0},
            {"group": 3},
            {"kernel_shape": [10**9, 10**9]},
            {"dilations": [2**40, 1]},
            {"auto_pad": "x"},
            {"strides": 2},
            {"group": 2**62},
        )
    )
    first = helper.make_node("Conv", ["x", "w"], ["c"], "conv", **attributes)
    second = draw.of(
        (
            lambda: helper.make_node("Relu", ["c"], ["y"]),
            lambda: helper.make_node("Relu", ["y"], ["y"]),
            lambda: helper.make_node("Add", ["c", "y"], ["y"]),
            lambda: helper.make_node("Reshape", ["c", "x"], ["y"]),
            lambda: helper.make_node("Gemm", ["c", "w"], ["y"], transB=1),
            lambda: helper.make_node("MatMul", ["c", "nothing"], ["y"]),
            lambda: helper.make_node(draw.of(_OPERATORS), ["c"], ["y"]),
            lambda: helper.make_node(
                "Unheard", ["c"] * draw.of((1, 100)), ["y"], domain="somewhere"
            ),
            lambda: helper.make_node(
                "Concat", ["c", "c"], ["y"], axis=draw.of((0, 1, 9, -9, 2**62))
            ),
            lambda: helper.make_node(
                "If", ["c"], ["y"], then_branch=_branch(30), else_branch=_branch(1)
            ),
            lambda: helper.make_node("F", ["c"], ["y"], domain="local"),
            lambda: helper.make_node("Conv", ["c"], ["y"]),
            lambda: helper.make_node("", [""], [""]),
        )
    )()
    nodes = [first, second] if draw.chance(0.8) else [second, first]
    graph = helper.make_graph(
        nodes,
        draw.of(("g", "")),
        [tensor("x", TensorProto.FLOAT, draw.of(odd_sizes))],
        [tensor("y", draw.of((TensorProto.FLOAT, TensorProto.STRING, 0)), draw.of(odd_sizes))],
        [weight] if draw.chance(0.9) else [],
        value_info=[tensor("c", TensorProto.FLOAT, draw.of(odd_sizes))] if draw.chance(0.5) else [],
    )
    functions = [
        helper.make_function(
            "local",
            name,
            ["a"],
            ["b"],
            [helper.make_node(other, ["a"], ["b"], domain="local")],
            [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
        )
        for name, other in (("F", draw.of(("F", "G"))), ("G", "F"))
    ]
    opsets = [
        helper.make_opsetid("", draw.of((17, 17, 1, 0, 999))),
        helper.make_opsetid("local", 1),
    ]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions)
    if draw.chance(0.15):
        weight = model.graph.initializer.add(name="far", data_type=1, dims=[4])
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(
            key="location", value=draw.of(("gone.bin", "../../../etc/passwd", ""))
        )
    if draw.chance(0.1):
        model.graph.input.extend([model.graph.input[0]] * 3)
    if draw.chance(0.1):
        del model.graph.output[:]
    return model


def _branch(depth: int) -> onnx.GraphProto:
    nodes = [helper.make_node("Relu", ["c"], ["z"])]
    output = [helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 4, 8, 8))]
    graph = helper.make_graph(nodes, "b", [], output)
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=graph)
        graph = (
            helper.make_graph([node], "b", [], output)
            if depth < 8
            else helper.make_graph(
                [helper.make_node("If", ["c"], ["z"], then_branch=graph)], "b", [], output
            )
        )
    return graph


# ---------------------------------------------------------------------------------------- Parquet


def parquet_task(draw: Draw) -> Task:
    """Check a Parquet file of an odd schema or with changed bytes."""
    table = _odd_table(draw)
    options: dict[str, Any] = {"compression": draw.of(("snappy", "zstd", "none", "gzip"))}
    if draw.chance(0.3):
        options["row_group_size"] = 1
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, **options)
    content = buffer.getvalue()
    if draw.chance(0.45):
        content = changed_bytes(draw, content)
    if draw.chance(0.7):
        file = _write(draw.folder / "data.parquet", content)
    else:
        for name in draw.of(
            (("train.parquet", "test.parquet"), ("data/train-0.parquet",), ("x_test.parquet",))
        ):
            _write(
                draw.folder / "set" / name,
                content if draw.chance(0.8) else changed_bytes(draw, content),
            )
        file = draw.folder / "set"
    return ["data", "check", str(file), *draw.of(([], ["--json"]))]


def _odd_table(draw: Draw) -> pa.Table:
    rows = draw.of((12, 12, 12, 1, 0))
    good = [path.read_bytes() for path in sorted(draw.base.photos.glob("*/*"))][:rows]
    good += [good[0] if good else b""] * (rows - len(good))
    pictures = [picture if draw.chance(0.9) else draw.of((None, b"", b"x" * 9)) for picture in good]
    image = draw.of(
        (
            lambda: pa.array(
                [{"bytes": one, "path": "a.png"} for one in pictures],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            lambda: pa.array(
                [{"bytes": one, "path": None} for one in pictures],
                pa.struct([("bytes", pa.large_binary()), ("path", pa.string())]),
            ),
            lambda: pa.array(pictures, pa.binary()),
            lambda: pa.array(pictures, pa.large_binary()),
            lambda: pa.array(["x.png"] * rows),
            lambda: pa.array([1.5] * rows),
            lambda: pa.nulls(rows),
            lambda: pa.array([[one] for one in pictures], pa.list_(pa.binary())),
            lambda: pa.array([{"path": "a"} for _ in pictures], pa.struct([("path", pa.string())])),
            lambda: pa.array(pictures, pa.binary()).dictionary_encode(),
        )
    )()
    numbers = [k % 3 for k in range(rows)]
    label = draw.of(
        (
            lambda: pa.array(numbers, pa.int64()),
            lambda: pa.array(numbers, pa.uint8()),
            lambda: pa.array([float(k) for k in numbers]),
            lambda: pa.array([k > 1 for k in numbers]),
            lambda: pa.array(["abc"[k] for k in numbers]),
            lambda: pa.array(["abc"[k] for k in numbers]).dictionary_encode(),
            lambda: pa.array([None if k == 0 else k for k in numbers], pa.int64()),
            lambda: pa.nulls(rows),
            lambda: pa.array([-k for k in numbers]),
            lambda: pa.array([2**62 + k for k in numbers]),
            lambda: pa.array([float("nan")] * rows),
            lambda: pa.array([[k] for k in numbers]),
            lambda: pa.array([{"x": k} for k in numbers]),
            lambda: pa.array([b"a"] * rows, pa.binary()),
            lambda: pa.array(
                [draw.of(ODD_TEXT[:28]).encode("utf-8", "ignore").decode() for _ in numbers]
            ),
        )
    )()
    columns = {draw.of(("image", "image", "img", "picture", "")): image}
    columns[draw.of(("label", "label", "labels", "fine_label", "y"))] = label
    if draw.chance(0.3):
        columns[draw.of(("split", "label2", "image2", "x" * 300))] = pa.array(["train"] * rows)
    table = pa.table(columns)
    if draw.chance(0.4):
        names = draw.of(
            (
                ["a", "b", "c"],
                ["a", "a", "b"],
                [],
                ["a"],
                [1, 2, 3],
                {"0": "a"},
                "abc",
                None,
                [None] * 3,
                ["a"] * 5000,
            )
        )
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        found = json.dumps(features if draw.chance(0.8) else changed_plain(draw, features)).encode(
            "utf-8", "surrogatepass"
        )
        table = table.replace_schema_metadata(
            {b"huggingface": changed_bytes(draw, found) if draw.chance(0.2) else found}
        )
    return table


# --------------------------------------------------------------------------------------- pictures


def picture_task(draw: Draw) -> Task:
    """Give an odd picture to the data check, to predict, or to a bundle."""
    content, suffix = _odd_picture(draw)
    use = draw.of(("check", "check", "predict", "bundle", "decode"))
    if use == "check":
        folder = draw.folder / "photos"
        shutil.copytree(draw.base.photos, folder)
        _write(folder / "a" / f"odd{suffix}", content)
        return ["data", "check", str(folder)]
    if use == "decode":
        from featherweight.data.decode import inspect_picture

        return lambda: inspect_picture(content)
    file = _write(draw.folder / f"odd{suffix}", content)
    if use == "predict":
        return ["predict", str(draw.base.trained), str(draw.base.photos / "a" / "0.png"), str(file)]
    return run_bundle(draw.base.bundle, [str(file), *draw.of(([], ["--json"]))])


def _odd_picture(draw: Draw) -> tuple[bytes, str]:
    if draw.chance(0.12):
        return _bomb(draw), ".png"
    if draw.chance(0.06):
        return draw.of(
            (
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
                b"<svg xmlns='x'/>",
                b"%PDF-1.4\n",
                b"\x89PNG\r\n\x1a\n",
                b"GIF89a",
                b"II*\0\x08\0\0\0",
                b"RIFF\0\0\0\0WEBP",
                b"\xff\xd8\xff\xe0",
                b"P6\n9 9\n255\n",
                b"P5\n99999999 99999999\n255\n",
                b"BM" + b"\xff" * 60,
            )
        ), draw.of((".jpg", ".png", ".eps", ".gif"))
    form, modes = draw.of(
        (
            ("PNG", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")),
            ("JPEG", ("L", "RGB", "CMYK")),
            ("GIF", ("L", "P", "RGB")),
            ("BMP", ("1", "L", "P", "RGB")),
            ("WEBP", ("RGB", "RGBA")),
            (
                "TIFF",
                ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"),
            ),
            ("PPM", ("1", "L", "RGB")),
        )
    )
    mode = draw.of(modes)
    size = draw.of(((24, 24), (1, 1), (1, 400), (400, 1), (17, 33), (300, 200)))
    noise = np.random.default_rng(draw.random.randrange(1000))
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        values = noise.integers(0, 65536, size[::-1]).astype(kind)
        picture = Image.fromarray(-values if mode != "I;16" and draw.chance(0.3) else values)
    else:
        picture = Image.fromarray(noise.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    options: dict[str, Any] = {}
    if form == "PNG" and draw.chance(0.4) and mode in ("L", "RGB", "P", "I;16"):
        options["transparency"] = {"RGB": (0, 0, 0)}.get(mode, 0)
    if draw.chance(0.3) and form in ("JPEG", "PNG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = draw.of((1, 3, 6, 8, 99, 0))
        options["exif"] = (
            exif.tobytes() if draw.chance(0.6) else changed_bytes(draw, exif.tobytes())
        )
    if form == "TIFF":
        options["compression"] = draw.of((None, "tiff_lzw", "tiff_deflate", "packbits"))
    buffer = io.BytesIO()
    try:
        (picture if picture.mode == mode else picture.convert(mode)).save(buffer, form, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SyntaxError, struct.error):
        buffer = io.BytesIO()  # Pillow cannot write that
        picture.save(buffer, "TIFF" if mode in ("I", "F") else "PNG")
    content = buffer.getvalue()
    if draw.chance(0.55):
        content = changed_bytes(draw, content)
    return content, draw.of((f".{form.lower()}", ".jpg", ".png", ".PNG", ".jpeg"))


def _bomb(draw: Draw) -> bytes:
    """Return a small PNG that is large when decoded: at most 1.2 GB of pixels."""
    depth, colour, each = draw.of(((8, 2, 3), (8, 6, 4), (16, 0, 2), (1, 0, 0.125), (8, 0, 1)))
    side = draw.of((3000, 9000, 13000, 20000))
    width, height = draw.of(((side, side), (side * 4, side // 4), (side * side // 8, 8)))
    if width * height * max(each, 1) > 1.2e9:
        width = height = 13000
    row = b"\0" * (1 + int(width * each + 0.999))
    packed = zlib.compressobj(1)
    parts, left = [], height if draw.chance(0.6) else 1
    block = row * min(height, max(1, (1 << 20) // len(row)))
    while left > 0:
        count = min(left, len(block) // len(row))
        parts.append(packed.compress(block[: count * len(row)]))
        left -= count
    parts.append(packed.flush())
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw.of((0, 0, 1)))
    chunks = [(b"IHDR", head), (b"IDAT", b"".join(parts)), (b"IEND", b"")]
    if draw.chance(0.2):
        chunks.insert(1, (b"zTXt", b"k\0\0" + zlib.compress(b"\0" * (64 << 20), 1)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def run_bundle(bundle: Path, arguments: list[str]) -> Task:
    """Return a call of a bundle's own program."""

    def call() -> object:
        file = bundle / "run.py"
        spec = importlib.util.spec_from_file_location("bundle_program", file)
        assert spec is not None
        assert spec.loader is not None
        program = importlib.util.module_from_spec(spec)
        before = sys.argv, list(sys.path)
        sys.argv = [str(file), *arguments]
        sys.path.insert(0, str(bundle))  # as Python does for a program: pictures.py lies beside it
        try:
            spec.loader.exec_module(program)
            return program.main()
        finally:
            sys.argv, sys.path[:] = before
            sys.modules.pop("pictures", None)

    call.__qualname__ = " ".join(["run.py", *arguments])
    return call


# -------------------------------------------------------------------- run directories, artifacts


def _copy(draw: Draw, source: Path) -> Path:
    target = draw.folder / "run"
    shutil.copytree(source, target, symlinks=True)
    return target


def run_task(draw: Draw) -> Task:
    """A command on a run directory with one to three damaged files."""
    run = _copy(draw, draw.of(draw.base.runs))
    for _ in range(draw.random.randint(1, 3)):
        files = sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
        if files:
            _damage(draw, draw.of(files))
    return _use_of_run(draw, run)


def _use_of_run(draw: Draw, run: Path) -> Task:
    photos = str(draw.base.photos)
    picture = str(draw.base.photos / "b" / "1.jpg")
    train, out = ["train", photos, "--model", NETWORK, "--epochs", "1"], str(run.parent / "out")
    return draw.of(
        (
            ["report", str(run)],
            ["report", str(run), "--lang", "zh-CN"],
            ["evaluate", str(run), photos],
            ["predict", str(run), picture, "--json"],
            ["export", str(run), "--output", out],
            ["profile", str(run)],
            ["verify", str(run), str(draw.base.artifact), photos],
            [*train, "--output", str(run)],
            ["fit", "demo", *_FIT, "--output", str(run)],
            [*train, "--teacher", str(run), "--output", str(run)],
            ["fit", "--from", str(run), "--latency", draw.of(("0.001ms", "x")), "--output", out],
            ["measure", str(run), "--predicted"],
        )
    )


def _damage(draw: Draw, file: Path) -> None:
    how = draw.of(
        ("bytes", "bytes", "bytes", "plain", "plain", "gone", "folder", "link", "zero", "lines")
    )
    content = file.read_bytes()
    if how == "plain" and file.suffix == ".json":
        file.write_bytes(changed_json(draw, content))
    elif how in ("plain", "lines") and file.suffix == ".jsonl":
        file.write_bytes(_other_lines(draw, content))
    elif how == "gone":
        file.unlink()
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how in ("link", "zero"):
        file.unlink()
        file.symlink_to(
            "/dev/zero" if how == "zero" else draw.of(("nowhere", file.name, "/dev/null"))
        )
    else:
        file.write_bytes(changed_bytes(draw, content))


def _other_lines(draw: Draw, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return b"{}\n"
    at = draw.random.randrange(len(lines))
    how = draw.of(("change", "change", "twice", "gone", "swap", "torn", "odd"))
    if how == "change":
        lines[at] = json.dumps(changed_plain(draw, _loaded(lines[at]))).encode() + b"\n"
    elif how == "twice":
        lines.insert(at, lines[at])
    elif how == "gone":
        del lines[at]
    elif how == "swap":
        draw.random.shuffle(lines)
    elif how == "torn":
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
    else:
        lines[at] = draw.of((b"[]\n", b"1\n", b"{}\n", b"\n", b"\xff\n", b'{"event": "epoch"}\n'))
    return b"".join(lines)


def artifact_task(draw: Draw) -> Task:
    """Verify a damaged artifact, or run a damaged bundle."""
    if draw.chance(0.3):
        bundle = draw.folder / "bundle"
        shutil.copytree(draw.base.bundle, bundle)
        program = [path for path in sorted(bundle.iterdir()) if path.suffix != ".py"]
        _damage(draw, draw.of(program))
        picture = str(draw.base.photos / "a" / "0.png")
        return run_bundle(
            bundle, draw.of(([picture], ["--self-test"], [picture, "--top", "99"], []))
        )
    folder = draw.folder / "artifact"
    shutil.copytree(draw.base.artifact, folder)
    described = folder / "artifact.json"
    plain = json.loads(described.read_bytes())
    model = folder / plain["files"][0]
    if draw.chance(0.6):
        _damage(draw, model)
    if draw.chance(0.5):
        plain["runtime"] = draw.of(
            (
                "onnxruntime",
                "openvino",
                "ncnn",
                "litert",
                "executorch",
                "tensorrt",
                "",
                "ONNXRuntime",
            )
        )
    if draw.chance(0.3):
        plain = changed_plain(draw, plain)
    if draw.chance(0.7) and isinstance(plain, dict) and model.is_file() and not model.is_symlink():
        import hashlib

        plain["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
    described.write_bytes(json.dumps(plain).encode("utf-8", "surrogatepass"))
    if draw.chance(0.2):
        _damage(draw, described)
    return ["verify", str(draw.base.trained), str(folder), str(draw.base.photos)]


KINDS: dict[str, Callable[[Draw], Task]] = {
    "text": text_task,
    "json": json_task,
    "yaml": yaml_task,
    "onnx": onnx_task,
    "parquet": parquet_task,
    "pictures": picture_task,
    "runs": run_task,
    "artifacts": artifact_task,
}
