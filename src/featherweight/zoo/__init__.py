"""Networks of the literature: one paper one file, its table as data."""

from featherweight.zoo import (
    convnet,
    efficientnet_lite,
    ghostnet,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_v4,
    resnet,
    shufflenet_v1,
    shufflenet_v2,
    snet,
    vgg,
)

__all__ = [
    "convnet",
    "efficientnet_lite",
    "ghostnet",
    "mnasnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "mobilenet_v4",
    "resnet",
    "shufflenet_v1",
    "shufflenet_v2",
    "snet",
    "vgg",
]
