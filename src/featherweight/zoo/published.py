"""What a paper or its authors' repository say about a network: printed, not measured here."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.records import Record

__all__ = ["Published", "find_published"]


class Published(Record):
    """One row of a published table, rounded as it is printed there.

    Attributes:
        width: width multiplier of the row.
        resolution: height and width of the input in pixels.
        params: parameters with 1000 classes; sources differ in whether norms count.
        macs: multiply-adds of one picture.
        top1: ImageNet top-1 accuracy in [0, 1].
        source: where it is printed.
    """

    width: float = 1.0
    resolution: int = 224
    params: int | None = None
    macs: int | None = None
    top1: float | None = None
    source: str


def find_published(rows: Sequence[Published], *, width: float, resolution: int) -> Published | None:
    """Return the first row of that width and resolution, `None` when nobody published one."""
    for row in rows:
        if row.width == width and row.resolution == resolution:
            return row
    return None
