"""What other counters say of the same networks, and which identity explains the difference.

    pip install fvcore ptflops thop torchinfo
    python benchmarks/counters.py

Nine networks at one resolution, each counter in a process of its own, since some patch torch and
leave it patched. Every identity is made of what featherweight counts in the same module (its
rows name the operators), so `explained` says that both numbers are right about the network and
differ in the convention only. A counter that is not installed is named in `missing`. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn

from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network
from featherweight.profiling.module import profile_module
from featherweight.profiling.profile import LayerProfile

OURS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "resnet",
    "convnet",
)
TORCHVISION = ("shufflenet_v2_x1_0", "mnasnet1_0")
NETWORKS = OURS + TORCHVISION


class Identity(NamedTuple):
    """How often a counter adds each quantity of `quantities`.

    Attributes:
        package: what to install.
        unit: what one of its units is.
        terms: quantity -> factor.
    """

    package: str
    unit: str
    terms: dict[str, int]

    def text(self) -> str:
        """Return the sum as people write it."""
        text = ""
        for name, factor in self.terms.items():
            sign = " - " if factor < 0 else " + "
            text += sign + (name if abs(factor) == 1 else f"{abs(factor)} {name}")
        return text.removeprefix(" + ")


COUNTERS = {
    "fvcore": Identity("fvcore", "multiply-add", {"macs": 1, "norm_outputs": 2}),
    "ptflops_pytorch": Identity(
        "ptflops",
        "multiply-add",
        {
            "macs": 1,
            "bias_outputs": 1,
            "norm_outputs": 2,
            "relu_outputs": 2,
            "relu6_outputs": 1,
            "pool_inputs": 1,
            "pool_module_inputs": 1,
            "subclassed_linear_macs": -1,
            "subclassed_linear_bias": -1,
        },
    ),
    "ptflops_aten": Identity("ptflops", "multiply-add", {"macs": 1, "bias_outputs": 1}),
    "thop": Identity(
        "thop", "multiply-add", {"macs": 1, "norm_outputs": 4, "subclassed_linear_macs": -1}
    ),
    "torchinfo": Identity(
        "torchinfo", "multiply-add", {"macs": 1, "bias_outputs": 1, "norm_params": 1}
    ),
    "torch_flop_counter": Identity("torch", "operation", {"macs": 2}),
}

_OUTPUTS = {"batch_norm": "norm_outputs", "relu": "relu_outputs", "hardtanh": "relu6_outputs"}


def build(name: str, resolution: int) -> nn.Module:
    if name in OURS:
        return Network(create_architecture(name, resolution=resolution, form="standard")).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = torchvision.models.get_model(name, weights=None)
    return network.eval()


def quantities(module: nn.Module, resolution: int) -> dict[str, int]:
    """What the identities are made of, from featherweight's own rows."""
    counted = profile_module(module, input_shape=(3, resolution, resolution))
    assert counted.macs is not None, counted.unknown_ops
    found = Counter(macs=counted.macs, flops=counted.flops, params=counted.params)
    parts = dict(module.named_modules())
    for row in counted.layers:
        found.update(_of_row(row, parts.get(row.name.split(":")[0], module)))
    return dict(found)


def _of_row(row: LayerProfile, part: nn.Module) -> dict[str, int]:
    """Some counters look modules up by their exact type, others by the function that is called."""
    outputs = math.prod(row.output_shape or ())
    if row.macs:
        bias = (row.additions or 0) - (row.macs - outputs)
        found = {"bias_outputs": bias}
        if isinstance(part, nn.Linear) and type(part) is not nn.Linear:
            found |= {"subclassed_linear_macs": row.macs, "subclassed_linear_bias": bias}
        return found
    found = {_OUTPUTS[row.op]: outputs} if row.op in _OUTPUTS else {}
    if row.op == "batch_norm":
        found["norm_params"] = row.params or 0
    if row.op in ("max_pool2d", "avg_pool2d"):
        inputs = (row.memory_access_bytes or 0) // 4 - outputs
        found["pool_inputs"] = inputs
        if isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)):
            found["pool_module_inputs"] = inputs
    return found


