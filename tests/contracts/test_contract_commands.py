"""What every command promises: help, one line for wrong input, and JSON where it is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from featherweight.cli.app import app, run


def commands() -> dict[str, Any]:
    """Return the words of each command -> the command."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        inner = getattr(command, "commands", {"": command})
        found |= {f"{name} {sub}".strip(): each for sub, each in inner.items()}
    return found


COMMANDS = commands()
WITH_JSON = [
    name
    for name, command in COMMANDS.items()
    if any("--json" in parameter.opts for parameter in command.params)
]


def test_there_are_commands() -> None:
    assert {"fit", "train", "measure", "device add"} <= set(COMMANDS)
    assert len(WITH_JSON) >= 12


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_what_it_is_for_and_every_flag(name: str, capsys: Any) -> None:
    assert run([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert name in text
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{parameter.name} says nothing"
        for flag in parameter.opts:
            if flag.startswith("--"):
                assert flag in text


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_one_line_and_exit_2(name: str, capsys: Any) -> None:
    assert run([*name.split(), "--no-such-flag"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    assert "--no-such-flag" in line


@pytest.mark.parametrize("name", WITH_JSON)
def test_with_json_an_error_is_json_too(name: str, capsys: Any) -> None:
    assert run([*name.split(), "--json", "--no-such-flag"]) == 2
    plain = json.loads(capsys.readouterr().out)
    assert set(plain) == {"error", "allowed", "hint"}
    assert "--no-such-flag" in plain["error"]
