"""keras.applications' MobileNets, drawn at random: the same weights, the same outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from featherweight.errors import UsageError
from featherweight.networks.keras_names import keras_state_dict
from featherweight.networks.pretrained import read_pretrained
from featherweight.networks.resolve import create_architecture

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported
import keras

# keras 3 with numpy 2: its variables lack a keyword of __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE, CLASSES = 96, 7
CASES = {
    "mobilenet_v1": (keras.applications.MobileNet, 1.0),
    "mobilenet_v2": (keras.applications.MobileNetV2, 1.0),
    "mobilenet_v3_large": (keras.applications.MobileNetV3Large, 1.0),
    "mobilenet_v3_small": (keras.applications.MobileNetV3Small, 1.0),
}


def randomised(build: Any, alpha: float) -> Any:
    model = build(
        input_shape=(SIDE, SIDE, 3),
        alpha=alpha,
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        **({} if "V3" not in build.__name__ else {"include_preprocessing": False}),
    )
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            low = np.array([0.5, -0.5, -0.5, 0.5]).reshape(4, 1)
            shape = (4, layer.get_weights()[0].size)
            layer.set_weights(list(low + generator.random(shape)))
        elif layer.get_weights():
            layer.set_weights([_drawn(generator, w.shape, layer) for w in layer.get_weights()])
    return model


def _drawn(generator: np.random.Generator, shape: tuple[int, ...], layer: Any) -> np.ndarray:
    if len(shape) == 1:
        return generator.uniform(-0.5, 0.5, shape)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    inputs = np.prod(shape[:2] if depthwise else shape[:-1])
    return generator.uniform(-1.0, 1.0, shape) * np.sqrt(6.0 / inputs)


@pytest.mark.parametrize("name", CASES)
def test_keras_weights_compute_the_same(name: str, tmp_path: Path) -> None:
    build, alpha = CASES[name]
    theirs = randomised(build, alpha)
    save_file(keras_state_dict(theirs), tmp_path / "weights.safetensors")
    architecture = create_architecture(
        name, width=alpha, resolution=SIDE, classes=CLASSES, padding="same", form="standard"
    )
    got = read_pretrained(architecture, source=str(tmp_path / "weights.safetensors"), seed=0)
    assert (got.layout, got.fresh_classifier) == ("keras", False)
    images = np.random.default_rng(1).standard_normal((3, SIDE, SIDE, 3)).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(theirs(images, training=False)))
    expected = expected.reshape(3, CLASSES)
    with torch.no_grad():
        found = got.network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    scale = np.abs(expected).max()
    assert expected.std(axis=0).max() > 1e-3 * scale, "the oracle ignores its input"
    # Keras multiplies by 1 / 6 in its hard swish where torch divides: rounding, 20 layers deep.
    assert np.abs(found - expected).max() <= 1e-4 * scale


def test_a_layer_of_another_kind_is_named() -> None:
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.Conv1D(2, 3, name="sequence")])
    with pytest.raises(UsageError, match="'sequence' has a weight 'kernel'"):
        keras_state_dict(model)
