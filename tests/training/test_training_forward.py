"""The forward pass of a training: the same answers and gradients, with less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.networks.resolve import create_architecture
from featherweight.networks.slicing import norms_of
from featherweight.nn.network import Conv, Network, build_network
from featherweight.training.forward import answer


def drawn(name: str, *, seed: int = 0) -> Network:
    """Return a network whose norms have seen something, in training mode but for its norms."""
    network = build_network(
        create_architecture(name, resolution=32, classes=5, form="standard"), seed=seed
    )
    generator = torch.Generator().manual_seed(seed)
    for norm in norms_of(network):
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        for tensor in (norm.running_var, norm.weight.data):
            tensor.copy_(1.0 + torch.rand(tensor.shape, generator=generator))
    network.train()
    for norm in norms_of(network):
        norm.eval()
    network.get_submodule("classifier").eval()  # no dropout
    return network


def gradients(network: Network, logits: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    labels = torch.arange(len(logits)) % 5
    functional.cross_entropy(logits, labels).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small", "shufflenet_v2"])
def test_norms_that_stand_still_answer_and_learn_as_before(name: str) -> None:
    network = drawn(name)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain, folded = network(images), answer(network, images)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)
    expected, found = gradients(network, plain), gradients(network, folded)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        error = (found[key] - gradient).norm() / gradient.norm().clamp_min(1e-6)
        assert error < 1e-3, key


def test_norms_that_stand_still_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    own = nn.BatchNorm2d.forward
    monkeypatch.setattr(
        nn.BatchNorm2d, "forward", lambda self, x: (calls.append("norm"), own(self, x))[1]
    )
    network = drawn("efficientnet_lite0")
    answer(network, torch.zeros(2, 3, 32, 32))
    assert not calls
    norms = list(norms_of(network))
    norms[3].train()  # one that moves is left as it is
    answer(network, torch.zeros(2, 3, 32, 32))
    assert calls == ["norm"]


@pytest.mark.parametrize("learns", [True, False])
def test_depthwise_convolutions_learn_in_float32(
    learns: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[bool, torch.dtype]] = []
    own = Conv.forward_with

    def watched(self: Conv, x: Tensor, *weights: Any) -> Tensor:
        y = own(self, x, *weights)
        seen.append((self.conv.groups == self.conv.in_channels, y.dtype))
        return y

    monkeypatch.setattr(Conv, "forward_with", watched)
    network = drawn("efficientnet_lite0").requires_grad_(learns)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = answer(network, torch.randn(2, 3, 32, 32))
    assert logits.isfinite().all()
    expected = torch.float32 if learns else torch.bfloat16
    assert {dtype for depthwise, dtype in seen if depthwise} == {expected}
    assert {dtype for depthwise, dtype in seen if not depthwise} == {torch.bfloat16}


@pytest.mark.parametrize("size", [7, 8, 13, 32])
def test_same_padding_of_stride_one_is_that_of_the_convolution(size: int) -> None:
    network = build_network(
        create_architecture("efficientnet_lite0", resolution=32, classes=5, form="standard"), seed=0
    )
    convs = [m for m in network.modules() if isinstance(m, Conv) and m.conv.kernel_size[0] > 1]
    assert any(not one.same and one.conv.stride == (1, 1) for one in convs)
    for one in convs:
        x = torch.randn(1, one.conv.in_channels, size, size)
        kernel, stride = one.conv.kernel_size[0], one.conv.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        expected = functional.conv2d(
            functional.pad(x, (before, after, before, after)),
            one.conv.weight,
            None,
            stride,
            0,
            1,
            one.conv.groups,
        )
        torch.testing.assert_close(
            one.forward_with(x, one.conv.weight, torch.zeros(len(one.conv.weight))),
            expected,
            rtol=1e-5,
            atol=1e-5,
        )
