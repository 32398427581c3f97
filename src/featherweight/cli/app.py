"""The `featherweight` command: one subcommand per verb, exit codes, one-line errors.

Exit codes: 0 done or met, 1 failed, 2 usage or bad input, 3 budget not met or infeasible,
4 device unreachable, 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from importlib.metadata import version
from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.adapt import adapt
from featherweight.cli.data import data_app
from featherweight.cli.device import device_app
from featherweight.cli.doctor import doctor
from featherweight.cli.export import export, verify
from featherweight.cli.fit import fit
from featherweight.cli.ghost import ghost
from featherweight.cli.guidelines import guidelines
from featherweight.cli.help import show_help
from featherweight.cli.measure import measure
from featherweight.cli.models import models
from featherweight.cli.profile import profile
from featherweight.cli.report import report
from featherweight.cli.search import search
from featherweight.cli.train import evaluate, predict, train
from featherweight.environment import process_age_s
from featherweight.errors import FailedError, FeatherweightError, UsageError

__all__ = ["app", "main", "run"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""What a shell makes of a program that SIGPIPE ended."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fit a light-weight CNN to pictures, a device and a latency budget, and prove it.",
)
for command in (
    fit,
    adapt,
    ghost,
    search,
    train,
    evaluate,
    predict,
    profile,
    measure,
    guidelines,
    export,
    verify,
    report,
    models,
    doctor,
):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(device_app, name="device")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        output.print_lines([f"featherweight {version('featherweight')}"])
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    show_help(context)


def main() -> None:
    """Run the command line and exit."""
    try:
        code = run(sys.argv[1:], started_s=time.monotonic() - process_age_s())
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE
    sys.exit(code)


def run(arguments: list[str], *, started_s: float | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: of the command.
        started_s: `time.monotonic()` at the start of the program; `None` = now.
    """
    as_json = "--json" in arguments
    started_s = time.monotonic() if started_s is None else started_s
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="featherweight", obj=started_s)
    except FeatherweightError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except OSError as error:
        known = _known_failure(error)
        if known is None:
            raise
        output.print_error(known, as_json=as_json)
        return known.exit_code
    except Exception as error:
        # typer raises its vendored click's errors in standalone_mode=False; they know their text.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "featherweight")
        usage = UsageError(message().rstrip("."), hint=f"see {command} --help")
        output.print_error(usage, as_json=as_json)
        return int(getattr(error, "exit_code", usage.exit_code))
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        return _interrupted()
    return code if isinstance(code, int) else 0


def _known_failure(error: OSError) -> FeatherweightError | None:
    """Return what the system's refusal of a file means; `None` for any other."""
    if error.errno in _NO_ROOM:
        return FailedError(
            f"{error.strerror}: {error.filename}", hint="free space or choose another --output"
        )
    if error.errno in _NO_PATH and error.filename is not None:
        return UsageError(f"{error.strerror}: {error.filename}", hint="give another path")
    return None


def _interrupted() -> int:
    sys.stderr.write("interrupted: the same command continues where it stopped\n")
    return _INTERRUPTED
