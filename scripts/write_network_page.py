"""Write docs/networks.md: what papers print about every network, beside what is counted here.

    python scripts/write_network_page.py

A test compares the page with what this writes.
"""

from __future__ import annotations

from pathlib import Path

from featherweight.profiling.profile import profile
from featherweight.zoo.model import MODELS, published_variants
from featherweight.zoo.published import Published

PAGE = Path(__file__).parent.parent / "docs" / "networks.md"

_INTRODUCTION = (
    "# Networks: the papers and our counts\n\n"
    "Written by `scripts/write_network_page.py`; a test compares. Params include the affine values "
    "of norms; MACs are multiply-adds of convolutions and linear layers ([profile](profile.md)); "
    "1000 classes. Papers round, truncate or leave the norms out; where a figure is not "
    "reproduced, the docstring of the network's file in `src/featherweight/zoo/` says why.\n"
)


def network_page() -> str:
    """Return the page: one section per family, one row per published or default variant."""
    families: dict[str, list[str]] = {}
    for name in MODELS:
        families.setdefault(MODELS[name].family, []).append(name)
    sections = [_section(family, names) for family, names in sorted(families.items())]
    return "\n".join([_INTRODUCTION, *sections])


def _section(family: str, names: list[str]) -> str:
    rows = [_row(text, name, row) for name in names for text, row in published_variants(name)]
    head = (
        "| network | params | printed | MACs | printed | top-1 printed | source |\n"
        "|---|---|---|---|---|---|---|"
    )
    return "\n".join([f"## {family}\n", head, *rows, ""])


def _row(text: str, name: str, row: Published) -> str:
    counted = profile(MODELS[name].build(width=row.width, resolution=row.resolution))
    cells = [
        f"`{text}`",
        f"{counted.params:,}",
        _millions(row.params),
        f"{counted.macs:,}",
        _millions(row.macs),
        "-" if row.top1 is None else f"{100 * row.top1:.1f} %",
        row.source or "-",
    ]
    return f"| {' | '.join(cells)} |"


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:g}M"


def main() -> None:
    """Write the page."""
    PAGE.write_text(network_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
