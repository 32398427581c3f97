"""Networks of the literature: one paper one file, its table as data."""

from featherweight.zoo import (
    convnet,
    efficientnet_lite,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
)

__all__ = [
    "convnet",
    "efficientnet_lite",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "resnet",
]
