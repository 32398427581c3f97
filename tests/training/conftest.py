"""A hand-made convolution network and sklearn's digits: small enough to train in a test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from featherweight.architecture import Architecture, BlockSpec
from featherweight.networks.preprocessing import Preprocessing
from featherweight.training.evaluate import TrainingImages


@pytest.fixture(autouse=True)
def one_thread():
    """Tests share a small machine, and one thread makes their time repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_architecture() -> Architecture:
    def conv(channels: int, stride: int) -> BlockSpec:
        return BlockSpec(
            op="conv", out_channels=channels, kernel_size=3, stride=stride, activation="relu"
        )

    return Architecture(
        name="tiny",
        input_shape=(1, 16, 16),
        blocks=(conv(8, 1), conv(16, 2), conv(32, 2)),
        num_classes=10,
        dropout=0.1,
    )


@pytest.fixture(scope="session")
def gray() -> Preprocessing:
    return Preprocessing(mean=(0.3,), std=(0.35,))


@pytest.fixture(scope="session")
def digits() -> tuple[TrainingImages, TrainingImages]:
    """1,397 training and 400 held-out digits, 8 x 8 enlarged to 16 x 16."""
    data = load_digits()
    pixels = np.clip(data.images * 16, 0, 255).astype(np.uint8)
    pixels = pixels.repeat(2, axis=1).repeat(2, axis=2)[..., None]
    order = np.random.default_rng(0).permutation(len(pixels))
    labels = data.target.astype(np.int64)
    held, rest = order[:400], order[400:]
    return TrainingImages(pixels[rest], labels[rest]), TrainingImages(pixels[held], labels[held])
