"""Multiply-adds of torchvision's networks against torch's own counter, on the meta device."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from featherweight.profiling.module import profile_module

PUBLISHED = {
    "mobilenet_v2": (3_504_872, 300_774_272),
    "mobilenet_v3_small": (2_542_856, 56_510_400),
    "shufflenet_v2_x1_0": (2_278_604, 144_907_992),
    "mnasnet1_0": (4_383_312, 314_415_872),
}


@pytest.mark.parametrize("name", [*PUBLISHED, "densenet121", "swin_t", "vit_b_16"])
def test_torchvision_networks(name: str) -> None:
    """FlopCounterMode counts 2 per multiply-add; on meta it sees attention in full."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None).eval()
    counted = profile_module(network, input_shape=(3, 224, 224))
    with FlopCounterMode(display=False) as peer, torch.no_grad():
        network.train()(torch.zeros(2, 3, 224, 224, device="meta"))  # train: no fast path
    assert counted.unknown_ops == ()
    assert counted.macs == peer.get_total_flops() // 4
    if name in PUBLISHED:
        assert (counted.params, counted.macs) == PUBLISHED[name]
