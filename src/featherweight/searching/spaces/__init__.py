"""The spaces that can be named; importing one registers it."""

from featherweight.searching.spaces import mnasnet, nas_bench_macro, small

__all__ = ["mnasnet", "nas_bench_macro", "small"]
