"""A torch network from its text form: the Python entry `create_model`."""

from __future__ import annotations

from featherweight.networks.pretrained import load_pretrained
from featherweight.networks.resolve import resolve_architecture
from featherweight.nn.features import FeatureMaps
from featherweight.nn.network import Network, build_network

__all__ = ["create_features", "create_model"]


def create_model(network: str, *, pretrained: str = "none", seed: int = 0) -> Network:
    """Build a network, freshly drawn or with weights, in eval mode.

    Args:
        network: zoo name with settings (`mobilenet_v2:width=0.5,classes=10`), or the path of an
            architecture.json. `classes=0` leaves out the classifier: the output is (N, F).
        pretrained: `none`, `auto` (the installed ImageNet weights) or a weights file.
        seed: of drawn weights.

    Raises:
        UsageError: an unknown network or setting, or weights that do not fit.
        MissingDependencyError: `auto`, and the package of the weights is not installed.
    """
    architecture = resolve_architecture(network)
    if pretrained == "none":
        return build_network(architecture, seed=seed).eval()
    return load_pretrained(architecture, source=pretrained, seed=seed)


def create_features(network: str, *, pretrained: str = "none", seed: int = 0) -> FeatureMaps:
    """Build a network that returns its feature maps, one of each size (timm's `features_only`).

    Arguments and errors are those of `create_model`.
    """
    return FeatureMaps(create_model(network, pretrained=pretrained, seed=seed)).eval()
