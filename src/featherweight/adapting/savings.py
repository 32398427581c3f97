"""What thinner blocks save on a platform, measured block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featherweight.adapting.shrink import DROPPED, hidden_widths, is_droppable
from featherweight.architecture import Architecture, BlockSpec, make_divisible
from featherweight.layers import layers

__all__ = ["Savings", "hidden_options", "measure_savings"]

Savings = dict[int, dict[int, float]]
"""Position of a block -> hidden width -> milliseconds saved; 0 at the present width."""

_SHARES = (0.75, 0.5, 0.25)
"""Of a hidden width."""
_CHANNEL_STEP = 8


def hidden_options(architecture: Architecture) -> dict[int, tuple[int, ...]]:
    """Return the widths considered for every block that can be made thinner, widest first."""
    options = {}
    for position, width in hidden_widths(architecture).items():
        thinner = [make_divisible(share * width, _CHANNEL_STEP) for share in _SHARES]
        dropped = [DROPPED] if is_droppable(architecture, position) else []
        options[position] = tuple(dict.fromkeys([width, *thinner, *dropped]))
    return options


def measure_savings(
    architecture: Architecture, *, time: Callable[[Sequence[Architecture]], Sequence[float]]
) -> Savings:
    """Return what every option of `hidden_options` saves.

    Each block is timed alone, where a saving is a large part of the whole: in a network of the
    block at its present width (if it can be dropped) and the block at the width in question. What
    surrounds it is the same in every such network, and falls out of the difference.

    Args:
        architecture: the parent, at its resolution.
        time: networks -> medians in ms; interleaved, of files as they would ship.
    """
    wanted: dict[tuple[int, int], Architecture] = {
        (position, width): _alone(architecture, position, width)
        for position, widths in hidden_options(architecture).items()
        for width in widths
    }
    distinct = {one.digest: one for one in wanted.values()}
    medians = dict(zip(distinct, time(list(distinct.values())), strict=True))
    savings: Savings = {}
    for (position, width), network in wanted.items():
        present = wanted[position, hidden_widths(architecture)[position]]
        saved = medians[present.digest] - medians[network.digest]
        savings.setdefault(position, {})[width] = max(0.0, saved)
    return savings


def _alone(architecture: Architecture, position: int, width: int) -> Architecture:
    """Return the block, behind itself where it could be dropped, as a network of its own.

    A file takes pictures of three channels: a 1x1 convolution makes the block's input of them.
    """
    present = architecture.blocks[position]
    channels, height, width_px = _input_shape(architecture, position)
    blocks = [BlockSpec(op="conv", out_channels=channels, kernel_size=1)]
    if is_droppable(architecture, position):
        blocks.append(present)
    if width != DROPPED:
        blocks.append(present.model_copy(update={"hidden_channels": width}))
    return architecture.changed(
        name=f"block-{position}-{width}",
        input_shape=(3, height, width_px),
        blocks=tuple(blocks),
        head_channels=(),
        num_classes=2,
    )


def _input_shape(architecture: Architecture, position: int) -> tuple[int, int, int]:
    """Return (C, H, W) of what enters a block."""
    prefix = f"blocks.{position}."
    first = next(layer for layer in layers(architecture) if layer.name.startswith(prefix))
    channels, height, width = first.input_shape
    return channels, height, width
