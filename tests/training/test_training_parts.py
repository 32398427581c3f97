"""Averaging, optimizer groups, checkpoints and the speed choice, each alone."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from featherweight.data.augmentation import Augmentation
from featherweight.errors import RecordError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.nn.network import build_network
from featherweight.training import speed as speed_module
from featherweight.training.averaging import WeightAverage
from featherweight.training.checkpoint import CheckpointState, read_checkpoint
from featherweight.training.compute import Compute
from featherweight.training.evaluate import Sample
from featherweight.training.objective import OBJECTIVES
from featherweight.training.optimizer import (
    create_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from featherweight.training.recipe import Recipe
from featherweight.training.speed import StepTimer, choose_compute
from featherweight.training.step import Teacher, create_learner


@pytest.mark.parametrize(("share", "first"), [(0.1, 10), (0.25, 4)])
def test_the_average_is_the_recursion_and_holds_norm_statistics(tiny_architecture, share, first):
    network = build_network(tiny_architecture, seed=0)
    average = WeightAverage(network, decay=0.4, share=share)
    names = ["classifier.weight", "blocks.0.main.norm.running_mean"]
    expected = {name: network.state_dict()[name].clone() for name in names}
    generator = torch.Generator().manual_seed(0)
    for update in range(6):
        with torch.no_grad():
            for name in names:
                tensor = network.state_dict()[name]
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        average.update(network)
        decay = min(0.4, (1 + update) / (first + update))
        for name in names:
            expected[name] = decay * expected[name] + (1 - decay) * network.state_dict()[name]
    for name in names:
        torch.testing.assert_close(average.network.state_dict()[name], expected[name])


def test_norms_and_biases_do_not_decay_and_the_backbone_is_slower(tiny_architecture):
    network = build_network(tiny_architecture, seed=0)
    recipe = Recipe(
        epochs=1,
        weight_decay=0.1,
        backbone_learning_rate_scale=0.25,
        norm_bias_learning_rate_scale=3.0,
    )
    optimizer = create_optimizer(network, recipe)
    set_learning_rate(optimizer, 0.8)
    names = {parameter: name for name, parameter in network.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            seen[names[parameter]] = (group["lr"], group["weight_decay"])
    assert len(seen) == len(names)
    assert seen["classifier.weight"] == (0.8, 0.1)
    assert seen["classifier.bias"] == (0.8, 0.0)
    assert seen["blocks.1.main.conv.weight"] == (0.2, 0.1)
    assert seen["blocks.1.main.norm.weight"] == (0.2, 0.0)
    assert seen["blocks.1.main.norm.bias"] == (pytest.approx(0.6), 0.0)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_the_optimizer_goes_on_as_if_nothing_happened(tiny_architecture, kind):
    recipe = Recipe(epochs=1, optimizer=kind, learning_rate=0.01)
    compute = Compute(torch.device("cpu"), memory_format="channels_last")
    inputs = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def step(network, optimizer):
        optimizer.zero_grad()
        network.eval()(inputs).square().mean().backward()
        optimizer.step()

    network = compute.place(build_network(tiny_architecture, seed=0))
    optimizer = create_optimizer(network, recipe)
    step(network, optimizer)
    saved = {
        name: tensor.clone().contiguous()
        for name, tensor in optimizer_tensors(optimizer, network).items()
    }
    other = compute.place(build_network(tiny_architecture, seed=9))
    other.load_state_dict(network.state_dict())
    other_optimizer = create_optimizer(other, recipe)
    restore_optimizer(other_optimizer, other, saved)
    step(network, optimizer)
    step(other, other_optimizer)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_broken_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    assert read_checkpoint(path, CheckpointState) is None
    path.write_bytes(b"torn")
    with pytest.raises(RecordError, match="cannot read the checkpoint"):
        read_checkpoint(path, CheckpointState)
    header = json.dumps({"__metadata__": {"state": '{"step": 3}'}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(RecordError, match="identity"):
        read_checkpoint(path, CheckpointState)


def test_probing_speed_leaves_the_network_alone(tiny_architecture, gray, digits):
    network = build_network(tiny_architecture, seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    probe = StepTimer(network, digits[0], Recipe(epochs=1, batch_size=32), gray, None)
    choice = choose_compute(probe, device=torch.device("cpu"))
    assert choice.images_per_s["channels_last/fp32"] > 0
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    step_s = probe.mean_step_s(choice.compute, size=16, frozen=False, steps=5, most_s=1.0)
    assert 0 < step_s < 1


def test_a_teacher_gets_its_own_normalisation_and_size(tiny_architecture):
    """The student's inputs, undone and redone, must equal what the teacher gets directly."""
    network = build_network(tiny_architecture, seed=0).eval()
    own = Preprocessing(mean=(0.2,), std=(0.5,))
    student = Preprocessing(mean=(0.6,), std=(0.3,))
    pixels = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    compute = Compute(torch.device("cpu"))
    teacher = Teacher(network, own)
    with torch.no_grad():
        direct = network((pixels - 0.2) / 0.5)
    answer = teacher.logits((pixels - 0.6) / 0.3, student=student, compute=compute)
    torch.testing.assert_close(answer, direct)
    large = torch.nn.functional.interpolate((pixels - 0.6) / 0.3, (32, 32), mode="nearest")
    resized = teacher.logits(large, student=student, compute=compute)
    assert resized.shape == direct.shape


