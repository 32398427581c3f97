"""Give thousands of odd inputs to the commands that would read them, and count what went wrong.

    python benchmarks/fuzz.py --inputs 5000
    python benchmarks/fuzz.py --kinds onnx pictures --inputs 200 --seed 7
    python benchmarks/fuzz.py --only onnx:17 --seed 7

Kinds: text (latency, time, platform, network, URL, whole command lines), json, yaml, onnx, parquet,
pictures, runs (run directories) and artifacts; benchmarks/fuzz_inputs.py draws them from the seed,
evenly over the kinds. Each goes, in a worker process that does many, to the command line
(`featherweight.cli.app.run`) or to the function behind it. Wrong is

- a traceback: an exception that is not a FeatherweightError, an exit code outside 0, 1, 2, 3, 4 and
  130, or the word Traceback on standard error;
- a hang: more than --limit seconds (20); the worker is killed, and the input done once more by one
  that has imported all runtimes before (ExecuTorch alone takes up to 20 s, once a process);
- memory: a peak of more than 2 GB resident in a fresh worker, its children not counted; a worker
  above twice that is killed, and no input may map more than 3 GB;
- a death: the worker ended by itself (a signal).

ssh and adb are stand-ins that fail at once, so that no host is asked. --only says what one input is
and does. Prints JSON and writes results/fuzz.json; exit code 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fuzz_inputs import KINDS, Base, Draw, make_base

RESULT = Path(__file__).parent / "results" / "fuzz.json"
EXIT_CODES = (0, 1, 2, 3, 4, 130)
LARGEST_BYTES = 2 << 30
MAPPED_BYTES = 3 << 30
A_WORKERS_LIFE = 250
SHOWN = 60
RUNTIME_MODULES = ("executorch.runtime", "openvino", "ncnn", "ai_edge_litert.interpreter")
Case = tuple[str, int]


# ------------------------------------------------------------------------------------ the worker


def work(
    connection: Connection,
    folder: str,
    base: str,
    seed: int,
    stand_ins: str,
    warm: bool,  # noqa: FBT001 - multiprocessing gives it by position
) -> None:  # pragma: no cover - another process
    """Take cases from the connection until it closes; answer what each came to."""
    os.setsid()
    os.environ["PATH"] = f"{stand_ins}:{os.environ['PATH']}"
    os.environ["HOME"] = os.environ["FEATHERWEIGHT_HOME"] = str(Path(folder) / "home")
    talk = Path(folder) / "talk.txt"
    descriptor = os.open(talk, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    import torch

    import featherweight.cli.app
    import featherweight.training.predict  # noqa: F401

    for module in RUNTIME_MODULES if warm else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    torch.set_num_threads(1)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAPPED_BYTES,) * 2)
    connection.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            kind, number = connection.recv()
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            place = Path(folder) / "case"
            found = one(kind, number, seed=seed, place=place, base=Base(Path(base)))
            told = talk.read_bytes().decode("utf-8", "replace")
            if found["wrong"] is None and "Traceback (most recent call last)" in told:
                found["wrong"] = "Traceback on standard error: " + told.strip().splitlines()[-1]
            found["peak_bytes"] = peak_bytes()
            connection.send(found)
            os.chdir(folder)
            shutil.rmtree(place, ignore_errors=True)


def one(kind: str, number: int, *, seed: int, place: Path, base: Base) -> dict[str, Any]:
    """Do one case in a folder of its own; return its exit code and what was wrong."""
    from featherweight.cli.app import run
    from featherweight.errors import FeatherweightError

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    os.chdir(place)
    task = KINDS[kind](Draw(f"{seed}/{kind}/{number}", place, base))
    found: dict[str, Any] = {"wrong": None, "code": None, "input": described(task, place)}
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    started = time.monotonic()
    try:
        code = run(task) if isinstance(task, list) else task()
        found["code"] = code if isinstance(code, int) else 0
    except FeatherweightError as error:
        found["code"] = error.exit_code
    except SystemExit as error:  # argparse, in a bundle's program
        found["code"] = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        found["wrong"] = where(error)
        found["trace"] = traceback.format_exc()[-3000:].replace(str(place), "CASE")
    if found["wrong"] is None and found["code"] not in EXIT_CODES:
        found["wrong"] = f"exit code {found['code']}"
    found["seconds"] = time.monotonic() - started
    return found


def described(task: object, place: Path) -> str:
    """Return the command line of a task in one short line."""
    parts = task if isinstance(task, list) else [getattr(task, "__qualname__", "call")]
    line = " ".join(ascii(part)[1:-1] for part in parts).replace(str(place), "CASE")
    return placeless(line)[:300]


def placeless(text: str) -> str:
    """Return a text without the folders of this machine."""
    return re.sub(r"(?<![\w.])(/[\w.+-]+)+/", ".../", text)


def where(error: BaseException) -> str:
    """Return kind, place and text of an exception; the place is the last one in featherweight."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/featherweight/" in frame.filename] or [*frames]
    last = ours[-1] if ours else None
    at = "" if last is None else f" at {Path(last.filename).name}:{last.lineno} in {last.name}"
    text = ascii(str(error).strip().splitlines()[0] if str(error).strip() else "")[1:-1]
    return f"{type(error).__name__}{at}: {placeless(text)[:120]}"


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


