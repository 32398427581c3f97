"""A network that computes as its int8 file does, against that file in onnxruntime."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of, pictures, trained_like

from featherweight.architecture import Architecture
from featherweight.data.augmentation import normalise_batch
from featherweight.exporting.export import export_network
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import Network, build_network
from featherweight.runtimes.artifact import Artifact
from featherweight.runtimes.runtime import RUNTIMES
from featherweight.training.compute import Compute
from featherweight.training.evaluate import TrainingImages
from featherweight.training.fake_quantisation import FakeQuantised, observe_levels
from featherweight.training.loop import train_network
from featherweight.training.recipe import Recipe, default_recipe, int8_recipe

COMPUTE = Compute(torch.device("cpu"))
"""Told, not timed: the same training whatever form is the fastest at the moment."""
GREY = Preprocessing(mean=(0.45,), std=(0.25,))


def export_int8(
    network: Network, seen: np.ndarray, preprocessing: Preprocessing, out: Path
) -> Artifact:
    return export_network(
        network,
        runtime="onnxruntime",
        precision="int8",
        out=out,
        calibration=seen,
        preprocessing=preprocessing,
        labels=labels_of(network.architecture),
    )


def answers(artifact: Artifact, seen: np.ndarray) -> np.ndarray:
    run = RUNTIMES["onnxruntime"].load(artifact, num_threads=1)
    return np.concatenate([run(np.ascontiguousarray(one[None]))["logits"] for one in seen])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_it_answers_as_the_file(architecture: Architecture, tmp_path: Path) -> None:
    """One level more or less early on moves some later ones: the deeper, the more."""
    network = trained_like(architecture)
    seen, preprocessing = pictures(architecture, 24), IMAGENET
    channels = architecture.input_shape[0]
    if channels == 1:
        seen, preprocessing = np.repeat(seen[..., :1], 3, axis=3), GREY
    levels = observe_levels(network, seen, preprocessing=preprocessing)
    file = answers(export_int8(network, seen, preprocessing, tmp_path), seen)
    inputs = normalise_batch(
        torch.from_numpy(seen[..., :channels].copy()),
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    with torch.inference_mode():
        plain = network(inputs).numpy()
        rounded = FakeQuantised(network, levels).eval()(inputs).numpy()
    assert np.abs(rounded - plain).max() > 0, "nothing was rounded"
    assert rms(rounded - file) < 0.8 * rms(plain - file)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))


def test_every_weight_learns(tiny_architecture: Architecture, gray: Preprocessing) -> None:
    network = trained_like(tiny_architecture)
    levels = observe_levels(network, pictures(tiny_architecture, 8), preprocessing=gray)
    network.train()
    inputs = torch.rand(4, 1, 16, 16) - 0.5
    FakeQuantised(network, levels)(inputs).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.fixture(scope="module")
def trained(
    tiny_architecture: Architecture,
    gray: Preprocessing,
    digits: tuple[TrainingImages, TrainingImages],
    tmp_path_factory: pytest.TempPathFactory,
) -> Network:
    train, val = digits
    recipe = default_recipe(pretrained=False, resolution=16, images=len(train), epochs=4)
    return train_network(
        build_network(tiny_architecture, seed=0),
        train=train,
        val=val,
        recipe=recipe,
        preprocessing=gray,
        directory=tmp_path_factory.mktemp("float"),
        device="cpu",
        compute=COMPUTE,
    ).network


def hurt(network: Network) -> Network:
    """Let one channel of a map be twenty times as large as the rest: what int8 suffers from."""
    with torch.no_grad():
        norm = network.get_submodule("blocks.0.main.norm")
        following = network.get_submodule("blocks.1.main.conv")
        norm.weight[0] *= 20.0
        norm.bias[0] *= 20.0
        following.weight[:, 0] /= 20.0
    return network


def test_what_rounding_changes_can_be_learnt_away(
    trained: Network, gray: Preprocessing, digits: tuple[TrainingImages, TrainingImages]
) -> None:
    """One batch, again and again: the gradients that pass the rounding lead back to the answers."""
    pixels = digits[0].pixels[:64]
    network = hurt(copy.deepcopy(trained))
    levels = observe_levels(network, np.repeat(pixels, 3, axis=3), preprocessing=gray)
    inputs = normalise_batch(torch.from_numpy(pixels), mean=gray.mean, std=gray.std)
    with torch.no_grad():
        answers_before = network(inputs)
    rounded = FakeQuantised(network, levels)
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    errors = []
    for _ in range(150):
        error = (rounded(inputs) - answers_before).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert min(errors[-20:]) < 0.6 * errors[0]


def test_a_training_with_levels_is_judged_as_the_file(
    trained: Network,
    gray: Preprocessing,
    digits: tuple[TrainingImages, TrainingImages],
    tmp_path: Path,
) -> None:
    train, val = digits
    before = hurt(copy.deepcopy(trained))
    calibration = np.repeat(train.pixels[:64], 3, axis=3)
    levels = observe_levels(before, calibration, preprocessing=gray)
    recipe = default_recipe(pretrained=False, resolution=16, images=len(train), epochs=1)
    recipe = int8_recipe(recipe, epochs=2).model_copy(update={"learning_rate": 1e-4})
    result = train_network(
        before,
        train=train,
        val=val,
        recipe=recipe,
        preprocessing=gray,
        directory=tmp_path / "int8",
        teacher=before,
        levels=levels,
        device="cpu",
        compute=COMPUTE,
    )
    file = export_int8(result.network, calibration, gray, tmp_path / "file")
    logits = torch.from_numpy(answers(file, np.repeat(val.pixels, 3, axis=3)))
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.targets)))
    assert result.best.val_loss == pytest.approx(loss, rel=0.02), "judged as the file"
    assert result.history[-1].dtype == "fp32"
    for name, value in before.state_dict().items():
        if "running" in name:
            assert torch.equal(result.network.state_dict()[name], value), name


def test_the_recipe_goes_on_gently() -> None:
    before = default_recipe(pretrained=True, resolution=224, images=3000, time_s=600)
    recipe = int8_recipe(before, time_s=60)
    assert (recipe.time_s, recipe.epochs) == (60, None)
    assert recipe.batch_size < before.batch_size, "more steps in a short time: norms stand still"
    assert recipe.learning_rate < before.learning_rate
    assert (recipe.mixup, recipe.cutmix, recipe.low_resolution_share) == (0.0, 0.0, 0.0)
    assert recipe.augmentation == before.augmentation
    assert Recipe.model_validate(recipe.model_dump()) == recipe
