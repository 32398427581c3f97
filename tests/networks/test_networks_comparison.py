"""The comparison of an import with its module sees what is wrong, and only that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from featherweight.errors import FailedError
from featherweight.networks import importing
from featherweight.networks.comparison import LARGEST, disagreement
from featherweight.networks.importing import import_module
from featherweight.nn.network import Network


def classifier(*, bias: float, scale: float = 1.0) -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        module[4].weight.mul_(scale)
        module[4].bias.fill_(bias)
    return module.eval()


def damaged(network: Network) -> Network:
    """One weight of the convolution is another one."""
    with torch.no_grad():
        weight = network.state_dict()["0.conv.weight"]
        weight.view(-1)[0] += 1.0
    return network


PICTURES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bias", [0.0, 1e3, 1e9])
def test_a_wrong_import_is_seen_whatever_the_bias(bias: float) -> None:
    module = classifier(bias=bias)
    network = import_module(module, input_shape=(3, 16, 16))
    assert disagreement(module, network, PICTURES) <= LARGEST
    assert disagreement(module, damaged(network), PICTURES) > 100 * LARGEST


def test_a_wrong_import_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = importing.network_of_trace
    monkeypatch.setattr(
        importing, "network_of_trace", lambda *given, **named: damaged(trace(*given, **named))
    )
    with pytest.raises(FailedError, match=r"differs from the module by .* two pictures lie apart"):
        import_module(classifier(bias=1e6), input_shape=(3, 16, 16))


@pytest.mark.parametrize(("bias", "scale"), [(0.01, 1e-12), (0.01, 0.0), (0.0, 0.0)])
def test_answers_that_hardly_differ_are_no_defect(bias: float, scale: float) -> None:
    """As those of freshly drawn networks, and of a classifier that starts at zero."""
    module = classifier(bias=bias, scale=scale)
    assert isinstance(import_module(module, input_shape=(3, 16, 16)), Network)


def test_a_module_of_float32_alone_is_compared_in_it() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier(bias=1e3)
            self.kernel = torch.ones(3, 3, 1, 1)  # no parameter: it stays float32

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(nn.functional.conv2d(x, self.kernel))

    module = Single().eval()
    network = import_module(module, input_shape=(3, 16, 16))
    with torch.no_grad():
        network.state_dict()["inner.0.conv.weight"].view(-1)[0] += 10.0
    assert disagreement(module, network, PICTURES) > LARGEST