def fvcore(module: nn.Module, x: torch.Tensor) -> float:
    counter = importlib.import_module("fvcore.nn").FlopCountAnalysis(module, x)
    counter.unsupported_ops_warnings(enabled=False)
    counter.uncalled_modules_warnings(enabled=False)
    return counter.total()


def ptflops(backend: str) -> Callable[[nn.Module, torch.Tensor], float]:
    def count(module: nn.Module, x: torch.Tensor) -> float:
        macs, _ = importlib.import_module("ptflops").get_model_complexity_info(
            module,
            tuple(x.shape[1:]),
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            backend=backend,
        )
        return macs

    return count


def thop(module: nn.Module, x: torch.Tensor) -> float:
    return importlib.import_module("thop").profile(module, inputs=(x,), verbose=False)[0]


def torchinfo(module: nn.Module, x: torch.Tensor) -> float:
    summary = importlib.import_module("torchinfo").summary
    return summary(module, input_data=x, verbose=0).total_mult_adds


def torch_flop_counter(module: nn.Module, x: torch.Tensor) -> float:
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(x)
    return counter.get_total_flops()


COUNT: dict[str, Callable[[nn.Module, torch.Tensor], float]] = {
    "fvcore": fvcore,
    "ptflops_pytorch": ptflops("pytorch"),
    "ptflops_aten": ptflops("aten"),
    "thop": thop,
    "torchinfo": torchinfo,
    "torch_flop_counter": torch_flop_counter,
}


def run_one(counter: str, resolution: int) -> dict[str, Any]:
    """Count every network in this process; the process ends afterwards."""
    try:
        version = importlib.metadata.version(COUNTERS[counter].package)
    except importlib.metadata.PackageNotFoundError:
        return {"missing": COUNTERS[counter].package}
    x = torch.zeros(1, 3, resolution, resolution)
    with contextlib.redirect_stdout(io.StringIO()):  # some print
        values = {name: int(COUNT[counter](build(name, resolution), x)) for name in NETWORKS}
    return {"version": version, "values": values}


def run_apart(counter: str, resolution: int) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        "--counter",
        counter,
        "--resolution",
        str(resolution),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        return {"failed": last[0] if last else f"exit code {done.returncode}"}
    return dict(json.loads(done.stdout))


def compare(resolution: int) -> dict[str, Any]:
    found = {counter: run_apart(counter, resolution) for counter in COUNTERS}
    table: dict[str, Any] = {}
    for name in NETWORKS:
        ours = quantities(build(name, resolution), resolution)
        row: dict[str, Any] = {"featherweight": {k: ours[k] for k in ("params", "macs", "flops")}}
        for counter, result in found.items():
            if "values" not in result:
                continue
            identity = COUNTERS[counter]
            expected = sum(factor * ours.get(term, 0) for term, factor in identity.terms.items())
            row[counter] = {
                "value": result["values"][name],
                "unit": identity.unit,
                "identity": identity.text(),
                "identity_value": expected,
                "explained": result["values"][name] == expected,
            }
        table[name] = row
    return {
        "resolution": resolution,
        "torch": torch.__version__,
        "versions": {name: each["version"] for name, each in found.items() if "version" in each},
        "missing": sorted({each["missing"] for each in found.values() if "missing" in each}),
        "failed": {name: each["failed"] for name, each in found.items() if "failed" in each},
        "networks": table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--counter", choices=COUNTERS, help="only this one, in this process")
    given = parser.parse_args()
    if given.counter:
        print(json.dumps(run_one(given.counter, given.resolution)))
    else:
        print(json.dumps(compare(given.resolution), indent=2))


if __name__ == "__main__":
    main()
