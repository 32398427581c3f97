"""The fuzz of benchmarks/fuzz.py, in short: some inputs of every kind, nothing may go wrong."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
INPUTS = 48
"""Six of each kind."""


@pytest.mark.slow
def test_odd_inputs_end_in_one_line(tmp_path: Path) -> None:
    result = tmp_path / "fuzz.json"
    done = subprocess.run(
        [
            sys.executable,
            str(FUZZ),
            "--inputs",
            str(INPUTS),
            "--seed",
            "1",
            "--without-runs",
            "--workers",
            "2",
            "--result",
            str(result),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.exists(), done.stderr[-2000:]
    found = json.loads(result.read_text())
    assert found["wrong"] == []
    assert done.returncode == 0
    assert found["all"]["inputs"] == INPUTS
    assert len(found["kinds"]) == 8
    # The inputs reach what they are for: some are read, some are refused.
    codes = [set(counts["exit_codes"]) for counts in found["kinds"].values()]
    assert sum("2" in one or "1" in one for one in codes) >= 6
    assert sum("0" in one for one in codes) >= 4


BAD = """
import os, sys, time
sys.path.insert(0, {folder!r})
import fuzz, fuzz_inputs

def grow():
    held = bytearray(600 << 20)
    held[::4096] = b"x" * len(held[::4096])

fuzz.LARGEST_BYTES = 900 << 20
BAD = {{
    "raises": lambda: 1 / 0,
    "answers": lambda: 9,
    "dies": lambda: os._exit(9),
    "grows": grow,
    "fine": lambda: 0,
    "talks": lambda: print("Traceback (most recent call last):", flush=True),
    "hangs": lambda: time.sleep(600),
}}
fuzz_inputs.KINDS.clear()
fuzz_inputs.KINDS.update({{name: lambda draw, name=name: BAD[name] for name in BAD}})
if __name__ == "__main__":
    sys.exit(fuzz.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit_s", "expected"),
    [
        ("1", {"hangs": ["hangs"]}),
        (
            "60",
            {
                "raises": ["tracebacks"],
                "answers": ["tracebacks"],
                "dies": ["deaths"],
                "grows": ["over_memory"],
                "fine": [],
                "talks": ["tracebacks"],
            },
        ),
    ],
)
def test_the_fuzz_finds_what_is_wrong(
    tmp_path: Path, limit_s: str, expected: dict[str, list[str]]
) -> None:
    """An input that raises, hangs, dies, fills memory or answers oddly is counted as such."""
    program, base = tmp_path / "bad_fuzz.py", tmp_path / "base"
    program.write_text(BAD.format(folder=str(FUZZ.parent)))
    base.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            str(program),
            "--kinds",
            *expected,
            "--inputs",
            str(len(expected)),
            "--limit",
            limit_s,
            "--workers",
            "1",
            "--base",
            str(base),
            "--result",
            str(tmp_path / "found.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    kinds = json.loads((tmp_path / "found.json").read_text())["kinds"]
    names = ("tracebacks", "hangs", "over_memory", "deaths")
    counted = {kind: [name for name in names if counts[name]] for kind, counts in kinds.items()}
    assert counted == expected


def test_the_same_seed_gives_the_same_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FUZZ.parent)
    inputs = importlib.import_module("fuzz_inputs")

    def drawn(seed: str) -> tuple[str, bytes]:
        draw = inputs.Draw(seed, tmp_path, inputs.Base(tmp_path))
        return inputs.changed_text(draw, "local/onnxruntime"), inputs._odd_picture(draw)[0]

    for number in range(20):
        assert drawn(f"1/{number}") == drawn(f"1/{number}")
    assert drawn("1/0") != drawn("2/0")
