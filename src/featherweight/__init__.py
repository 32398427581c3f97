"""Fit a light-weight CNN to pictures, a platform and a latency budget, and prove it.

The names below are imported at their first use, so that importing the package costs nothing and
does not load torch. Every other module may be imported by its path.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Architecture": "featherweight.architecture:Architecture",
    "BlockSpec": "featherweight.architecture:BlockSpec",
    "adapt": "featherweight.fitting.adapt:adapt",
    "build_network": "featherweight.nn.network:build_network",
    "calibrate": "featherweight.measuring.calibrate:calibrate",
    "check_data": "featherweight.data.check:check_data",
    "check_device": "featherweight.measuring.device_check:check_device",
    "create_architecture": "featherweight.networks.resolve:create_architecture",
    "create_features": "featherweight.networks.creation:create_features",
    "create_model": "featherweight.networks.creation:create_model",
    "evaluate": "featherweight.training.predict:evaluate",
    "evaluate_network": "featherweight.training.evaluate:evaluate_network",
    "export": "featherweight.exporting.export_run:export",
    "export_network": "featherweight.exporting.export:export_network",
    "fit": "featherweight.fitting.fit:fit",
    "foreign_state_dict": "featherweight.networks.pretrained:foreign_state_dict",
    "ghost": "featherweight.fitting.ghost:ghost",
    "guidelines": "featherweight.advising.guidelines:guidelines",
    "import_module": "featherweight.networks.importing:import_module",
    "keras_state_dict": "featherweight.networks.keras_names:keras_state_dict",
    "list_models": "featherweight.measuring.catalogue:list_models",
    "load_images": "featherweight.data.images:load_images",
    "load_network": "featherweight.networks.storage:load_network",
    "load_pretrained": "featherweight.networks.pretrained:load_pretrained",
    "measure": "featherweight.measuring.measure:measure",
    "measure_artifacts": "featherweight.measuring.latency:measure_artifacts",
    "measure_roofline": "featherweight.measuring.roofline:measure_roofline",
    "parse_platform": "featherweight.exporting.platforms:parse_platform",
    "predict": "featherweight.training.predict:predict",
    "predict_latencies": "featherweight.measuring.predict:predict_latencies",
    "profile": "featherweight.exporting.profile:profile",
    "read_architecture": "featherweight.architecture:read_architecture",
    "recalibrate_norms": "featherweight.networks.slicing:recalibrate_norms",
    "redundancy": "featherweight.advising.redundancy:redundancy",
    "resolve_architecture": "featherweight.networks.resolve:resolve_architecture",
    "run_experiment": "featherweight.advising.experiment:run_experiment",
    "save_network": "featherweight.networks.storage:save_network",
    "search": "featherweight.fitting.search:search",
    "slice_network": "featherweight.networks.slicing:slice_network",
    "train": "featherweight.training.train:train",
    "train_network": "featherweight.training.loop:train_network",
    "verify": "featherweight.exporting.export_run:verify",
    "verify_artifact": "featherweight.exporting.verify:verify_artifact",
    "which_networks": "featherweight.measuring.which:which_networks",
    "write_bundle": "featherweight.exporting.bundle:write_bundle",
    "write_report": "featherweight.reporting.report:write_report",
}
"""Public name -> where it is defined."""

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - strings, from the table above


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name == "__version__":
        value: object = importlib.import_module("importlib.metadata").version("featherweight")
    elif name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module 'featherweight' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
