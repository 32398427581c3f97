"""A stand-in for `adb` and a phone: a folder of this machine, and a program that tells times.

What the program prints was recorded on a phone by others (tensorflow/tensorflow issue 42507),
shortened, with its times replaced by ours; newer programs add a median, as their source says.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

RECORDED = """\
STARTING!
Log parameter values verbosely: [0]
Loaded model /data/local/tmp/model.tflite
The input model file size (MB): 0.004448
Initialized session in 0.855ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding \
150 seconds.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 \
seconds.
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference \
(avg): 33209.4
"""

_ADB = """#!{python}
import os, re, shutil, subprocess, sys
root = {root!r}
arguments = sys.argv[1:]
serial = ""
os.environ.pop("OMP_NUM_THREADS", None)  # a phone has its own environment; nproc reads this
if arguments[0] == "-s":
    serial, arguments = arguments[1], arguments[2:]
if os.path.exists(root + "/unplugged") or serial not in ("", "PHONE1"):
    sys.stderr.write(f"error: device '{{serial}}' not found\\n")
    sys.exit(1)
def there(text):
    return re.sub(r"/data/local/tmp", root + "/data", text)
if arguments[0] == "push":
    if os.path.exists(root + "/full"):
        sys.stderr.write("adb: error: failed to copy 'model.tflite': No space left on device\\n")
        sys.exit(1)
    for path in arguments[1:-1]:
        shutil.copy(path, there(arguments[-1]))
    sys.exit(0)
assert arguments[0] == "shell", arguments
environment = {{**os.environ, "PATH": root + "/bin:" + os.environ["PATH"]}}
sys.exit(subprocess.call(["sh", "-c", there(arguments[1])], env=environment))
"""

_GETPROP = """#!/bin/sh
case $1 in
  ro.product.manufacturer) echo Maker;;
  ro.product.model) echo "Phone 7";;
  ro.soc.model) echo SM0000;;
  ro.build.version.release) echo 15;;
esac
"""

_PROGRAM = """#!{python}
import os, random, re, sys
flags = dict(part.lstrip("-").split("=", 1) for part in sys.argv[1:])
with open({log!r}, "a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
size = os.path.getsize(flags["graph"])
us = 200 + size / 1000 + random.random()
runs = int(flags["num_runs"])
print(f"count=2 first={{us * 3:.0f}} curr={{us:.0f}} min={{us:.0f}} max={{us * 3:.0f}} "
      f"avg={{us * 2:.1f}} std=9")
print()
print(f"count={{runs}} first={{us:.0f}} curr={{us:.0f}} min={{us:.0f}} max={{us:.0f}} "
      f"avg={{us:.2f}} std=1 p5={{us:.2f}} median={{us:.2f}} p95={{us:.2f}}")
"""


def plug_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, program: bool = True) -> Path:
    """Put the stand-in on PATH; return the phone's folder."""
    root, commands = folder / "phone", folder / "commands"
    for made in (root / "data", root / "bin", commands):
        made.mkdir(parents=True)
    _write(commands / "adb", _ADB.format(python=sys.executable, root=str(root)))
    _write(root / "bin" / "getprop", _GETPROP)
    if program:
        log = str(root / "calls")
        _write(root / "data" / "benchmark_model", _PROGRAM.format(python=sys.executable, log=log))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return root


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
