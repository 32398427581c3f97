"""`featherweight doctor`: what works on this machine."""

from __future__ import annotations

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
        lines = ["ok" if found["ok"] else "NOT OK"]
        lines += [f"{key}: {value}" for key, value in found.items() if key != "ok"]
        output.print_lines(lines)
    return 0 if found["ok"] else 1
