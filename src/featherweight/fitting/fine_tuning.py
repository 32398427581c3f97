"""What a fit changes of the recipe where it fine-tunes on photographs."""

from __future__ import annotations

from featherweight.architecture import Architecture
from featherweight.fitting.families import Family
from featherweight.training.recipe import SMALL_RESOLUTION, Recipe

__all__ = ["LEAST_UNFROZEN_S", "early_blocks", "suited"]

LEAST_UNFROZEN_S = 600.0
"""A shorter training keeps its early blocks as they are (docs/adr/0017-early-blocks-stay.md)."""
_EARLY_STRIDE = 8
"""Of the input to the maps of an early block."""
_MOST_SHARE = 1 / 3
"""Of all blocks."""


def suited(recipe: Recipe, family: Family, *, value: float) -> Recipe:
    """Return the recipe with several sizes and, in a short training, with frozen early blocks.

    Args:
        recipe: of any training.
        family: what is trained.
        value: of its knob.
    """
    changes: dict[str, object] = {"resolution_scales": family.seen_scales}
    architecture = family.build(value)
    is_short = recipe.time_s is not None and recipe.time_s < LEAST_UNFROZEN_S
    if is_short and recipe.keep_norm_statistics and architecture.resolution >= SMALL_RESOLUTION:
        changes["frozen_blocks"] = early_blocks(architecture)
    return recipe.model_copy(update=changes)


def early_blocks(architecture: Architecture) -> int:
    """Return how many blocks come before the maps are a sixteenth of the input; a third at most.

    Half of the time of a training step, and few of the weights: of EfficientNet-Lite0 at 104 pixels
    six blocks of 18, 62 % of all activations and 1.5 % of the parameters.
    """
    stride, count = 1, 0
    for block in architecture.blocks:
        stride *= block.stride
        if stride > _EARLY_STRIDE:
            break
        count += 1
    return min(count, int(_MOST_SHARE * len(architecture.blocks)))
