"""A classifier fitted again ships only where it makes the file better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import small_family

from featherweight.data.images import load_images
from featherweight.exporting.platforms import parse_platform
from featherweight.fitting import refit
from featherweight.fitting.candidate import Candidate, Phase
from featherweight.fitting.ranking import losses_on_val
from featherweight.fitting.refit import pictures_to_see, with_fitted_classifier
from featherweight.fitting.trainer import Trainer
from featherweight.nn.network import Network, build_network
from featherweight.training.pixels import PixelStore


@pytest.fixture
def network() -> Network:
    return build_network(small_family().build(16.0), seed=0).eval()


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    store = PixelStore(load_images("demo"), small=True, directory=tmp_path / "cache")
    return Trainer(store, parse_platform("local/onnxruntime"), tmp_path, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("balanced", "precision"),
    [
        (True, "int8"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((True, "fp32"), (False, "fp32"))
        ),
    ],
)
def test_an_untrained_classifier_learns_and_nothing_else_changes(
    network: Network, trainer: Trainer, precision: str, balanced: bool
) -> None:
    trainer = replace(trainer, store=replace(trainer.store, balanced=balanced))
    one = Candidate(small_family(), 16.0, precision)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    better = with_fitted_classifier(one, network, trainer=trainer, name="refit")
    assert better is not None
    assert not better.training
    for name, tensor in better.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("classifier."), name
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    old, new = (
        losses_on_val(trainer, one, given, phase=Phase(kind="train")).mean()
        for given in (network, better)
    )
    assert new < old - 0.3, "the loss of the file that would ship, in nats"


@pytest.mark.parametrize(
    ("macs", "pictures"), [(0, 1500), (10**9, 1500), (2 * 10**9, 750), (10**11, 300)]
)
def test_slow_networks_see_fewer_pictures(macs: int, pictures: int) -> None:
    assert pictures_to_see(macs) == pictures


@pytest.mark.slow
def test_what_is_no_better_on_val_is_not_taken(
    network: Network, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Candidate(small_family(), 16.0, "fp32")
    good = with_fitted_classifier(one, network, trainer=trainer, name="refit")
    assert good is not None
    monkeypatch.setattr(refit, "refit_classifier", lambda weight, bias, *_, **__: (-weight, bias))
    assert with_fitted_classifier(one, good, trainer=trainer, name="refit") is None
    monkeypatch.setattr(refit, "refit_classifier", lambda weight, bias, *_, **__: (weight, bias))
    assert with_fitted_classifier(one, good, trainer=trainer, name="refit") is None
