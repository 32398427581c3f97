"""What keeping freed memory is worth: seconds of a training step with and without it.

    python benchmarks/training_memory.py

Each figure is the least of five steps in a fresh process; with and without take turns. The network
is EfficientNet-Lite1 with drawn weights on drawn pictures. Writes results/training_memory.json.
"""

from __future__ import annotations

import contextlib
import json
import platform as host
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "training_memory.json"
CASES = (("efficientnet_lite1", 224, 64), ("mobilenet_v2", 128, 64), ("convnet", 32, 256))
STEPS, ROUNDS = 5, 3


def time_steps(name: str, resolution: int, batch_size: int, dtype: str, *, kept: bool) -> None:
    """Print the seconds of the fastest step and what the kernel took of all steps."""
    import numpy as np
    import torch

    from featherweight.networks.preprocessing import Preprocessing
    from featherweight.networks.resolve import create_architecture
    from featherweight.nn.network import build_network
    from featherweight.training.compute import Compute
    from featherweight.training.evaluate import TrainingImages
    from featherweight.training.memory import memory_kept
    from featherweight.training.recipe import default_recipe
    from featherweight.training.speed import StepTimer

    architecture = create_architecture(name, resolution=resolution, classes=10)
    pixels = np.random.default_rng(0).integers(
        0, 256, (batch_size, resolution, resolution, 3), dtype=np.uint8
    )
    train = TrainingImages(pixels, np.arange(batch_size) % 10)
    recipe = default_recipe(pretrained=False, resolution=resolution, images=3000, epochs=1)
    probe = StepTimer(build_network(architecture, seed=0), train, recipe, Preprocessing(), None)
    with memory_kept() if kept else contextlib.nullcontext():
        learner = probe.learner(Compute(torch.device("cpu"), "channels_last", dtype))  # type: ignore[arg-type]
        shape: dict[str, Any] = {"batch_size": batch_size, "size": resolution, "frozen": False}
        probe.step_s(learner, **shape)
        probe.step_s(learner, **shape)
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds = [probe.step_s(learner, **shape) for _ in range(STEPS)]
        after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "step_s": min(seconds),
                "kernel_s": (after.ru_stime - before.ru_stime) / STEPS,
                "peak_gib": after.ru_maxrss / 2**20,
            }
        )
    )


def main() -> None:
    if len(sys.argv) > 1:
        name, resolution, batch_size, dtype, kept = sys.argv[1:]
        time_steps(name, int(resolution), int(batch_size), dtype, kept=kept == "kept")
        return
    runs: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        for name, resolution, batch_size in CASES:
            for dtype in ("fp32", "bf16"):
                for kept in ("usual", "kept"):
                    case = [name, str(resolution), str(batch_size), dtype, kept]
                    done = subprocess.run(
                        [sys.executable, __file__, *case],
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    runs.append(
                        {
                            "network": f"{name}:resolution={resolution}",
                            "batch_size": batch_size,
                            "dtype": dtype,
                            "memory": kept,
                            **json.loads(done.stdout),
                        }
                    )
                    print(json.dumps(runs[-1]), flush=True)
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": host.platform(),
        "libc": " ".join(host.libc_ver()),
        "versions": {name: version(name) for name in ("featherweight", "torch")},
        "speed_up": speed_up(runs),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["speed_up"], indent=1))


def speed_up(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the ratio of usual to kept of every round."""
    ratios: dict[str, list[float]] = {}
    for usual, kept in zip(runs[::2], runs[1::2], strict=True):
        key = f"{usual['network']} {usual['dtype']}"
        ratios.setdefault(key, []).append(round(usual["step_s"] / kept["step_s"], 2))
    return ratios


if __name__ == "__main__":
    main()
