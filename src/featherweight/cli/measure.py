"""`featherweight measure`: time networks on a platform."""

from __future__ import annotations

from typing import Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import DEFAULT_PLATFORM, As_json, Seed

__all__ = ["measure"]


def measure(
    networks: Annotated[list[str], typer.Argument(help="Networks, timed interleaved.")],
    on: Annotated[
        list[str] | None, typer.Option("--on", help="Platform; repeat for several.")
    ] = None,
    seed: Seed = 0,
    json: As_json = False,
) -> None:
    """Time networks in a fresh process, interleaved; raw samples with --json."""
    output.show_log(quiet=False)
    from featherweight.measuring.measure import measure as measure_networks

    measured = measure_networks(networks, on=on or [DEFAULT_PLATFORM], seed=seed)
    if json:
        output.print_json([m.model_dump(mode="json") for m in measured])
        return
    rows = [
        [
            m.network, m.platform, f"{m.median_ms:.3f}",
            f"{m.interval_ms[0]:.3f}-{m.interval_ms[1]:.3f}", f"{m.p90_ms:.3f}",
            f"{m.relative_iqr:.1%}", "yes" if m.disturbed else "no",
        ]
        for m in measured
    ]  # fmt: skip
    output.print_table(
        ["network", "platform", "median ms", "95 % interval", "p90 ms", "IQR", "disturbed"], rows
    )
