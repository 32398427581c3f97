"""What a person sees: whole pages, whole numbers, whole lines, and nothing that a name does."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from featherweight.cli import output
from featherweight.cli.app import run
from featherweight.errors import UsageError

ESCAPE = "cat\x1b[2J\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("words", "commands"),
    [([], ("fit", "doctor")), (["data"], ("check",)), (["device"], ("add", "roofline"))],
)
def test_a_bare_command_shows_its_page(
    words: list[str], commands: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    page = capsys.readouterr()
    assert page.err == ""
    lines = page.out.splitlines()
    assert lines[0].startswith(f"Usage: {' '.join(['featherweight', *words])} ")
    for command in commands:
        assert any(line.split()[:1] == [command] for line in lines)


def test_a_wrong_call_names_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check"]) == 2
    line = capsys.readouterr().err
    assert line == ("error: Missing argument 'data'; see featherweight data check --help\n")


def test_tables_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    numbers = [f"{10**k:,}" for k in range(7, 11)]
    columns = ["network", "published top-1", "MACs", "params", "bytes"]
    output.print_table(columns, [["mobilenet_v4_conv_medium_minimalistic", *numbers]])
    first, second, row = capsys.readouterr().out.splitlines()
    assert row.split()[1:] == numbers
    assert first.split() == ["published"]
    assert second.split() == ["network", "top-1", "MACs", "params", "bytes"]
    for name, number in zip(second.split()[1:], numbers, strict=True):
        assert second.index(name) + len(name) == row.index(number) + len(number)


def test_a_log_line_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_log(quiet=False)
    log = logging.getLogger("featherweight.test")
    log.info("%s", "word " * 60 + "end")
    log.warning("no weights")
    plain, warned = capsys.readouterr().err.splitlines()
    assert plain.endswith("word end")
    assert warned.endswith(" warning: no weights")


def test_names_do_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_log(quiet=False)
    logging.getLogger("featherweight.test").warning("class %s\nerror: made up", ESCAPE)
    output.print_lines([f"class {ESCAPE}\nMET"])
    output.print_table(["label"], [[ESCAPE]])
    output.print_error(UsageError(f"no class {ESCAPE}"), as_json=False)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert r"cat\x1b[2J" in text
        assert len(text.splitlines()) == 2 + (text is shown.out), "a line each, a heading"


def test_letters_that_the_terminal_lacks_are_shown_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.print_lines(["Größe 猫"])
    output.print_table(["label"], [["猫"]])
    sys.stdout.flush()
    assert raw.getvalue().decode().splitlines() == [r"Gr\xf6\xdfe \u732b", "label", r"\u732b"]


def test_a_long_number_does_not_bury_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error(UsageError(f"cannot use {'9' * 400}", hint="less"), as_json=False)
    line = capsys.readouterr().err
    assert len(line) < 120
    assert "(400 letters)" in line or "(401 letters)" in line


def test_doctor_is_for_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "ok": True,
        "python": "3.11.7",
        "torch": "2.9.0",
        "runtimes": {"onnxruntime": "1.23", "ncnn": "not installed: pip install ncnn"},
        "devices": {
            "local": {
                "cpu": "A CPU",
                "cores": 2,
                "memory_bytes": 8 * 2**30,
                "os": "Linux 6",
                "arch": "x86_64",
                "governor": None,
                "int8_pairs_saturate": True,
            }
        },
        "weights": ["efficientnet_lite0"],
        "timing_noise": 0.012,
        "foreign_cpu_share": None,
        "advice": ["close other programs"],
    }
    monkeypatch.setattr("featherweight.measuring.health.examine", lambda: found)
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert not set("{}[]'") & set(text)
    assert "device local: A CPU, 2 cores, 8.0 GiB, x86_64, Linux 6" in text
    assert "timing noise: 1.2%" in text
    assert "advice: close other programs" in text


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    program = (
        "from featherweight.cli import app; app.run = lambda *_, **__: print('x' * 10); app.main()"
    )
    done = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.stdout is not None
    done.stdout.close()
    _, said = done.communicate()
    assert (done.returncode, said) == (141, b"")
