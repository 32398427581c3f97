"""The optimizer: no weight decay on norms and biases, a slower backbone, state by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featherweight.errors import FailedError
from featherweight.training.recipe import Recipe

__all__ = ["create_optimizer", "optimizer_tensors", "restore_optimizer", "set_learning_rate"]

_CLASSIFIER = "classifier."


def create_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over four groups: backbone and classifier, with decay and not.

    Norms and biases are the parameters of fewer than two axes.
    """
    groups = [
        {
            "params": [
                parameter
                for name, parameter in network.named_parameters()
                if name.startswith(_CLASSIFIER) == classifier and (parameter.ndim > 1) == decayed
            ],
            "weight_decay": recipe.weight_decay if decayed else 0.0,
            "scale": 1.0 if classifier else recipe.backbone_learning_rate_scale,
        }
        for classifier in (False, True)
        for decayed in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=fused
        )
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


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
