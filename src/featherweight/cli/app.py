"""The `featherweight` command: one subcommand per verb, exit codes, one-line errors.

Exit codes: 0 done or met, 1 failed, 2 usage or bad input, 3 budget not met or infeasible,
4 device unreachable, 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.data import data_app
from featherweight.cli.device import device_app
from featherweight.cli.doctor import doctor
from featherweight.cli.export import export, verify
from featherweight.cli.fit import fit
from featherweight.cli.measure import measure
from featherweight.cli.models import models
from featherweight.cli.profile import profile
from featherweight.cli.report import report
from featherweight.cli.train import evaluate, predict, train
from featherweight.errors import FailedError, FeatherweightError, UsageError

__all__ = ["app", "main", "run"]

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fit a light-weight CNN to pictures, a device and a latency budget, and prove it.",
)
for command in (
    fit, train, evaluate, predict, profile, measure, export, verify, report, models, doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(device_app, name="device")


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        output.print_lines([f"featherweight {version('featherweight')}"])
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        code = app(args=arguments, standalone_mode=False)
    except FeatherweightError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        failed = FailedError(
            f"{error.strerror}: {error.filename}", hint="free space or choose another --output"
        )
        output.print_error(failed, as_json=as_json)
        return failed.exit_code
    except Exception as error:
        # typer raises its vendored click's errors in standalone_mode=False; they know their text.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        usage = UsageError(message(), hint="see featherweight --help")
        output.print_error(usage, as_json=as_json)
        return int(getattr(error, "exit_code", usage.exit_code))
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        return _interrupted()
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    sys.stderr.write("interrupted: the same command continues where it stopped\n")
    return _INTERRUPTED
