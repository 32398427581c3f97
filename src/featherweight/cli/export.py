"""`featherweight export` and `verify`: files for a device, and proof of what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import DEFAULT_PLATFORM, As_json, Data, Output, Split_seed
from featherweight.errors import FailedError

__all__ = ["export", "verify"]

_Run = Annotated[Path, typer.Argument(help="Run directory of a trained network.")]


def export(
    network: _Run,
    data: Annotated[
        str | None, typer.Argument(help="Data: calibration pictures for int8, and verification.")
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", help="Platform; repeat for several.")
    ] = None,
    output_directory: Output = None,
    seed: Split_seed = None,
    json: As_json = False,
) -> int:
    """Write files for platforms; with DATA also verify each on the test split."""
    output.show_log(quiet=False)
    from featherweight.exporting.export_run import export as export_network
    from featherweight.exporting.platforms import parse_platform

    shipped = export_network(
        network,
        data=data,
        on=[str(parse_platform(text)) for text in on or [DEFAULT_PLATFORM]],
        output=output_directory,
        seed=seed,
    )
    if json:
        output.print_json([s.plain() for s in shipped])
    else:
        output.print_lines([line for s in shipped for line in s.lines()])
    failed = [s for s in shipped if s.verification is not None and not s.verification.passed]
    if failed:
        raise FailedError(
            f"the file for {failed[0].platform} does not compute what the network computes",
            hint="see its verification; int8 may need more calibration pictures",
        )
    return 0


def verify(
    network: _Run,
    artifact: Annotated[Path, typer.Argument(help="Folder of an exported file.")],
    data: Data,
    seed: Split_seed = None,
    json: As_json = False,
) -> int:
    """Compare a file with its network on real pictures, and state the file's accuracy."""
    output.show_log(quiet=False)
    from featherweight.exporting.export_run import verify as verify_file

    shipped = verify_file(network, artifact=artifact, data=data, seed=seed)
    if json:
        output.print_json([shipped.plain()])
    else:
        output.print_lines(shipped.lines())
    return 0 if shipped.verification is not None and shipped.verification.passed else 1
