"""Race in this process, in two processes and on Ray with a worker killed: the same choices?

    python benchmarks/workers.py

A fit of the digits with three epochs, float32. So that no clock chooses, times come from the
multiply-adds of the files (`tests/fakes.py`). On Ray, one worker is killed with kill -9 while it
trains. Prints and writes results/workers.json: what each raced, chose and took; exit code 1 where
they differ.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from photographs import about

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from fakes import PlayedDevice

from featherweight.cli.app import run
from featherweight.journal import Journal
from featherweight.measuring import latency

RESULT = Path(__file__).parent / "results" / "workers.json"
FIT = ["fit", "demo", "--latency", "0.25ms", "--epochs", "3", "--precision", "fp32", "--json"]
FORMS = {"here": "here", "processes=2": "processes=2", "ray, one worker killed": "ray"}


def fitted(workers: str, *, kill: bool) -> dict[str, Any]:
    """Fit once; return what was raced and chosen, and how long it took."""
    killed: list[int] = []
    over = threading.Event()
    if kill:
        threading.Thread(target=kill_one, args=(killed, over), daemon=True).start()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        output = Path(folder) / "run"
        code = run([*FIT, "--workers", workers, "--output", str(output)])
        stages = Journal(output / "stages.jsonl").read()
    over.set()
    found = json.loads(out.getvalue())
    race = [line for line in stages if line["stage"].startswith("race")]
    return {
        "seconds": round(time.monotonic() - started, 1),
        "trained": sorted(line["stage"] for line in race),
        "exit_code": code,
        "killed": len(killed),
        **{key: found[key] for key in ("verdict", "network", "accuracy")},
    }


def kill_one(killed: list[int], over: threading.Event) -> None:
    """Kill the first worker of Ray that trains, after a second of its work."""
    while not over.is_set():
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if status.read_bytes().startswith(b"ray::run_job"):
                    time.sleep(1.0)
                    os.kill(int(status.parent.name), signal.SIGKILL)
                    killed.append(int(status.parent.name))
                    return
        time.sleep(0.1)


def main() -> int:
    latency.answer_of_device = PlayedDevice()
    rows: dict[str, Any] = {}
    for name, workers in FORMS.items():
        rows[name] = fitted(workers, kill="killed" in name)
        print(json.dumps({name: rows[name]}), flush=True)
    choices = [{**row, "seconds": None, "killed": None} for row in rows.values()]
    same = all(choice == choices[0] for choice in choices)
    RESULT.write_text(json.dumps({**about("-"), "same": same, "forms": rows}, indent=1) + "\n")
    return 0 if same and rows["ray, one worker killed"]["killed"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
