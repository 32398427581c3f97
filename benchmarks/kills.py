"""Kill a fit with kill -9 at random moments, continue it, and look for what was lost or doubled.

    python benchmarks/kills.py --kills 15
    python benchmarks/kills.py --kills 15 --photos ../shared/data/clothing
    python benchmarks/kills.py --kills 30 --stages train,prove --aimed 12

Runs `featherweight fit` on the bundled digits, or on 500 pictures of a folder of photographs (its
train split). A run is killed and continued by the same command until it ends by itself; then a new
one begins, until all kills are done. Only the command is killed: its worker processes must end by
themselves. With `--stages` at least `--aimed` of the kills hit the last training or the proof: such
a kill waits until that stage has written its first file in this attempt. Every finished run must
have the verdict of an undisturbed one; no stage that was finished may run again; no journal may
hold a record twice or a torn line. Adds its findings to results/kills.json and exits with 1 if any
invariant broke.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "kills.json"
DIGITS = ["demo", "--latency", "0.5ms", "--epochs", "3", "--model", "convnet"]
PHOTOS = ["--latency", "8ms", "--epochs", "1", "--model", "efficientnet_lite0"]
PICTURES = 500
MOMENTS_S = (1.0, 30.0)
FIRST_FILES = {
    "train": ("checkpoints/*-train/*",),
    "prove": ("artifacts/*-fp32/*", "artifacts/*-int8/*"),
}
"""What a stage writes first, and no stage before it; what ships lies beside `artifacts/shop`."""
MOST_TRIES = 5
"""Aimed kills that may miss one after the other: the stage was over before its moment."""
OUTLIVING_S = 2.0
_ENVIRONMENT = ("python", "platform", "cpu", "cores", "versions")


def sample_photos(source: Path, to: Path) -> Path:
    """Copy evenly spaced pictures of every class, `PICTURES` in all, as one folder of classes."""
    train = source / "train" if (source / "train").is_dir() else source
    files = sorted(p for p in train.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    count = min(PICTURES, len(files))
    for k in range(count):
        file = files[k * len(files) // count]
        folder = to / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)
    return to


def start(arguments: list[str], output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "featherweight", "fit", *arguments, "--output", str(output)]
    return subprocess.Popen(
        [*command, "--json"],
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def finish(arguments: list[str], output: Path) -> dict[str, Any]:
    """Run to the end and return the summary."""
    process = start(arguments, output)
    text, _ = process.communicate()
    if process.returncode not in (0, 3):
        raise SystemExit(f"exit code {process.returncode} in {output}")
    return dict(json.loads(text))


def stages(output: Path) -> list[str]:
    file = output / "stages.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line)["stage"] for line in lines if line.endswith("}")]


def faults(output: Path, *, finished_before: list[str]) -> list[str]:
    """Return what is wrong with a finished run that was killed."""
    found = []
    done = stages(output)
    if done[: len(finished_before)] != finished_before:
        found.append("a finished stage is gone or changed its place")
    found += [f"stage {name} ran {n} times" for name, n in Counter(done).items() if n > 1]
    for file in sorted(output.glob("*.jsonl")):
        lines = file.read_text().splitlines()
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                found.append(f"{file.name} has a torn line")
        if file.name == "train.jsonl":
            keys = [(r["network"], r["phase"], r["epoch"]) for r in records]
            found += [f"epoch {key} is told {n} times" for key, n in Counter(keys).items() if n > 1]
        elif file.name == "measurements.jsonl":
            texts = Counter(lines)
            found += [f"{file.name} holds a record {n} times" for n in texts.values() if n > 1]
        elif file.name == "verifications.jsonl" and len(records) > 1:
            found.append(f"the test split was read {len(records)} times")
    return found


def is_done(stage: str, output: Path) -> bool:
    return any(name.partition(":")[0] == stage for name in stages(output))


def wait_for_stage(
    stage: str, output: Path, *, process: subprocess.Popen[str], since_s: float
) -> bool:
    """Wait until a stage writes in this attempt; False when it is over or the command ended."""
    while process.poll() is None and not is_done(stage, output):
        files = [file for pattern in FIRST_FILES[stage] for file in output.glob(pattern)]
        if any(file.exists() and file.stat().st_mtime > since_s for file in files):
            return True
        time.sleep(0.05)
    return False


def kill(process: subprocess.Popen[str]) -> str | None:
    """Kill the command alone; return what is wrong when a process of it lives on."""
    process.kill()
    process.communicate()
    deadline = time.monotonic() + OUTLIVING_S
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    return f"a worker outlived its command by {OUTLIVING_S:.0f} s"


def attempt(
    arguments: list[str], output: Path, *, aim: str | None, within_s: float, draw: random.Random
) -> tuple[dict[str, Any] | None, str | None]:
    """Start or continue a run and kill it.

    Args:
        arguments: of the fit.
        output: its run directory.
        aim: the stage to kill it in; `None` = whenever.
        within_s: of the stage's beginning, or of the start.
        draw: the moment.

    Returns:
        when it was killed (`None` = it ended before), and what was wrong about its end.
    """
    began_s = time.time()
    process = start(arguments, output)
    if aim is not None and not wait_for_stage(aim, output, process=process, since_s=began_s):
        aim, within_s = None, 0.0  # over already: what comes after it is as good a moment
    least_s = MOMENTS_S[0] if aim is None else 0.0
    try:
        process.communicate(timeout=draw.uniform(least_s, max(least_s, within_s)))
        return None, None
    except subprocess.TimeoutExpired:
        hit = aim is not None and not is_done(aim, output)
        after_s = time.time() - began_s
        wrong = kill(process)
    return {"after_s": round(after_s, 1), "aimed": aim, "hit": hit}, wrong


def choose_aim(names: list[str], *, missing: int, chance: float, draw: random.Random) -> str | None:
    """Return the stage to kill in, in turn; `None` = whenever."""
    if not names or missing <= 0 or draw.random() >= chance:
        return None
    return names[missing % len(names)]


def kill_often(
    arguments: list[str],
    work: Path,
    *,
    kills: int,
    seed: int,
    whole: dict[str, Any],
    aims: dict[str, float],
    aimed: int,
) -> dict[str, Any]:
    """Kill and continue runs until all kills are done.

    Args:
        arguments: of the fit.
        work: where the runs go.
        kills: how many.
        seed: of the moments.
        whole: summary of an undisturbed run.
        aims: stages to aim at -> how long each takes undisturbed.
        aimed: kills that must hit one of them.
    """
    draw = random.Random(seed)
    moments: list[dict[str, Any]] = []
    broken: list[str] = []
    runs, misses = 0, 0
    names, share = list(aims), aimed / kills
    while len(moments) < kills:
        output = work / f"run-{runs}"
        runs += 1
        before: list[str] = []
        while len(moments) < kills:
            missing = aimed - sum(bool(moment["hit"]) for moment in moments)
            # The last kills are all aimed, so that enough of them hit; before, chance decides.
            must = missing >= kills - len(moments)
            aim = choose_aim(names, missing=missing, chance=1.0 if must else share, draw=draw)
            if aim is not None and is_done(aim, output):
                if must:
                    break  # this run is past it: a new one has it before it
                aim = None
            within_s = MOMENTS_S[1] if aim is None else 0.7 * aims[aim]
            moment, wrong = attempt(arguments, output, aim=aim, within_s=within_s, draw=draw)
            if wrong is not None:
                broken.append(f"run {runs}: {wrong}")
            if moment is None:
                break  # it ended by itself
            if must and not moment["hit"]:
                misses += 1
                if misses > MOST_TRIES:
                    raise SystemExit(f"{aim} could not be hit {misses} times")
                continue  # one too many, so that enough of those counted hit
            now = stages(output)
            if now[: len(before)] != before:
                broken.append(f"run {runs}: stages {before} became {now}")
            before, misses = now, 0
            moments.append({"run": runs, **moment, "stages_done": len(now)})
            print(json.dumps(moments[-1]), flush=True)
        summary = finish(arguments, output)
        wrong_at_end = faults(output, finished_before=before)
        wrong_at_end += [summary["verdict"]] * (summary["verdict"] != whole["verdict"])
        broken += [f"run {runs}: {text}" for text in wrong_at_end]
    hits = sum(bool(moment["hit"]) for moment in moments)
    return {"kills": len(moments), "hits": hits, "runs": runs, "broken": broken, "moments": moments}


def lengths(output: Path, wanted: list[str]) -> dict[str, float]:
    """Return how long stages took in a finished run."""
    lines = [json.loads(line) for line in (output / "stages.jsonl").read_text().splitlines()]
    taken = {line["stage"].partition(":")[0]: float(line["seconds"]) for line in lines}
    absent = [name for name in wanted if name not in taken]
    if absent:
        raise SystemExit(f"no stage {absent[0]!r}; there are {', '.join(taken)}")
    return {name: taken[name] for name in wanted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--photos", type=Path, help="folder of photographs; default: the digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", default="", help="aim at these: train, prove or train,prove")
    parser.add_argument("--aimed", type=int, help="kills that hit them; default: a third of all")
    options = parser.parse_args()
    wanted = [name for name in options.stages.split(",") if name]
    if set(wanted) - FIRST_FILES.keys():
        parser.error(f"--stages: allowed are {', '.join(FIRST_FILES)}")
    aimed = 0 if not wanted else options.aimed or -(-options.kills // 3)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        arguments = DIGITS
        if options.photos is not None:
            arguments = [str(sample_photos(options.photos, work / "photos")), *PHOTOS]
        started = time.perf_counter()
        whole = finish(arguments, work / "whole")
        whole_s = time.perf_counter() - started
        found = kill_often(
            arguments,
            work,
            kills=options.kills,
            seed=options.seed,
            whole=whole,
            aims=lengths(work / "whole", wanted),
            aimed=aimed,
        )
        environment = json.loads((work / "whole" / "environment.json").read_text())
    name = "digits" if options.photos is None else f"{PICTURES} photographs"
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[name] = {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {key: environment[key] for key in _ENVIRONMENT if key in environment},
        "verdict": whole["verdict"],
        "undisturbed_s": round(whole_s, 1),
        **found,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    where = options.stages or "no stage"
    print(
        f"{name}: {found['kills']} kills ({found['hits']} of them in {where}) "
        f"in {found['runs']} runs, broken: {found['broken']}"
    )
    raise SystemExit(1 if found["broken"] else 0)


if __name__ == "__main__":
    main()