def test_bfloat16_is_not_timed_where_it_is_emulated(tiny_architecture, digits, gray, monkeypatch):
    probe = StepTimer(
        build_network(tiny_architecture, seed=0),
        digits[0],
        Recipe(epochs=1, batch_size=32),
        gray,
        None,
    )
    for emulated in (True, False):
        monkeypatch.setattr(speed_module, "_emulates_bf16", lambda emulated=emulated: emulated)
        monkeypatch.setattr(speed_module, "_is_promising", lambda *_: True)
        found = choose_compute(probe, device=torch.device("cpu")).images_per_s
        assert (found["channels_last/bf16"] is None) == emulated


def test_a_shift_grows_with_the_view(tiny_architecture, gray):
    recipe = Recipe(epochs=1, augmentation=Augmentation(translate_px=2, erase=0.4))
    learner = create_learner(
        build_network(tiny_architecture, seed=0),
        recipe=recipe,
        preprocessing=gray,
        compute=Compute(torch.device("cpu")),
        teacher=None,
        objective=OBJECTIVES["classification"],
    )
    assert learner._augmentation(1.0, 1.0) == recipe.augmentation
    assert learner._augmentation(1.5, 1.0).translate_px == 3
    weaker = learner._augmentation(1.0, 0.5)
    assert (weaker.translate_px, weaker.erase) == (1, 0.2)


@pytest.mark.parametrize("most", [None, 0.01])
def test_long_gradients_are_scaled_down(tiny_architecture, most):
    recipe = Recipe(epochs=1, gradient_norm=most)
    learner = create_learner(
        build_network(tiny_architecture, seed=0),
        recipe=recipe,
        preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)),
        compute=Compute(torch.device("cpu")),
        teacher=None,
        objective=OBJECTIVES["classification"],
    )
    channels, height, width = tiny_architecture.input_shape
    sample = Sample(
        pixels=torch.randint(256, (8, height, width, channels), dtype=torch.uint8),
        targets=torch.arange(8) % tiny_architecture.num_classes,
        aspects=None,
        weights=None,
    )
    generator = torch.Generator().manual_seed(0)
    learner.step(sample, size=height, frozen=False, learning_rate=0.1, generator=generator)
    gradients = [one.grad.norm() for one in learner.network.parameters()]
    length = float(torch.stack(gradients).norm())
    if most is None:
        assert length > 0.1
    else:
        assert length == pytest.approx(most, rel=1e-3)
