"""See that exported files compute the same with ncnn's arm64 build, under emulation.

    python benchmarks/arm64_ncnn.py        # Debian, root: fetches arm64 packages

Unpacks Debian's arm64 Python and the arm64 wheels of numpy and ncnn into a folder, runs the
measuring worker there under qemu-user (packages qemu-user-static), and compares the logits of one
seeded picture with those of this machine's ncnn and onnxruntime. It shows that the NEON paths
compute the right thing; emulated times mean nothing and are not kept. Writes
results/arm64_ncnn.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.exporting.platforms import parse_platform
from featherweight.measuring import worker
from featherweight.measuring.bench import export_untrained
from featherweight.networks.resolve import create_architecture
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES

RESULT = Path(__file__).parent / "results" / "arm64_ncnn.json"
NETWORKS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v4_conv_small",
    "shufflenet_v1_g3",
    "shufflenet_v2",
    "mnasnet_a1",
    "ghostnet",
    "efficientnet_lite0",
    "snet49",
)
RESOLUTION, CLASSES = 64, 10
DEBIAN = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libssl3",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libgomp1",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
)
SEED = 0


def install(root: Path) -> list[str]:
    """Unpack arm64 Python, numpy and ncnn; return the command that runs Python there."""

    def run(*command: str, cwd: Path | None = None) -> None:
        subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.DEVNULL)

    run("dpkg", "--add-architecture", "arm64")
    run("apt-get", "update", "-q")
    packages = root / "packages"
    packages.mkdir(parents=True)
    run("apt-get", "download", *[f"{name}:arm64" for name in DEBIAN], cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        run("dpkg-deb", "-x", str(package), str(root / "system"))
    wheels = root / "wheels"
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (24, 27, 28)]
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(wheels),
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.11",
        *platforms,
        "--platform=manylinux2014_aarch64",
        f"numpy=={version('numpy')}",
        f"ncnn=={version('ncnn')}",
    )
    system = root / "system"
    return [
        "qemu-aarch64-static",
        "-L",
        str(system),
        "-E",
        f"PYTHONHOME={system}/usr",
        "-E",
        f"PYTHONPATH={wheels}",
        "-E",
        "OMP_NUM_THREADS=1",
        str(system / "usr" / "bin" / "python3.11"),
    ]


def answers(python: list[str], artifacts: list[Artifact]) -> tuple[str, list[np.ndarray]]:
    """Run the worker under emulation; return ncnn's version there and the logits."""
    job = {
        "runtime": "ncnn",
        "precision": "fp32",
        "num_threads": 1,
        "samples": 1,
        "max_s_each": 0.1,
        "seed": SEED,
        "cpus": sorted(os.sched_getaffinity(0))[:1],
        "answers": True,
        "networks": [
            {"directory": a.directory, "files": list(a.files), "input_shape": list(a.input_shape)}
            for a in artifacts
        ],
    }
    done = subprocess.run(
        [*python, "-P", str(worker.__file__)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    told = json.loads(done.stdout)
    return told["runtime_version"], [np.array(one["logits"]) for one in told["answers"]]


def here(artifact: Artifact) -> np.ndarray:
    predict = RUNTIMES[artifact.runtime].load(artifact, num_threads=1)
    return predict(worker.seeded_picture(artifact.input_shape, SEED))["logits"].reshape(-1)


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="keep the arm64 system in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder) / "arm64"
        python = install(root)
        artifacts: dict[str, list[Artifact]] = {"ncnn": [], "onnxruntime": []}
        for name in NETWORKS:
            architecture = create_architecture(name, resolution=RESOLUTION, classes=CLASSES)
            for runtime, listed in artifacts.items():
                out = Path(folder) / f"{name}-{runtime}"
                platform = parse_platform(f"local/{runtime}")
                listed.append(export_untrained(architecture, platform=platform, out=out))
        arm_version, emulated = answers(python, artifacts["ncnn"])
        rows: list[dict[str, Any]] = [
            {
                "network": name,
                "arm64_to_x86_ncnn": relative(there, here(ours)),
                "arm64_to_x86_onnxruntime": relative(there, here(reference)),
            }
            for name, there, ours, reference in zip(
                NETWORKS, emulated, artifacts["ncnn"], artifacts["onnxruntime"], strict=True
            )
        ]
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            name: version(name) for name in ("featherweight", "ncnn", "onnxruntime", "numpy")
        },
        "ncnn_on_arm64": arm_version,
        "relative_differences": rows,
        "all_below_1e-4": all(row["arm64_to_x86_onnxruntime"] < 1e-4 for row in rows),
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
