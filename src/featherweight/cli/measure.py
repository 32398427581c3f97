"""`featherweight measure`: time networks on a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featherweight.cli import output
from featherweight.cli.options import DEFAULT_PLATFORM, As_json, Seed

if TYPE_CHECKING:
    from featherweight.measuring.measurement import Measurement

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
    ratios = [_ratio(one, measured) for one in measured]
    if json:
        plain = [one.model_dump(mode="json") for one in measured]
        output.print_json(
            [{**one, "ratio": ratio} for one, ratio in zip(plain, ratios, strict=True)]
        )
        return
    rows = [
        [
            m.network, m.platform, f"{m.median_ms:.3f}",
            f"{m.interval_ms[0]:.3f}-{m.interval_ms[1]:.3f}", f"{m.p90_ms:.3f}",
            f"{m.relative_iqr:.1%}", "yes" if m.disturbed else "no",
            "-" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f})",
        ]
        for m, ratio in zip(measured, ratios, strict=True)
    ]  # fmt: skip
    output.print_table(
        [
            "network", "platform", "median ms", "95 % interval", "p90 ms", "IQR", "disturbed",
            "of the first",
        ],
        rows,
    )  # fmt: skip


def _ratio(one: Measurement, measured: list[Measurement]) -> tuple[float, float, float] | None:
    """Return one's time over that of the first network on its platform, with its 95 % interval."""
    from featherweight.measuring.measurement import ratio_interval

    first = next(other for other in measured if other.platform == one.platform)
    if one is first:
        return None
    low, high = ratio_interval(one.samples_ms, over=first.samples_ms)
    return one.median_ms / first.median_ms, low, high
