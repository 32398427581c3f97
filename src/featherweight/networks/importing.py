"""Any torch module of known primitives -> an Architecture with its weights.

The module is traced by `torch.export`; every ATen operator of the trace becomes a primitive
layer, a norm part of its convolution. Then counting, timing, export and training work on it as on
a network of the zoo. An operator that no primitive computes is named in the error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from featherweight.errors import (
    FailedError,
    FeatherweightError,
    MissingDependencyError,
    UnsupportedError,
    UsageError,
)
from featherweight.networks.comparison import LARGEST, disagreement
from featherweight.networks.other_sizes import for_other_sizes, random_pictures
from featherweight.networks.tracing import network_of_trace
from featherweight.nn.foreign import check_module, evaluated, in_one_line
from featherweight.nn.network import Network

__all__ = ["import_module", "import_timm"]

_ALLOWED = "a module that returns one tensor (N, K)"


def import_module(
    module: nn.Module, *, input_shape: tuple[int, int, int], name: str | None = None
) -> Network:
    """Return a network that computes what `module` computes in eval mode, with its weights.

    Args:
        module: a classifier or feature extractor: one picture batch in, (N, K) out. It is left as
            it was.
        input_shape: (C, H, W) to trace it with. The result also runs at other sizes; where that
            would be another network, `architecture.fixed_size` is set and they are refused.
        name: of the architecture; by default the module's class.

    Raises:
        UnsupportedError: an operator that is no known primitive (says which, and where it is), or
            an output that is not one tensor (N, K).
        UsageError: no module, a lazy one, or one that cannot be traced with such an input.
        FailedError: the imported network computes something else (a defect: please report).
    """
    check_module(module, verb="import")
    label = name or type(module).__name__
    with evaluated(module), torch.no_grad():
        network = _import(module, label, input_shape)
        return for_other_sizes(module, network, lambda shape: _import(module, label, shape))


def _import(module: nn.Module, label: str, input_shape: tuple[int, int, int]) -> Network:
    """Return the network of one trace, compared with the module at that size."""
    images = random_pictures(input_shape)
    try:
        answer = module(images)
        program = torch.export.export(module, (images,), strict=False)
    except FeatherweightError:
        raise
    except Exception as error:
        raise UsageError(
            f"{label} cannot be traced with inputs {tuple(images.shape)}: {in_one_line(error)}"
        ) from error
    if not isinstance(answer, torch.Tensor):
        keys = f" of {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else ""
        raise UnsupportedError(
            f"{label} returns a {type(answer).__name__}{keys}",
            allowed=_ALLOWED,
            hint="wrap it in a module that returns the tensor you want",
        )
    network = network_of_trace(program, label, input_shape=input_shape)
    _check_answer(answer, label)
    difference = disagreement(module, network, images)
    if not difference <= LARGEST:
        raise FailedError(
            f"the import of {label} differs from the module by {difference:.2g} of how far its "
            "answers to two pictures lie apart",
            allowed=f"{LARGEST:g}",
            hint="this is a defect of the import: please report the network",
        )
    return network


def _check_answer(answer: torch.Tensor, label: str) -> None:
    """Refuse what is not one finite vector for each picture."""
    if answer.ndim != 2 or answer.dtype != torch.float32:
        kind = str(answer.dtype).removeprefix("torch.")
        raise UnsupportedError(
            f"{label} returns {kind} {tuple(answer.shape)}",
            allowed=f"{_ALLOWED} of float32",
            hint="a map needs pooling and flattening after it" if answer.ndim > 2 else None,
        )
    if not bool(answer.isfinite().all()):
        raise UsageError(
            f"{label} returns numbers that are not finite", hint="look for nan in its weights"
        )


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
