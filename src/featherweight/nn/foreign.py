"""Modules that others wrote: checked before they run, run in eval mode, left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from featherweight.errors import UsageError

__all__ = ["check_module", "evaluated", "in_one_line"]


def check_module(module: object, *, verb: str) -> None:
    """Refuse what is no module, or a module whose weights do not exist yet.

    Args:
        module: what was given.
        verb: what it was given for, for the error: `count`, `import`.

    Raises:
        UsageError: says which.
    """
    kind = type(module).__name__
    if not isinstance(module, nn.Module):
        exported = isinstance(module, torch.export.ExportedProgram)
        raise UsageError(
            f"cannot {verb} a {kind}",
            allowed="a torch.nn.Module",
            hint="its .module() is one" if exported else None,
        )
    for path, part in module.named_modules():
        tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if any(is_lazy(tensor) for tensor in tensors):
            raise UsageError(
                f"cannot {verb} {kind}: {path or 'it'} is lazy ({type(part).__name__}) and has no "
                "weights yet",
                hint="run the module once on a batch",
            )


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Eval mode, and every part's own mode again on the way out, also after an exception."""
    # A frozen ScriptModule has no mode; it is not given one.
    flags = [(part, getattr(part, "training", None)) for part in module.modules()]
    try:
        try:
            module.eval()
        except NotImplementedError:  # an exported module: its mode is part of its graph
            for part in module.modules():
                part.training = False
        yield
    finally:
        for part, training in flags:
            if training is None:
                part.__dict__.pop("training", None)
            else:
                part.training = training


def in_one_line(error: Exception) -> str:
    """Name an exception of foreign code: its type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}" if lines else name
