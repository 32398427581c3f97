"""What a block adds to its output."""

from __future__ import annotations

from featherweight.architecture import BlockSpec
from featherweight.errors import ArchitectureError
from featherweight.layers import Builder, Value

__all__ = ["add_shortcut"]


def add_shortcut(builder: Builder, x: Value, y: Value, block: BlockSpec, name: str) -> Value:
    """Add the block's input `x` to its output `y` as `block.skip` says.

    `identity` needs equal shapes. `pad` takes every stride-th pixel and appends zero channels
    (ResNet, arXiv 1512.03385, option A). `pool` averages 3 x 3 windows with the block's stride
    and appends zero channels; unlike `pad` it sees every pixel (our choice).

    Raises:
        ArchitectureError: the shapes do not allow the skip.
    """
    if block.skip == "none":
        return y
    if block.skip == "identity":
        if x.shape != y.shape:
            raise ArchitectureError(
                f"{name}: skip 'identity' needs stride 1 and equal widths, not {x.shape} -> "
                f"{y.shape}",
                allowed="skip 'none', 'pool' or 'pad'",
            )
        return builder.add(x, y, f"{name}.add")
    shortcut = x
    if block.stride > 1 or block.skip == "pool":
        kernel_size = 1 if block.skip == "pad" else 3
        shortcut = builder.pool(
            x,
            f"{name}.shortcut.pool",
            function="average",
            kernel_size=kernel_size,
            stride=block.stride,
        )
    if shortcut.shape[0] > y.shape[0]:
        raise ArchitectureError(
            f"{name}: skip {block.skip!r} cannot narrow {shortcut.shape[0]} channels to "
            f"{y.shape[0]}"
        )
    if shortcut.shape[0] < y.shape[0]:
        shortcut = builder.pad_channels(shortcut, f"{name}.shortcut.pad", y.shape[0])
    return builder.add(shortcut, y, f"{name}.add")
