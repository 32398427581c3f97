"""Blocks of the literature, each lowered to primitive layers by one function."""

from featherweight.operators import convolution, inverted_residual, residual, separable

__all__ = ["convolution", "inverted_residual", "residual", "separable"]
