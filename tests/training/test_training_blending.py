"""Blended pictures and their labels."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from featherweight.nn.network import build_network
from featherweight.training.blending import Blend, draw_blend
from featherweight.training.compute import Compute
from featherweight.training.objective import OBJECTIVES
from featherweight.training.recipe import Recipe
from featherweight.training.step import create_learner


def test_a_share_of_zero_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_blend(8, size=4, mixup=0.0, cutmix=0.0, generator=generator) is None
    assert torch.equal(generator.get_state(), before)


def test_the_share_of_blended_batches():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_blend(4, size=8, mixup=0.3, cutmix=0.2, generator=generator) for _ in range(1000)]
    blends = [blend for blend in drawn if blend is not None]
    assert 250 < sum(blend.box is None for blend in blends) < 350
    assert 150 < sum(blend.box is not None for blend in blends) < 250
    ratios = torch.tensor([blend.ratio for blend in blends])
    assert 0.45 < ratios.mean() < 0.55
    assert all(sorted(blend.partners.tolist()) == [0, 1, 2, 3] for blend in blends)


def test_pictures_are_blended_with_their_partners():
    inputs = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    blended = Blend(torch.tensor([2, 0, 1]), ratio=0.75).pixels(inputs)
    torch.testing.assert_close(blended[0], 0.75 * inputs[0] + 0.25 * inputs[2])
    torch.testing.assert_close(blended[1], 0.75 * inputs[1] + 0.25 * inputs[0])


def test_a_box_is_pasted_and_weighs_its_area():
    inputs = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    seen = set()
    for _ in range(50):
        blend = draw_blend(2, size=8, mixup=0.0, cutmix=1.0, generator=generator)
        assert blend is not None
        assert blend.box is not None
        top, left, height, width = blend.box
        assert 0 <= top <= 8 - height
        assert 0 <= left <= 8 - width
        assert blend.ratio == pytest.approx(1 - height * width / 64)
        inside = torch.zeros(8, 8, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        expected = torch.where(inside, inputs[blend.partners], inputs)
        assert torch.equal(blend.pixels(inputs), expected)
        seen.add(blend.box)
    assert len(seen) > 20


def test_shares_are_at_most_one_together():
    with pytest.raises(ValidationError, match="at most 1 together"):
        Recipe(epochs=1, mixup=0.6, cutmix=0.6)


def test_the_loss_is_that_of_blended_labels(tiny_architecture, gray, digits, monkeypatch):
    """Oracle: torch's cross-entropy with class probabilities as targets."""
    train, _ = digits
    sample = train.batch(slice(0, 16))
    pixels, labels = sample.pixels, sample.targets
    partners, ratio = torch.arange(16).flip(0), 0.3
    monkeypatch.setattr(
        "featherweight.training.classification.draw_blend", lambda *_, **__: Blend(partners, ratio)
    )
    recipe = Recipe(epochs=1, label_smoothing=0.1, mixup=1.0)
    learner = create_learner(
        build_network(tiny_architecture.changed(dropout=0.0), seed=0),
        recipe=recipe,
        preprocessing=gray,
        compute=Compute(torch.device("cpu")),
        teacher=None,
        objective=OBJECTIVES["classification"],
    )
    inputs = (pixels.float() / 255 - gray.mean[0]) / gray.std[0]
    inputs = inputs.permute(0, 3, 1, 2)
    inputs = ratio * inputs + (1 - ratio) * inputs[partners]
    with torch.no_grad():
        logits = learner.network.train()(inputs)
    one_hot = functional.one_hot(labels, 10).float()
    target = ratio * one_hot + (1 - ratio) * one_hot[partners]
    expected = functional.cross_entropy(logits, target, label_smoothing=0.1)
    loss = learner.step(
        sample,
        size=16,
        frozen=False,
        learning_rate=1e-6,
        generator=torch.Generator().manual_seed(0),
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
