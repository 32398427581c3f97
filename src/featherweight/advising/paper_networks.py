"""The networks of ShuffleNetV2's four experiments, with what the paper measured of them.

Source: arXiv 1807.11164, section 2, tables 1 to 4, the columns of the ARM processor (Snapdragon
810, one thread, maps of 56 x 56). What the paper leaves open is chosen here: parallel convolutions
are added up; a bottleneck of c channels has c / 4 inside, the only reading by which its speed is
possible beside those of the other tables; eight groups of 180 channels have 184 (its authors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from featherweight.architecture import Architecture, Primitive
from featherweight.layers import INPUT

__all__ = ["MULTIPLES", "Chain", "PaperNetwork", "paper_networks", "repeated"]

MULTIPLES = (1, 2, 4)
"""Of the widths: each table has its networks in three sizes."""
_SIDE, _BLOCKS = 56, 10

_Speeds = tuple[float, float, float]
"""Pictures a second at the three sizes."""
_Row = tuple[Callable[[int], Architecture], _Speeds]
"""Multiple of the widths -> network; what the paper measured."""


class PaperNetwork(NamedTuple):
    """One network of a table.

    Attributes:
        guideline: `G1` to `G4`.
        setting: its row in the table; the first row of each follows the guideline.
        multiple: of the widths.
        architecture: with a 1x1 convolution before the blocks, pooling and two classes after.
        published: pictures a second that the paper measured.
    """

    guideline: str
    setting: str
    multiple: int
    architecture: Architecture
    published: float


_G1 = {
    "1:1": ((32, 32), (76.2, 21.7, 5.3)),
    "1:2": ((22, 44), (72.9, 20.5, 5.1)),
    "1:6": ((13, 78), (69.1, 17.9, 4.6)),
    "1:12": ((9, 108), (57.6, 15.1, 4.4)),
}
_G2 = {
    1: (64, (40.0, 10.2, 2.3)),
    2: (90, (35.0, 9.5, 2.2)),
    4: (128, (32.9, 8.7, 2.1)),
    8: (184, (27.8, 7.5, 1.8)),
}
_G3 = {
    "1 fragment": (64, 1, 1, (40.2, 10.1, 2.3)),
    "2 in series": (45, 2, 1, (38.6, 10.1, 2.2)),
    "4 in series": (32, 4, 1, (38.4, 10.1, 2.3)),
    "2 in parallel": (45, 1, 2, (33.4, 9.1, 2.2)),
    "4 in parallel": (32, 1, 4, (35.0, 8.4, 2.1)),
}
"""Channels, convolutions after one another, and beside one another, of a block."""
_G4 = {
    "without ReLU and shortcut": (False, False, (66.3, 20.2, 5.4)),
    "without ReLU": (False, True, (57.3, 18.2, 5.1)),
    "without shortcut": (True, False, (61.9, 18.8, 5.2)),
    "ReLU and shortcut": (True, True, (56.7, 16.9, 5.0)),
}
_G4_CHANNELS = 32


def paper_networks() -> tuple[PaperNetwork, ...]:
    """Return all 51 networks, table by table, size by size; the first of each size is the base."""
    tables: dict[str, Mapping[str, _Row]] = {
        "G1": {name: _unequal(*row) for name, row in _G1.items()},
        "G2": {f"g = {groups}": _grouped(groups, *row) for groups, row in _G2.items()},
        "G3": {name: _fragmented(*row) for name, row in _G3.items()},
        "G4": {name: _elementwise(*row) for name, row in _G4.items()},
    }
    return tuple(
        PaperNetwork(guideline, setting, multiple, drawn(multiple), speeds[place])
        for guideline, rows in tables.items()
        for place, multiple in enumerate(MULTIPLES)
        for setting, (drawn, speeds) in rows.items()
    )


def _unequal(widths: tuple[int, int], speeds: _Speeds) -> _Row:
    def drawn(multiple: int) -> Architecture:
        narrow, wide = (multiple * width for width in widths)
        return repeated(narrow, lambda one: one.conv(wide).relu().conv(narrow).relu())

    return drawn, speeds


def _grouped(groups: int, width: int, speeds: _Speeds) -> _Row:
    def drawn(multiple: int) -> Architecture:
        c = multiple * width
        return repeated(c, lambda one: one.conv(c, groups=groups).relu())

    return drawn, speeds


def _fragmented(width: int, series: int, parallel: int, speeds: _Speeds) -> _Row:
    def drawn(multiple: int) -> Architecture:
        c = multiple * width

        def block(one: Chain) -> None:
            if parallel > 1:
                one.parallel(c, count=parallel)
            else:
                for _ in range(series):
                    one.conv(c).relu()

        return repeated(c, block)

    return drawn, speeds


def _elementwise(relu: bool, add: bool, speeds: _Speeds) -> _Row:  # noqa: FBT001 - of a table
    def drawn(multiple: int) -> Architecture:
        c = multiple * _G4_CHANNELS
        return repeated(c, lambda one: one.bottleneck(c, relu=relu, add=add))

    return drawn, speeds


class Chain:
    """Layers one after the other, each reading the one before."""

    def __init__(self) -> None:
        self.primitives: list[Primitive] = []
        self.last = INPUT

    def put(self, op: str, **fields: object) -> Chain:
        """Append a primitive; it reads the one before unless it is told otherwise."""
        name = f"{op}{len(self.primitives)}"
        given = {"inputs": (self.last,), **fields}
        self.primitives.append(Primitive.model_validate({"name": name, "op": op, **given}))
        self.last = name
        return self

    def conv(self, channels: int, *, kernel_size: int = 1, groups: int = 1) -> Chain:
        """Append a convolution with a norm."""
        half = kernel_size // 2
        return self.put(
            "conv",
            out_channels=channels,
            kernel_size=kernel_size,
            groups=groups,
            padding=(half, half, half, half),
            norm_eps=1e-5,
        )

    def relu(self) -> Chain:
        """Append a ReLU."""
        return self.put("activation", function="relu")

    def parallel(self, channels: int, *, count: int) -> Chain:
        """Append 1x1 convolutions beside one another, whose outputs are added up."""
        start, ends = self.last, []
        for _ in range(count):
            self.last = start
            ends.append(self.conv(channels).relu().last)
        total = ends[0]
        for end in ends[1:]:
            total = self.put("add", inputs=(total, end)).last
        return self

    def bottleneck(self, channels: int, *, relu: bool, add: bool) -> Chain:
        """Append 1x1, 3x3 and 1x1 convolutions with a quarter of the channels inside."""
        start, inner = self.last, channels // 4
        for width, kernel_size in ((inner, 1), (inner, 3)):
            self.conv(width, kernel_size=kernel_size)
            if relu:
                self.relu()
        self.conv(channels)
        if add:
            self.put("add", inputs=(self.last, start))
        return self.relu() if relu else self


def repeated(channels: int, block: Callable[[Chain], object]) -> Architecture:
    """Return ten equal blocks, behind a 1x1 convolution that makes their channels."""
    chain = Chain().conv(channels)
    for _ in range(_BLOCKS):
        block(chain)
    chain.put("global_pool").put("linear", out_channels=2, bias=True)
    return Architecture(
        name="experiment",
        input_shape=(3, _SIDE, _SIDE),
        primitives=tuple(chain.primitives),
        num_classes=2,
    )