# ------------------------------------------------------------------------------------ the parent


class Worker:
    """A process that does cases one after the other, and is replaced when it must be."""

    def __init__(self, number: int, folder: Path, arguments: tuple[str, int, str]) -> None:
        self.folder = folder / f"worker-{number}"
        self.arguments = arguments
        self.case: Case | None = None
        self.warm = False
        self._start()

    def _start(self) -> None:
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        base, seed, stand_ins = self.arguments
        self.process = context.Process(
            target=work, args=(other, str(self.folder), base, seed, stand_ins, self.warm)
        )
        self.process.start()
        other.close()
        self.ready, self.done, self.since = False, 0, time.monotonic()

    def give(self, case: Case) -> None:
        """Send a case."""
        self.connection.send(case)
        self.case, self.since = case, time.monotonic()
        self.done += 1

    def resident_bytes(self) -> int:
        """Return what the worker holds now."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * resource.getpagesize()

    def end(self) -> int | None:
        """Kill the worker and its children; return its exit code if it had ended by itself."""
        code = self.process.exitcode
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()
        return code

    def renew(self, *, warm: bool = False) -> None:
        """Begin again with a fresh process; a warm one has imported all runtimes."""
        self.end()
        self.warm = warm
        self.case = None
        self._start()


def run_all(
    cases: list[Case], workers: list[Worker], *, limit_s: float
) -> Iterator[dict[str, Any]]:
    """Yield what every case came to, in the order they end.

    A worker may still hold what the inputs before took: one that is above the memory is done again,
    as the first of a fresh worker. One that took too long is done again by a warm one.
    """
    left = iter(cases)
    again: list[Case] = []
    hung: set[Case] = set()
    busy = len(cases)
    while busy:
        wait([worker.connection for worker in workers], timeout=0.05)
        for worker in workers:
            done = worker.done
            found = listen(worker, limit_s=limit_s)
            if found is not None and is_for_another(worker, found, done=done, hung=hung):
                again.append(case_of(found))
            elif found is not None:
                busy -= 1
                yield found
            if worker.ready and worker.case is None:
                if worker.done >= A_WORKERS_LIFE:
                    worker.renew()
                elif again and worker.done == 0:
                    worker.give(again.pop())
                elif (case := next(left, None)) is not None:
                    worker.give(case)
                elif again:
                    worker.renew()


def is_for_another(worker: Worker, found: dict[str, Any], *, done: int, hung: set[Case]) -> bool:
    """Renew a worker where the outcome may be its own fault; whether the case is done again."""
    if found.get("hung") and case_of(found) not in hung:
        hung.add(case_of(found))
        worker.renew(warm=True)
        return True
    if done > 1 and found.get("peak_bytes", 0) > LARGEST_BYTES:
        worker.renew()
        return True
    return False


def case_of(found: dict[str, Any]) -> Case:
    return found["kind"], found["number"]


def listen(worker: Worker, *, limit_s: float) -> dict[str, Any] | None:
    """Return the outcome of a worker's case if there is one; a worker that is lost is replaced."""
    head = {} if worker.case is None else {"kind": worker.case[0], "number": worker.case[1]}
    try:
        if worker.connection.poll():
            answer = worker.connection.recv()
            if answer == "ready":
                worker.ready = True
                return None
            worker.case = None
            return {**head, **answer}
    except (EOFError, ConnectionError):
        worker.process.join(5)
        if not worker.ready:
            raise SystemExit("a worker ended before its first case") from None
        code = worker.process.exitcode
        worker.renew()
        return {**head, "wrong": f"the worker died: exit code {code}", "died": True}
    if worker.case is None:
        return None
    seconds, held = time.monotonic() - worker.since, worker.resident_bytes()
    if seconds <= limit_s and held <= 2 * LARGEST_BYTES:
        return None
    worker.renew()
    lost = {"seconds": seconds, "peak_bytes": held, **head}
    if held > 2 * LARGEST_BYTES:
        return {**lost, "wrong": f"killed at {held / 1e9:.1f} GB"}
    return {**lost, "wrong": f"no end after {seconds:.0f} s", "hung": True}


