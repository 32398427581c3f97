"""A trained network with ghost modules in the place of convolutions, with their first weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.adapting.changes import narrow
from featherweight.adapting.ghost import GhostForm, activation_of, ghosted, narrows
from featherweight.adapting.ghost_fit import CheapFit, fit_cheap
from featherweight.adapting.groups import width_groups
from featherweight.architecture import Architecture
from featherweight.layers import layers
from featherweight.networks.channels import channels_of
from featherweight.networks.graphs import as_graph
from featherweight.networks.slicing import slice_network
from featherweight.nn.network import Network

__all__ = ["ghost_network"]


def ghost_network(
    network: Network,
    names: Iterable[str],
    form: GhostForm,
    pictures: Tensor,
    *,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    seed: int = 0,
) -> tuple[Network, dict[str, float]]:
    """Return a trained network with some convolutions as ghost modules, in eval mode.

    In the form `ghost` the cheap filters are least-squares fits of the channels that are not
    computed any more (`adapting.ghost_fit`). In the form `rep` the most important channels stay,
    the filters begin as what changes nothing, and the readers' weights are fitted again
    (`adapting.repair`).

    Args:
        network: it stays as it is.
        names: of `ghost_layers`.
        form: of the modules.
        pictures: normalised (N, C, H, W).
        importance: of channels, for `rep`; the L2 norm of filters ranks those it does not name.
        seed: of the positions that are looked at.

    Returns:
        the network; and for each module of the form `ghost` the share of the variance of the
        channels that its filters give.

    Raises:
        UsageError: a layer that can be none.
    """
    names = tuple(names)
    target = ghosted(network.architecture, names, form)
    drawn = _as_graph_network(network)
    if form.form == "rep":
        wanted = narrows(drawn.architecture, names, form)
        drawn = narrow(drawn, wanted, importance=importance, repaired_by=pictures).network
        fits: dict[str, CheapFit] = {}
    else:
        drawn, fits = _fits(drawn, names, form, pictures, seed=seed)
    state = dict(drawn.state_dict())
    with torch.device("meta"):
        result = Network(target)
    shapes = {key: tensor.shape for key, tensor in result.state_dict().items()}
    for name in names:
        module = drawn.get_submodule(name)
        last = name if f"{name}_cheap.conv.weight" not in shapes else f"{name}_cheap"
        kept = shapes[f"{name}_primary.conv.weight"][0]
        for key, tensor in module.state_dict().items():
            state.pop(f"{name}.{key}")
            state[f"{name}_primary.{key}"] = tensor[:kept].clone() if tensor.dim() else tensor
        cheap = (
            _cheap_weights(fits[name], result, last)
            if name in fits
            else _unchanged(drawn, name, pictures, result, last)
        )
        state.update(cheap)
    result.load_state_dict({key: state[key] for key in shapes}, assign=True)
    return result.eval(), {name: fit.explained for name, fit in fits.items()}


def _as_graph_network(network: Network) -> Network:
    with torch.device("meta"):
        drawn = Network(as_graph(network.architecture))
    drawn.load_state_dict(network.state_dict(), assign=True)
    return drawn.eval()


def _fits(
    network: Network, names: Sequence[str], form: GhostForm, pictures: Tensor, *, seed: int
) -> tuple[Network, dict[str, CheapFit]]:
    """Fit the filters of every module, and give channels the order of the modules'."""
    own = _own_widths(network.architecture)
    fits: dict[str, CheapFit] = {}
    orders: dict[str, NDArray[np.int64]] = {}
    listed = {layer.name: layer for layer in layers(network.architecture)}
    for name in names:
        with torch.no_grad():
            (maps,) = network.forward_layers(pictures, [name])
            act = activation_of(network.architecture.primitives, listed[name])
            fits[name] = fit_cheap(
                maps,
                network.get_submodule(act) if act else _identity,
                ratio=form.ratio,
                kernel_size=form.kernel_size,
                may_reorder=name in own,
                seed=seed,
            )
        if name in own:
            orders[name] = fits[name].order
    return _reordered(network, orders), fits


def _identity(x: Tensor) -> Tensor:
    return x


def _reordered(network: Network, orders: Mapping[str, NDArray[np.int64]]) -> Network:
    """Return the same network with the channels of some layers in another order."""
    numbers = channels_of(network.architecture).numbers
    place = {
        number: numbers[name][source]
        for name, order in orders.items()
        for number, source in zip(numbers[name], order.tolist(), strict=True)
    }
    kept = {}
    for name, given in numbers.items():
        where: dict[int, list[int]] = {}
        for position, number in enumerate(given):
            where.setdefault(number, []).append(position)
        following = {number: iter(found) for number, found in where.items()}
        kept[name] = np.array(
            [next(following[place.get(number, number)]) for number in given], dtype=np.int64
        )
    return slice_network(network, network.architecture, kept=kept)


def _cheap_weights(fit: CheapFit, result: Network, name: str) -> dict[str, Tensor]:
    """Return the weights of a depthwise convolution and its norm that give a fit in eval mode."""
    return _depthwise(name, result, fit.filters, fit.bias + fit.mean, fit.mean, fit.variance)


def _unchanged(
    network: Network, layer: str, pictures: Tensor, result: Network, name: str
) -> dict[str, Tensor]:
    """Return the weights of a depthwise convolution that gives what it reads."""
    with torch.no_grad():
        (maps,) = network.forward_layers(pictures, [layer])
    side = result.get_submodule(name).get_submodule("conv").get_parameter("weight").shape[-1]
    filters = torch.zeros(maps.shape[1], side, side)
    filters[:, side // 2, side // 2] = 1.0
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)
    return _depthwise(name, result, filters, mean, mean, variance.clamp_min(1e-8))


def _depthwise(
    name: str, result: Network, filters: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> dict[str, Tensor]:
    norm: Any = result.get_submodule(name).get_submodule("norm")
    return {
        f"{name}.conv.weight": filters[:, None],
        f"{name}.norm.weight": torch.sqrt(variance + norm.eps),
        f"{name}.norm.bias": bias,
        f"{name}.norm.running_mean": mean.clone(),  # what trains shares no memory
        f"{name}.norm.running_var": variance,
        f"{name}.norm.num_batches_tracked": torch.tensor(0),
    }


def _own_widths(network: Architecture) -> dict[str, int]:
    """Return the layers that alone write their channels, with their widths.

    Those of which a convolution in groups reads some here and some there keep their places.
    """
    found = {}
    for group in width_groups(network, step=1):
        (first, *others) = group.layers
        if not others and group.copies == 1 and group.step == 1:
            found[first] = group.channels
    return found
