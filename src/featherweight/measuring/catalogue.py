"""The zoo as a list with counts: the verb `models`."""

from __future__ import annotations

from typing import Any

from featherweight.networks.weight_sources import PRETRAINED, find_pretrained
from featherweight.profiling.profile import profile
from featherweight.records import to_plain
from featherweight.registry import unknown_name
from featherweight.zoo.model import MODELS
from featherweight.zoo.published import find_published

__all__ = ["list_models"]


def list_models(pattern: str = "") -> list[dict[str, Any]]:
    """List the networks whose name contains `pattern`, at their default settings.

    Returns:
        One mapping per network: `name, family, input_shape, params, macs, flops, published
        ({params, macs, top1, source} or None), pretrained (installed package, or None)`.

    Raises:
        UsageError: no name contains the pattern.
    """
    names = [name for name in MODELS if pattern in name]
    if not names:
        raise unknown_name("network", pattern, MODELS)
    return [_describe(name) for name in names]


def _describe(name: str) -> dict[str, Any]:
    entry = MODELS[name]
    counted = profile(entry.build())
    original = find_published(entry.published, width=1.0, resolution=entry.default_resolution)
    found = find_pretrained(name) if name in PRETRAINED else None
    return {
        "name": name,
        "family": entry.family,
        "input_shape": list(counted.input_shape),
        "params": counted.params,
        "macs": counted.macs,
        "flops": counted.flops,
        "published": None if original is None else to_plain(original),
        "pretrained": None if found is None else found.package,
    }
