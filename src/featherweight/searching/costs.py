"""Params and multiply-adds of drawn networks, fast: every block is counted once."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from featherweight.architecture import Architecture, BlockSpec
from featherweight.profiling.profile import profile

__all__ = ["Costs", "costs"]


class Costs(NamedTuple):
    """What a network takes: trainable params, multiply-adds, and its number of blocks."""

    params: int
    macs: int
    depth: int


def costs(architecture: Architecture) -> Costs:
    """Return the counts of `profile`, of a network of blocks that are all known."""
    shape, params, macs = architecture.input_shape, 0, 0
    for block in architecture.blocks:
        shape, block_params, block_macs = _of_block(
            block, shape, architecture.norm_eps, architecture.padding
        )
        params, macs = params + block_params, macs + block_macs
    channels = shape[0]
    for width in architecture.head_channels:
        params += channels * width + (2 * width if architecture.head_norm else width)
        macs, channels = macs + channels * width, width
    if architecture.num_classes:
        params += (channels + 1) * architecture.num_classes
        macs += channels * architecture.num_classes
    return Costs(params, macs, len(architecture.blocks))


@lru_cache(maxsize=65536)
def _of_block(
    block: BlockSpec, shape: tuple[int, int, int], norm_eps: float, padding: str
) -> tuple[tuple[int, int, int], int, int]:
    """Return the output shape, params and multiply-adds of a block on a map."""
    alone = Architecture.model_validate(
        {
            "name": "block",
            "input_shape": shape,
            "blocks": (block,),
            "num_classes": 0,
            "norm_eps": norm_eps,
            "padding": padding,
        }
    )
    found = profile(alone)
    assert found.macs is not None
    assert found.params is not None
    *_, last = (layer.output_shape for layer in found.layers if layer.op != "global_pool")
    assert last is not None
    return (last[0], last[1], last[2]), found.params, found.macs
