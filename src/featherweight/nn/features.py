"""Feature maps at every resolution of a network: the backbone of a detector or a segmenter."""

from __future__ import annotations

from torch import Tensor, nn

from featherweight.architecture import Architecture
from featherweight.errors import UnsupportedError
from featherweight.layers import layers
from featherweight.nn.network import Network

__all__ = ["FeatureMaps"]


class FeatureMaps(nn.Module):
    """The last map of every size, largest first; pooling and classifier are not run.

    Args:
        network: where the weights come from (shared, not copied).

    Attributes:
        channels: of the maps.
        reductions: side of the input over side of the map, rounded: 2, 4, 8, 16, 32.

    Raises:
        UnsupportedError: the network was imported.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        if not network.architecture.blocks:
            raise UnsupportedError(
                f"{network.architecture.name} is imported: where its maps end is not known",
                allowed="networks of the zoo",
                hint="network.forward_layers(images, names) returns the layers you name",
            )
        self.network = network
        self._names, shapes = _last_of_each_size(network.architecture)
        side = network.architecture.resolution
        self.channels = tuple(shape[0] for shape in shapes)
        self.reductions = tuple(round(side / shape[1]) for shape in shapes)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return maps (N, C, H, W) of normalised images (N, C, H, W)."""
        return self.network.forward_layers(images, self._names)


def _last_of_each_size(architecture: Architecture) -> tuple[list[str], list[tuple[int, ...]]]:
    ends = {
        layer.name.split(".")[1]: layer
        for layer in layers(architecture)
        if layer.name.startswith("blocks.")
    }
    last = {layer.output_shape[1:]: layer for layer in ends.values()}
    return [layer.name for layer in last.values()], [layer.output_shape for layer in last.values()]
