"""Blocks of the literature, each lowered to primitive layers by one function."""

from featherweight.operators import (
    convolution,
    ghost,
    inverted_residual,
    residual,
    separable,
    shuffle_v1,
    shuffle_v2,
    universal_inverted_bottleneck,
)

__all__ = [
    "convolution",
    "ghost",
    "inverted_residual",
    "residual",
    "separable",
    "shuffle_v1",
    "shuffle_v2",
    "universal_inverted_bottleneck",
]
