"""The optimizer: no weight decay on norms and biases, a slower backbone, state by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featherweight.errors import FailedError
from featherweight.training.muon import Muon, takes_muon
from featherweight.training.recipe import Recipe

__all__ = ["create_optimizer", "optimizer_tensors", "restore_optimizer", "set_learning_rate"]

_CLASSIFIER = "classifier."
_ORTHOGONAL = "orthogonal"


def create_optimizer(
    network: nn.Module, recipe: Recipe, *, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; norms and biases, of fewer than two axes, do not decay.

    Groups of their own, where the learning rate differs: the classifier, the backbone's weights,
    its norm scales and its norm biases, and, with Muon, the convolutions that it takes.

    Args:
        network: what learns.
        recipe: which optimizer, and its rates.
        dtype: in which Muon multiplies; weights and momenta stay as they are.
    """
    orthogonal = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if recipe.optimizer == "muon" and takes_muon(module)
    }
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        kind = (_ORTHOGONAL, False) if name in orthogonal else _kind(name, parameter)
        members.setdefault(kind, []).append(parameter)
    scales = _learning_rate_scales(recipe)
    groups = [
        {
            "params": members[part, decayed],
            "weight_decay": recipe.weight_decay if decayed else 0.0,
            "scale": scales[part],
            "orthogonal": part == _ORTHOGONAL,
        }
        for part, decayed in sorted(members)
    ]
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=fused
        )
    if recipe.optimizer == "muon":
        return Muon(groups, lr=recipe.learning_rate, dtype=dtype)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def _kind(name: str, parameter: nn.Parameter) -> tuple[str, bool]:
    """Return the part of the network that a parameter belongs to, and whether it decays."""
    decayed = parameter.ndim > 1
    if name.startswith(_CLASSIFIER) or _is_detectors_own(name):
        return "classifier", decayed
    return "norm biases" if name.endswith("norm.bias") else "backbone", decayed


def _is_detectors_own(name: str) -> bool:
    """Whether a weight is what a detector adds to its backbone."""
    return name.startswith(("dense.", "boxes.")) and not name.startswith("dense.blocks.")


def _learning_rate_scales(recipe: Recipe) -> dict[str, float]:
    backbone = recipe.backbone_learning_rate_scale
    return {
        "backbone": backbone,
        "norm biases": backbone * recipe.norm_bias_learning_rate_scale,
        "classifier": 1.0,
        _ORTHOGONAL: backbone * recipe.muon_learning_rate_scale,
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the classifier's learning rate; the backbone's follows with its scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as `parameter name/key` -> tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned, in the memory format of the parameters.

    Raises:
        FailedError: the tensors belong to another network.
    """
    parameters = dict(network.named_parameters())
    for path, tensor in tensors.items():
        name, key = path.rsplit("/", 1)
        parameter = parameters.get(name)
        if parameter is None:
            raise FailedError(f"the checkpoint has optimizer state of {name!r}, an unknown weight")
        if tensor.shape == parameter.shape:
            optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(tensor).detach()
        else:  # the step counter, which fused optimizers keep beside the parameter
            optimizer.state[parameter][key] = tensor.to(parameter.device)
