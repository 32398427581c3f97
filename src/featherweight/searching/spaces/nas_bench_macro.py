"""NAS-Bench-Macro: eight layers of three kinds, every network trained three times on CIFAR-10.

Source: Su et al. 2021, arXiv 2103.11922, appendix, and the authors' table (xiusu/NAS-Bench-Macro):
stages of 2, 3 and 3 layers, each the identity, an inverted residual with kernel 3 and expansion 3,
or one with kernel 5 and expansion 6; params and FLOPs of all 6,561 keys agree.

Deviations and readings:
    - An identity that changes stride and width is a 1x1 convolution with a norm.
    - Within a stage, identities behind the first layer can stand anywhere: 3,969 networks differ.
    - Their FLOPs are what is called multiply-adds here.
"""

from __future__ import annotations

from dataclasses import dataclass

from featherweight.architecture import Architecture, BlockSpec
from featherweight.searching.space import SPACES, Choice, Point, SpaceSettings

__all__ = ["NasBenchMacro"]

_STAGES = (2, 3, 3)
_STEM, _HEAD = 32, 1280
_KINDS = ((3, 3), (5, 6))
"""Kernel and expansion of the options 1 and 2."""
_OPTIONS = ("identity", "mb3 k3", "mb6 k5")


@dataclass(frozen=True)
class NasBenchMacro:
    """The space; a point is the table's key, digit by digit."""

    settings: SpaceSettings
    name: str = "nas_bench_macro"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One a layer."""
        return tuple(
            Choice(f"{stage}.{layer}", _OPTIONS)
            for stage, count in enumerate(_STAGES, 1)
            for layer in range(1, count + 1)
        )

    def decode(self, point: Point) -> Architecture:
        """Return the network of a point."""
        channels = _STEM
        blocks = [BlockSpec(op="conv", out_channels=channels, activation="relu")]
        options = iter(point)
        for count in _STAGES:
            for layer in range(count):
                width, stride = (2 * channels, 2) if layer == 0 else (channels, 1)
                option = next(options)
                if option:
                    kernel_size, expansion = _KINDS[option - 1]
                    blocks.append(
                        BlockSpec(
                            op="inverted_residual",
                            out_channels=width,
                            kernel_size=kernel_size,
                            stride=stride,
                            hidden_channels=expansion * channels,
                            activation="relu",
                            skip="none" if layer == 0 else "identity",
                        )
                    )
                elif layer == 0:
                    blocks.append(
                        BlockSpec(op="conv", out_channels=width, kernel_size=1, stride=stride)
                    )
                channels = width
        blocks.append(BlockSpec(op="conv", out_channels=_HEAD, kernel_size=1, activation="relu"))
        return Architecture(
            name=f"{self.name}/{''.join(map(str, point))}",
            input_shape=self.settings.input_shape,
            blocks=tuple(blocks),
            num_classes=self.settings.num_classes,
        )

    def key(self, point: Point) -> str:
        """Return the key with the identities of every stage behind its other layers."""
        digits, first = "", 0
        for count in _STAGES:
            begin, *rest = point[first : first + count]
            kept = [option for option in rest if option]
            digits += "".join(map(str, (begin, *kept, *([0] * (len(rest) - len(kept))))))
            first += count
        return digits

    def places(self, point: Point) -> tuple[str, ...]:
        """Return the layer of every block; an identity within a stage is none."""
        names = [
            choice.name
            for option, choice in zip(point, self.choices, strict=True)
            if option or choice.name.endswith(".1")
        ]
        return ("stem", *names, "head")


SPACES.add("nas_bench_macro", NasBenchMacro)
