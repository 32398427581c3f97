"""`create_model`: a network from its text form."""

from __future__ import annotations

import pytest
import torch

import featherweight as fw
from featherweight.errors import UsageError
from featherweight.networks.creation import create_model


def test_settings_reach_the_network() -> None:
    network = create_model("mobilenet_v2:width=0.5,resolution=64,classes=7")
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert not network.training


def test_the_public_name() -> None:
    assert fw.create_model is create_model


def test_unknown_network() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        create_model("mobilnet_v2")
