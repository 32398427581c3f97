"""Any torch module of known primitives -> an Architecture with its weights.

The module is traced by `torch.export`; every ATen operator of the trace becomes a primitive
layer, a norm part of its convolution. Then counting, timing, export and training work on it as on
a network of the zoo. An operator that no primitive computes is named in the error.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from featherweight.errors import FailedError, MissingDependencyError, UsageError
from featherweight.networks.tracing import TraceReader
from featherweight.nn.network import Network

__all__ = ["import_module", "import_timm"]

_LARGEST_ERROR = 1e-4
"""Of the imported network's output, relative to the module's largest."""


def import_module(
    module: nn.Module, *, input_shape: tuple[int, int, int], name: str | None = None
) -> Network:
    """Return a network that computes what `module` computes in eval mode, with its weights.

    Args:
        module: a classifier or feature extractor: one picture batch in, (N, K) out. It is left as
            it was.
        input_shape: (C, H, W) to trace it with; the result also runs at other sizes.
        name: of the architecture; by default the module's class.

    Raises:
        UnsupportedError: an operator that is no known primitive; says which, and where it is.
        UsageError: the module cannot be traced with such an input.
        FailedError: the imported network computes something else (a defect: please report).
    """
    label = name or type(module).__name__
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    flags = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            expected = module(images)
            program = torch.export.export(module, (images,), strict=False)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            f"{label} cannot be traced with inputs {(2, *input_shape)}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
        ) from error
    finally:
        for part, training in flags:
            part.training = training
    network = TraceReader(program, label).network(input_shape)
    with torch.no_grad():
        found = network(images)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if found.shape != expected.shape or not difference <= _LARGEST_ERROR:
        raise FailedError(
            f"the import of {label} differs from the module by {difference:.2g} of its largest "
            "output",
            allowed=f"{_LARGEST_ERROR:g}",
            hint="this is a defect of the import: please report the network",
        )
    return network


def import_timm(
    name: str, *, resolution: int | None, classes: int | None, channels: int | None
) -> Network:
    """Return one of timm's networks, freshly drawn (nothing is downloaded).

    Raises:
        MissingDependencyError: timm is not installed.
        UsageError: timm has no such network, or does not build it with these settings.
        UnsupportedError: see `import_module`.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError(
            f"timm:{name} needs the package 'timm', which is not installed",
            hint="pip install timm",
        ) from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise UsageError(
            f"timm has no network {name!r}",
            allowed="the names of timm.list_models()",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    settings: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    settings = {key: value for key, value in settings.items() if value is not None}
    try:
        module: Any = timm.create_model(name, **settings)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UsageError(f"timm cannot build {name} with {settings}: {error}") from error
    own = module.default_cfg["input_size"]
    side = resolution or int(own[1])
    return import_module(module, input_shape=(channels or own[0], side, side), name=f"timm:{name}")