def summed(outcomes: list[dict[str, Any]], *, limit_s: float) -> dict[str, Any]:
    """Return counts for each kind and all that was wrong, the same in one line."""
    kinds: dict[str, dict[str, Any]] = {}
    wrong: dict[str, dict[str, Any]] = {}
    for one_outcome in sorted(outcomes, key=lambda found: (found["kind"], found["number"])):
        faults = faults_of(one_outcome, limit_s=limit_s)
        counts = kinds.setdefault(
            one_outcome["kind"],
            {
                "inputs": 0,
                "tracebacks": 0,
                "hangs": 0,
                "over_memory": 0,
                "deaths": 0,
                "largest_peak_bytes": 0,
                "longest_s": 0.0,
                "exit_codes": {},
            },
        )
        counts["inputs"] += 1
        counts["largest_peak_bytes"] = max(
            counts["largest_peak_bytes"], one_outcome.get("peak_bytes", 0)
        )
        counts["longest_s"] = round(max(counts["longest_s"], one_outcome.get("seconds", 0.0)), 2)
        code = str(one_outcome.get("code"))
        counts["exit_codes"][code] = counts["exit_codes"].get(code, 0) + 1
        for name, text in faults.items():
            counts[name] += 1
            entry = wrong.setdefault(  # one line for a place, whatever the message
                f"{one_outcome['kind']} {name} {text.partition(': ')[0]}",
                {
                    "kind": one_outcome["kind"],
                    "what": text,
                    "times": 0,
                    "first": f"{one_outcome['kind']}:{one_outcome['number']}",
                    "input": one_outcome.get("input"),
                },
            )
            entry["times"] += 1
    names = ("inputs", "tracebacks", "hangs", "over_memory", "deaths")
    return {
        "all": {name: sum(counts[name] for counts in kinds.values()) for name in names},
        "kinds": kinds,
        "wrong": sorted(wrong.values(), key=lambda entry: -entry["times"]),
    }


def faults_of(outcome: dict[str, Any], *, limit_s: float) -> dict[str, str]:
    """Return what was wrong with one outcome, by the name of its count."""
    faults = {}
    if outcome.get("hung") or outcome.get("seconds", 0.0) > limit_s:
        faults["hangs"] = f"more than {limit_s:.0f} s"
    if outcome.get("peak_bytes", 0) > LARGEST_BYTES:
        faults["over_memory"] = f"{outcome['peak_bytes'] / 1e9:.1f} GB"
    if outcome.get("died"):
        faults["deaths"] = outcome["wrong"]
    elif outcome["wrong"] is not None and not faults:
        faults["tracebacks"] = outcome["wrong"]
    return faults


# ------------------------------------------------------------------------------------- the whole


def make_stand_ins(folder: Path) -> Path:
    """Write an ssh and an adb that reach nothing."""
    folder.mkdir()
    for name in ("ssh", "adb"):
        program = folder / name
        program.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 255\n")
        program.chmod(0o755)
    return folder


def show(case: str, *, seed: int, base: Base, place: Path, stand_ins: Path) -> int:
    """Do one case here and tell all about it; its files stay."""
    kind, _, number = case.partition(":")
    os.environ["PATH"] = f"{stand_ins}:{os.environ['PATH']}"
    found = one(kind, int(number), seed=seed, place=place, base=base)
    print(json.dumps({key: value for key, value in found.items() if key != "trace"}, indent=1))
    print(found.get("trace", ""), f"files: {place}", sep="\n")
    return 0 if found["wrong"] is None else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--inputs", type=int, default=5000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of one input")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="one input, as KIND:NUMBER, here and with its traceback")
    parser.add_argument(
        "--without-runs",
        action="store_true",
        help="damage no finished train and fit: saves the minute or two that they take",
    )
    parser.add_argument("--base", type=Path, help="keep what is damaged in this folder, or take it")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        work_folder = Path(folder)
        os.environ["FEATHERWEIGHT_HOME"] = str(work_folder / "home")
        stand_ins = make_stand_ins(work_folder / "bin")
        base = Base((options.base or work_folder / "base").resolve())
        if not base.folder.is_dir():
            with contextlib.redirect_stdout(sys.stderr):
                make_base(base.folder, with_runs=not options.without_runs)
        if options.only:
            place = Path(tempfile.mkdtemp(prefix="fuzz-case-")) / "case"
            return show(
                options.only, seed=options.seed, base=base, place=place, stand_ins=stand_ins
            )
        started = time.monotonic()
        cases = [
            (options.kinds[k % len(options.kinds)], k // len(options.kinds))
            for k in range(options.inputs)
        ]
        arguments = (str(base.folder), options.seed, str(stand_ins))
        workers = [
            Worker(number, work_folder, arguments)
            for number in range(min(options.workers, len(cases)))
        ]
        outcomes: list[dict[str, Any]] = []
        try:
            for outcome in run_all(cases, workers, limit_s=options.limit):
                outcomes.append(outcome)
                if len(outcomes) % 250 == 0:
                    bad = Counter(bool(faults_of(o, limit_s=options.limit)) for o in outcomes)
                    print(f"{len(outcomes)} inputs, {bad[True]} wrong", file=sys.stderr, flush=True)
        finally:
            for worker in workers:
                worker.end()
    found = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            name: version(name)
            for name in ("featherweight", "torch", "onnx", "pyarrow", "pillow", "pyyaml")
        },
        "seed": options.seed,
        "limit_s": options.limit,
        "seconds": round(time.monotonic() - started, 1),
        **summed(outcomes, limit_s=options.limit),
    }
    options.result.parent.mkdir(exist_ok=True)
    options.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found | {"wrong": found["wrong"][:SHOWN]}, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
