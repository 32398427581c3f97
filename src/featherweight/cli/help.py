"""The page of a command that was given nothing to do."""

from __future__ import annotations

import typer

from featherweight.cli import output

__all__ = ["show_help"]

_NOTHING_DONE = 2


def show_help(context: typer.Context) -> None:
    """Print the help of a group of commands that was called without one, and end.

    The page goes to stdout, for a person who asks what there is; the exit code is that of a wrong
    call, for a script that lost its arguments.
    """
    if context.invoked_subcommand is None:
        output.print_page(context.get_help())
        raise typer.Exit(_NOTHING_DONE)
