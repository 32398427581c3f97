"""ResNet-20 with option A shortcuts, written the way the paper's re-implementations write it."""

from __future__ import annotations

import torch
from oracles.transplant import copy_by_position, randomise, relative_error
from torch import Tensor, nn
from torch.nn import functional

from featherweight.nn.network import Network
from featherweight.zoo.model import MODELS


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride, self.added = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        every = x[:, :, :: self.stride, :: self.stride]
        zeros = every.new_zeros(every.shape[0], self.added, *every.shape[2:])
        return functional.relu(y + torch.cat([every, zeros], dim=1))


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        plan = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2
        plan += [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*[_BasicBlock(*row) for row in plan])
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(functional.adaptive_avg_pool2d(y, 1).flatten(1))


def test_resnet_20_gives_the_same_outputs() -> None:
    oracle = _ResNet20()
    randomise(oracle, seed=0)
    network = Network(MODELS["resnet"].build(classes=10))
    copy_by_position(oracle, network)
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.randn(8, 3, size, size, generator=generator) for size in (32, 29)]
    for training in (False, True):
        oracle.train(training)
        network.train(training)
        for images in pictures:
            with torch.no_grad():
                assert relative_error(network(images), oracle(images)) <= 1e-5
