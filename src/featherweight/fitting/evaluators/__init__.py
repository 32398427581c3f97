"""Ways to judge the networks of a search."""

from featherweight.fitting.evaluators import independent, inherited, super_network

__all__ = ["independent", "inherited", "super_network"]
