"""The torch module of a classifier or a detector, whichever is described."""

from __future__ import annotations

from torch import nn

from featherweight.detection.detector import Detector
from featherweight.detection.network import DetectorNetwork, build_detector
from featherweight.errors import UsageError
from featherweight.networks.kinds import AnyArchitecture
from featherweight.networks.slicing import norms_of
from featherweight.nn.network import Network, build_network, resized

__all__ = ["AnyNetwork", "as_classifier", "at_size", "backbone_norms", "drawn_module", "module_of"]

AnyNetwork = Network | DetectorNetwork


def as_classifier(network: AnyNetwork) -> Network:
    """Return a classifier as what it is.

    Raises:
        UsageError: it is a detector.
    """
    if not isinstance(network, Network):
        raise UsageError(f"{network.architecture.name} is a detector", allowed="a classifier")
    return network


def backbone_norms(network: AnyNetwork) -> list[nn.BatchNorm2d]:
    """Return the norms whose statistics may come with weights: of a detector its backbone's."""
    whole = isinstance(network, Network)
    return norms_of(network if whole else network.get_submodule("dense.blocks"))


def drawn_module(architecture: AnyArchitecture, *, seed: int) -> AnyNetwork:
    """Return the module with freshly drawn weights; see `build_network` and `build_detector`."""
    if isinstance(architecture, Detector):
        return build_detector(architecture, seed=seed)
    return build_network(architecture, seed=seed)


def at_size(network: AnyNetwork, resolution: int) -> AnyNetwork:
    """Return the same weights in a network for another input size, in eval mode."""
    if isinstance(network, Network):
        return resized(network, resolution)
    other = DetectorNetwork(network.architecture.at_resolution(resolution))
    other.load_state_dict(network.state_dict())
    return other.eval()


def module_of(architecture: AnyArchitecture) -> AnyNetwork:
    """Return the module with whatever weights torch draws."""
    if isinstance(architecture, Detector):
        return DetectorNetwork(architecture)
    return Network(architecture)
