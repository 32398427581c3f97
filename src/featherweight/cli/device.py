"""`featherweight device add|list|check|calibrate|roofline`: machines to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherweight.cli import output
from featherweight.cli.help import show_help
from featherweight.cli.options import As_json, Seed
from featherweight.cli.pages import Plot, check_plot, write_plot

if TYPE_CHECKING:
    from featherweight.measuring.roofline import Roofline

__all__ = ["add", "calibrate", "check", "device_app", "listed", "roofline"]

_ROOFLINE_NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0", "ghostnet")
_ROOFLINE_LAYERS = 10

device_app = typer.Typer(help="Machines to measure on.", rich_markup_mode=None)


@device_app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Machines to measure on."""
    show_help(context)


@device_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="How platforms will call it, such as pi.")],
    url: Annotated[str, typer.Argument(help="ssh://[USER@]HOST[:PORT].")],
    python: Annotated[
        str | None, typer.Option("--python", help="Interpreter on the device that has the runtime.")
    ] = None,
    json: As_json = False,
) -> None:
    """Give a device a name; it is then a platform such as pi/onnxruntime."""
    from featherweight.devices.known import KnownDevice, add_device

    known = KnownDevice(url=url, python=python)
    path = add_device(name, known)
    if json:
        output.print_json({"name": name, **known.model_dump(mode="json"), "file": str(path)})
        return
    output.print_lines([f"{name} is {url} ({path})", f"next: featherweight device check {name}"])


@device_app.command("list")
def listed(json: As_json = False) -> None:
    """List the devices that have names; none of them is asked anything."""
    from featherweight.devices.device import DEVICE_SCHEMES, DEVICES
    from featherweight.devices.known import known_devices

    known = known_devices()
    if json:
        plain = [{"name": name, "url": name, "python": None} for name in DEVICES]
        plain += [{"name": name, **one.model_dump(mode="json")} for name, one in known.items()]
        output.print_json(plain)
        return
    rows = [[name, "this machine", "-"] for name in DEVICES]
    rows += [[name, one.url, one.python or "-"] for name, one in known.items()]
    output.print_table(["device", "url", "python"], rows)
    schemes = ", ".join(f"{scheme}://..." for scheme in DEVICE_SCHEMES)
    output.print_lines([f"a platform may also name {schemes} directly"])


@device_app.command("check")
def check(
    device: Annotated[str, typer.Argument(help="Name or URL.")],
    runtime: Annotated[str, typer.Option("--runtime", help="What runs there.")] = "onnxruntime",
    json: As_json = False,
) -> int:
    """See that a device can measure: connection, Python, runtime, timing, the same answers."""
    output.show_log(quiet=False)
    from featherweight.measuring.device_check import check_device

    found = check_device(device, runtime=runtime)
    if json:
        output.print_json(found)
        return 0 if found["ok"] else 1
    info = found["info"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    lines = [
        f"{'ok' if found['ok'] else 'NOT OK'}: {found['device']}",
        f"{info['cpu']}, {info['cores']} cores, {info['arch']}, {info['os']}",
    ]
    if found["python"] is not None:
        free = found["free_bytes"] / 1e9
        lines.append(f"python {found['python']}, {packages}; {free:.1f} GB free")
    for one in found["measured"]:
        low, high = one["interval_ms"]
        lines.append(
            f"{one['platform']}: {one['median_ms']:.3f} ms ({low:.3f}-{high:.3f}), "
            + (
                "its answers are not told"
                if one["difference"] is None
                else f"differs from this machine by {one['difference']:.1e}"
            )
        )
    output.print_lines([*lines, *found["problems"]])
    return 0 if found["ok"] else 1


@device_app.command("calibrate")
def calibrate(
    platform: Annotated[
        str, typer.Argument(help="Such as local/onnxruntime; without a precision fp32 and int8.")
    ],
    time: Annotated[str, typer.Option("--time", help="At most this long, such as 10m.")] = "10m",
    share: Annotated[
        Path | None, typer.Option("--share", help="Folder for copies that others can load.")
    ] = None,
    seed: Seed = 0,
    json: As_json = False,
) -> None:
    """Time some hundred networks once, to predict others: measure --predicted."""
    output.show_log(quiet=False)
    from featherweight.budget import parse_duration_s
    from featherweight.measuring.calibrate import calibrate as learn

    tables = learn(platform, time_s=parse_duration_s(time), seed=seed, share=share)
    plain = [
        {
            "platform": table.platform,
            "entries": len(table.entries),
            "seconds": table.seconds,
            "held_out": table.held_out.model_dump(mode="json"),
        }
        for table in tables
    ]
    if json:
        output.print_json(plain)
        return
    rows = [
        [
            table.platform,
            str(len(table.entries)),
            f"{table.seconds:.0f}",
            str(table.held_out.networks),
            f"{table.held_out.within_10_percent:.0%}",
            f"{table.held_out.mape:.1%}",
            f"{table.held_out.spearman:.3f}",
            f"{table.held_out.coverage:.0%}",
        ]
        for table in tables
    ]
    output.print_table(
        [
            "platform",
            "timed",
            "s",
            "held out",
            "within 10 %",
            "mean error",
            "rank correlation",
            "in the 90 % interval",
        ],
        rows,
    )


@device_app.command("roofline")
def roofline(
    platform: Annotated[str, typer.Argument(help="Such as local/onnxruntime:precision=int8.")],
    networks: Annotated[
        list[str] | None, typer.Option("--network", help="What is placed under it; repeat.")
    ] = None,
    plot: Plot = None,
    seed: Seed = 0,
    json: As_json = False,
) -> None:
    """Measure peak arithmetic and bandwidth, and how near networks and layers come."""
    output.show_log(quiet=False)
    from featherweight.measuring.roofline import measure_roofline
    from featherweight.reporting.roofline import render_roofline

    check_plot(plot, example="roofline.html")
    found = measure_roofline(networks or list(_ROOFLINE_NETWORKS), on=platform, seed=seed)
    if json:
        output.print_json(found.model_dump(mode="json"))
    else:
        _print_roofline(found)
    write_plot(plot, lambda: render_roofline(found), say=not json)


def _print_roofline(found: Roofline) -> None:
    roof = found.roof
    bandwidths = f"{roof.cache_gb_per_s:.1f} GB/s from a cache, {roof.memory_gb_per_s:.1f} GB/s"
    output.print_lines(
        [f"{found.platform}: {roof.gflop_per_s:.1f} GFLOP/s, {bandwidths} from memory"]
    )
    slowest = sorted(found.layers, key=lambda one: -one.ms)[:_ROOFLINE_LAYERS]
    rows = [
        [
            one.network,
            one.layer or "(whole)",
            f"{one.ms:.4f}",
            f"{one.flops / 1e6:.1f}",
            f"{one.intensity:.1f}",
            f"{one.gflop_per_s:.1f}",
            f"{one.share:.0%}",
        ]
        for one in [*found.networks, *slowest]
    ]
    output.print_table(
        ["network", "layer", "ms", "MFLOPs", "FLOPs per byte", "GFLOP/s", "of the roof"], rows
    )
