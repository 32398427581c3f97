"""`featherweight doctor`: what works on this machine."""

from __future__ import annotations

from typing import Any

from featherweight.cli import output
from featherweight.cli.options import As_json

__all__ = ["doctor"]


def doctor(json: As_json = False) -> int:
    """Check Python, torch, the runtimes, weights and how noisy timing is here."""
    from featherweight.measuring.health import examine

    found = examine()
    if json:
        output.print_json(found)
    else:
        output.print_lines(_lines(found))
    return 0 if found["ok"] else 1


def _lines(found: dict[str, Any]) -> list[str]:
    """Return what `examine` found as a person reads it."""
    load = found["foreign_cpu_share"]
    return [
        "ok" if found["ok"] else "NOT OK",
        f"python {found['python']}, torch {found['torch']}",
        *(f"runtime {name}: {version}" for name, version in found["runtimes"].items()),
        *(f"device {name}: {_device(info)}" for name, info in found["devices"].items()),
        f"ImageNet weights: {', '.join(found['weights']) or 'none'}",
        f"timing noise: {found['timing_noise']:.1%}",
        f"CPU used by other programs: {'unknown' if load is None else f'{load:.0%}'}",
        *(f"advice: {line}" for line in found["advice"]),
    ]


def _device(info: dict[str, Any]) -> str:
    memory, governor = info["memory_bytes"], info["governor"]
    parts = [info["cpu"], f"{info['cores']} cores"]
    parts += [] if memory is None else [f"{memory / 2**30:.1f} GiB"]
    parts += [info["arch"], info["os"]]
    parts += [] if governor is None else [f"governor {governor}"]
    if info["int8_pairs_saturate"]:
        parts.append("int8 files get smaller weights")
    return ", ".join(parts)
