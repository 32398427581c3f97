"""Numbers and names beyond all measure: one line, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.cli.app import run

HUGE, MANY_DIGITS = "9" * 400, "1" * 5000
FIT = ["fit", "demo", "--latency"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*FIT, f"{HUGE}ms"], "latency"),
        ([*FIT, "0." + "0" * 400 + "1ms"], "latency"),
        ([*FIT, f"0.{'0' * 320}1fps"], "latency"),
        ([*FIT, "1ms", "--time", f"{HUGE}s"], "duration"),
        ([*FIT, "1ms", "--time", f"{MANY_DIGITS}s"], "duration"),
        ([*FIT, "1ms", "--seed", HUGE], "--seed"),
        ([*FIT, "1ms", "--seed", str(2**63)], "--seed"),
        ([*FIT, "1ms", "--seed", MANY_DIGITS], "--seed"),
        ([*FIT, "1ms", "--epochs", HUGE], "--epochs"),
        (["train", "demo", "--model", "convnet", "--time", f"{HUGE}s"], "duration"),
        (["train", "demo", "--model", "convnet", "--seed", str(2**63)], "--seed"),
        (["evaluate", "run", "demo", "--seed", str(2**63)], "--seed"),
        (["data", "check", "demo", "--seed", str(2**63)], "--seed"),
        (["measure", "convnet", "--sustained", f"{HUGE}s"], "duration"),
        (["measure", "convnet", "--on", f"local/onnxruntime:threads={MANY_DIGITS}"], "threads"),
        (["models", "--on", "local/onnxruntime", "--latency", f"{HUGE}ms"], "latency"),
        (["profile", f"mobilenet_v2:resolution={HUGE}"], "resolution"),
        (["profile", f"mobilenet_v2:classes={MANY_DIGITS}"], "classes"),
        (["profile", f"mobilenet_v2:width={HUGE}"], "width"),
        (["profile", f"timm:resnet18:resolution={HUGE}"], "resolution"),
        (["profile", "n" * 300], "network"),
        (["report", "n" * 300], "nnnn"),
        (["predict", "n" * 300, "x.png"], "nnnn"),
        (["predict", "~nosuchuser/run", "x.png"], "nosuchuser"),
        (["evaluate", "~nosuchuser", "demo"], "nosuchuser"),
        (["train", "~nosuchuser", "--model", "convnet"], "nosuchuser"),
        ([*FIT, "1ms", "--output", "~nosuchuser/run"], "nosuchuser"),
    ],
)
def test_one_line(
    words: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert len(line) < 2500
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "no-such-folder", "--model", "convnet"],
        ["fit", "no-such-folder", "--latency", "1ms"],
        ["fit", "--from", "no-such-run", "--latency", "1ms"],
        ["evaluate", "no-such-run", "no-such-folder"],
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--device", "abacus"]) == 2
    assert "cannot train on the device 'abacus'" in capsys.readouterr().err
