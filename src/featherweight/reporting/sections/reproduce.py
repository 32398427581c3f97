"""What was asked for, on which machine, by which commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["commands_run", "flat_facts"]


def flat_facts(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested mapping as (dotted key, text) rows."""
    facts: list[tuple[str, str]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            facts += flat_facts(value, f"{name}.")
        elif value is not None:
            facts.append(
                (name, value if isinstance(value, str) else json.dumps(value, default=str))
            )
    return facts


def commands_run(settings: Mapping[str, Any]) -> list[str]:
    """Return the exact command of every attempt, oldest first."""
    given = settings.get("commands")
    commands = [str(command) for command in given] if isinstance(given, list) else []
    attempts = settings.get("attempts")
    for attempt in attempts if isinstance(attempts, list) else []:
        if isinstance(attempt, Mapping) and attempt.get("command"):
            started = f"  # {attempt['started']}" if attempt.get("started") else ""
            commands.append(f"{attempt['command']}{started}")
    return list(dict.fromkeys(commands))


def _values(run: FitRun, _: Translate) -> dict[str, Any]:
    return {
        "commands": commands_run(run.settings),
        "settings": flat_facts(run.identity),
        "environment": flat_facts(run.environment),
    }


SECTIONS.add("reproduce", Section(_values))
