"""What a detector is: a backbone, a head, and the classes that it tells apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from featherweight.architecture import Architecture
from featherweight.errors import ArchitectureError
from featherweight.records import Record

__all__ = ["Detector", "Head", "SsdLite", "ThunderNet", "backbone_of"]

_STRIDE = 32
"""Of the input to the last map: a detector takes pictures whose sides are multiples of it."""


class ThunderNet(Record):
    """A light two-stage head: context enhancement, a small proposal network, spatial attention.

    Source: Qin et al. 2019, arXiv 1903.11752, figures 2 to 5.

    Attributes:
        bins: side of the grid that a region is divided into.
        position_channels: channels of each of its bins (alpha).
        proposal_channels: width of the proposal network.
        features: width of the only fully connected layer.
        anchor_sizes: sides of the square anchors, in pixels.
        anchor_ratios: height over width.
        regions: proposals that reach the second stage when pictures are answered.
    """

    kind: Literal["thundernet"] = "thundernet"
    bins: int = Field(default=7, ge=1)
    position_channels: int = Field(default=5, ge=1)
    proposal_channels: int = Field(default=256, ge=1)
    features: int = Field(default=1024, ge=1)
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 4.0 / 3.0, 2.0)
    regions: int = Field(default=200, ge=1)

    @property
    def channels(self) -> int:
        """Channels of the map that regions are cut from."""
        return self.position_channels * self.bins**2

    @property
    def anchors(self) -> int:
        """Anchors of every cell."""
        return len(self.anchor_sizes) * len(self.anchor_ratios)


class SsdLite(Record):
    """A one-stage head: depthwise predictors on several maps.

    Source: Sandler et al. 2018, arXiv 1801.04381, section 6.2; maps and anchors as those of
    torchvision's ssdlite320_mobilenet_v3_large.

    Attributes:
        extra_channels: widths of the maps after the backbone, each half as large as the one before.
        least_scale, most_scale: sides of the anchors of the first and of the last map, as shares of
            the picture.
        ratios: width over height, and its inverse, beside the two squares.
        fine_anchors: width and height of further anchors for small objects, as shares of the
            picture.
        fine_channels: width of a further map with cells of 8 pixels, which then has the fine
            anchors; 0 = there is none, and the map with cells of 16 pixels has them. It is the sum
            of the backbone's map of this size and of the one above (feature pyramids, Lin et al.
            2017, arXiv 1612.03144).
    """

    kind: Literal["ssdlite"] = "ssdlite"
    extra_channels: tuple[int, ...] = (512, 256, 256, 128)
    least_scale: float = Field(default=0.2, gt=0.0, lt=1.0)
    most_scale: float = Field(default=0.95, gt=0.0, le=1.0)
    ratios: tuple[float, ...] = (2.0, 3.0)
    fine_anchors: tuple[tuple[float, float], ...] = ()
    fine_channels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fine(self) -> Self:
        if self.fine_channels and not self.fine_anchors:
            raise ValueError("a fine map needs fine anchors")
        return self

    @property
    def anchors(self) -> int:
        """Anchors of every cell, but for the fine ones."""
        return 2 + 2 * len(self.ratios)


Head = ThunderNet | SsdLite


class Detector(Record):
    """A network that answers boxes.

    Attributes:
        name: what people call it; not part of the digest.
        backbone: blocks alone, for the pictures that the detector takes.
        head: what makes boxes of its maps.
        num_classes: without the background.
    """

    kind: Literal["detector"] = "detector"
    name: str
    backbone: Architecture
    head: Head = Field(discriminator="kind")
    num_classes: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.backbone.blocks or self.backbone.num_classes or self.backbone.head_channels:
            raise ValueError("the backbone must be blocks alone (see backbone_of)")
        if any(side % _STRIDE for side in self.input_shape[1:]):
            raise ValueError(f"the sides of the input must be multiples of {_STRIDE}")
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.backbone.input_shape

    @property
    def resolution(self) -> int:
        """Height of the input."""
        return self.backbone.resolution

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted-key JSON without names and without neutral values."""
        plain = self.model_dump(
            mode="json", exclude={"name": True, "backbone": True}, exclude_defaults=True
        )
        plain |= {"kind": self.kind, "head_kind": self.head.kind, "backbone": self.backbone.digest}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def at_resolution(self, resolution: int) -> Detector:
        """Return the same detector for square pictures of another size."""
        return self.changed(backbone=self.backbone.at_resolution(resolution))

    def changed(self, **fields: Any) -> Detector:
        """Return a validated copy with some fields replaced."""
        return Detector.model_validate({**self.model_dump(), **fields})


def backbone_of(architecture: Architecture, *, keep_last: bool = True) -> Architecture:
    """Return the blocks of a classifier, without what makes classes of its last map.

    Args:
        architecture: of blocks.
        keep_last: whether a last 1x1 convolution stays, which widens the map for a classifier: in
            SNet49 it is part of the published detector, elsewhere it costs and adds little.

    Raises:
        ArchitectureError: an imported network, whose maps have no names.
    """
    if not architecture.blocks:
        raise ArchitectureError(
            f"{architecture.name} is no backbone: it was imported, and its maps are not known",
            allowed="a network of the zoo",
        )
    blocks = architecture.blocks
    last = blocks[-1]
    if not keep_last and (last.op, last.kernel_size, last.stride) == ("conv", 1, 1):
        blocks = blocks[:-1]
    return architecture.changed(
        blocks=blocks, head_channels=(), head_norm=False, num_classes=0, dropout=0.0
    )
