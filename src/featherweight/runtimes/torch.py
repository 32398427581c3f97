"""PyTorch itself: the reference the other runtimes are compared with."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featherweight.errors import UsageError
from featherweight.networks.kinds import (
    AnyArchitecture,
    read_any_architecture,
    write_any_architecture,
)
from featherweight.records import write_bytes
from featherweight.runtimes.artifact import Artifact, record_artifact
from featherweight.runtimes.runtime import (
    RUNTIMES,
    Answer,
    ExportOptions,
    Predict,
    check_image,
    check_loadable,
    check_precision,
    reading,
    tried,
)
from featherweight.runtimes.weights import check_weights, input_levels, random_weights

__all__ = ["TorchRuntime"]

_WEIGHTS = "weights.safetensors"
_ARCHITECTURE = "architecture.json"


class TorchRuntime:
    """PyTorch on the CPU, eager, channels last."""

    name = "torch"
    precisions: tuple[str, ...] = ("fp32",)
    runs_in_threads = False

    def version(self) -> str:
        """Return the version of PyTorch without importing it."""
        return importlib.metadata.version("torch")

    def export(
        self,
        architecture: AnyArchitecture,
        weights: Mapping[str, np.ndarray] | None,
        out: Path,
        options: ExportOptions,
    ) -> Artifact:
        """Write architecture.json, weights.safetensors and artifact.json; see `Runtime.export`."""
        from safetensors.numpy import save

        check_precision(self, options.precision)
        if weights is None:
            weights = random_weights(architecture, seed=0)
        check_weights(architecture, weights)
        input_levels(architecture, options.preprocessing)
        if len(options.labels) != architecture.num_classes:
            raise UsageError(f"{len(options.labels)} labels for {architecture.num_classes} classes")
        contiguous = {name: np.ascontiguousarray(value) for name, value in weights.items()}
        write_bytes(out / _WEIGHTS, save(contiguous))
        write_any_architecture(architecture, out / _ARCHITECTURE)
        return record_artifact(
            out,
            (_WEIGHTS, _ARCHITECTURE),
            runtime=self.name,
            architecture=architecture,
            options=options,
        )

    def load(self, artifact: Artifact, *, num_threads: int) -> Predict:
        """Build the network; see `Runtime.load`. Sets torch's number of threads at each call."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from featherweight.networks.modules import module_of

        check_loadable(self.name, artifact, num_threads=num_threads, files=2)
        weights, description = artifact.paths
        architecture = read_any_architecture(description)
        if architecture.digest != artifact.architecture_digest:
            raise UsageError(
                f"{description} is not the network that {artifact.directory} was exported from",
                hint="export the network again",
            )
        with reading(artifact, SafetensorError, RuntimeError):
            network = module_of(architecture)
            missing = network.load_state_dict(load_file(weights), strict=False).missing_keys
        if any(not name.endswith("num_batches_tracked") for name in missing):
            raise UsageError(f"{weights} has no {missing[0]!r}")
        network = network.eval().to(memory_format=torch.channels_last)
        mean_values, deviation_values = input_levels(architecture, artifact.preprocessing)
        mean = torch.tensor(mean_values, dtype=torch.float32).reshape(1, -1, 1, 1)
        deviation = torch.tensor(deviation_values, dtype=torch.float32).reshape(1, -1, 1, 1)
        grey = architecture.input_shape[0] == 1
        input_shape = artifact.input_shape
        (output,) = artifact.outputs

        def predict(image: np.ndarray) -> Answer:
            check_image(image, input_shape)
            threads = torch.get_num_threads()
            torch.set_num_threads(num_threads)
            try:
                with torch.inference_mode():
                    x = torch.tensor(image).permute(0, 3, 1, 2).float()  # NHWC in memory
                    x = x.mean(1, keepdim=True) if grey else x
                    answer = network((x - mean) / deviation).numpy()
            finally:
                torch.set_num_threads(threads)
            return {output.name: answer}

        return tried(predict, artifact, RuntimeError)


RUNTIMES.add(TorchRuntime.name, TorchRuntime())
