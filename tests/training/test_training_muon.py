"""Muon: what it takes, and what one step does to it."""

from __future__ import annotations

import pytest
import torch

from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import build_network
from featherweight.training.muon import Muon, orthogonalised, takes_muon
from featherweight.training.optimizer import create_optimizer, set_learning_rate
from featherweight.training.recipe import Recipe


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (40, 4, 1, 1), (16, 16)])
def test_singular_values_come_near_one(shape):
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(direction)
    assert found.shape == direction.shape
    before = torch.linalg.svd(direction.reshape(len(direction), -1), full_matrices=False)
    kept = before.U.T @ found.reshape(len(found), -1) @ before.Vh.T
    values = kept.diagonal()
    torch.testing.assert_close(kept, torch.diag(values), atol=1e-4, rtol=0.0)  # same directions
    # Three iterations leave the smallest values low; none is above 1.2, most are near one.
    assert values.min() > 0.0
    assert values.max() < 1.25
    assert values.median() > 0.6


def test_a_step_changes_a_convolution_by_the_learning_rate_and_keeps_its_norm():
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(7.0 * torch.randn(16, 8, 3, 3, generator=generator))
    weight.grad = 1e-6 * torch.randn(16, 8, 3, 3, generator=generator)
    start = 4.0 * weight.detach() / weight.detach().norm()
    group = {"params": [weight], "weight_decay": 0.0, "orthogonal": True}
    Muon([group], lr=0.01).step()
    change = (weight.detach() - start).norm().item()
    assert change == pytest.approx(0.01 * 4.0, rel=0.25)  # whatever the gradient's size is


def test_other_weights_move_as_with_nesterov_sgd():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(5, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.05)
    sgd = torch.optim.SGD([theirs], lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    for _ in range(3):
        ours.grad = torch.randn(5, generator=generator)
        theirs.grad = ours.grad.clone()
        muon.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs)


def test_it_takes_dense_convolutions_with_a_norm_behind_them_only():
    architecture = create_architecture("mobilenet_v3_small", resolution=32, classes=4)
    network = build_network(architecture, seed=0)
    optimizer = create_optimizer(network, Recipe(epochs=1, optimizer="muon"))
    set_learning_rate(optimizer, 0.5)
    names = {parameter: name for name, parameter in network.named_parameters()}
    taken = {
        names[parameter]: group
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["orthogonal"]
    }
    for name, group in taken.items():
        module = network.get_submodule(name.removesuffix(".weight"))
        assert isinstance(module, torch.nn.Conv2d)
        assert module.groups == 1
        assert module.bias is None
        assert (group["lr"], group["weight_decay"]) == (pytest.approx(0.1), 0.0)
    kinds = {type(module).__name__ for module in network.modules() if takes_muon(module)}
    assert kinds == {"Conv2d"}
    groups = [len(group["params"]) for group in optimizer.param_groups]
    assert sum(groups) == len(names)
    assert 0 < len(taken) < len(names)
