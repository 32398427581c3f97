from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from featherweight.errors import RecordError, UsageError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.networks.storage import load_network, recorded_seed, save_network
from featherweight.nn.network import Network, build_network

PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3), interpolation="bicubic", crop_fraction=0.875)
CLASSES = ("cat", "dog", "\u00e9l\u00e9phant")


@pytest.fixture
def network() -> Network:
    network = build_network(
        resolve_architecture("mobilenet_v3_small:resolution=32,classes=3"), seed=3
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval()


def test_a_network_comes_back_bit_equal(network: Network, tmp_path: Path) -> None:
    network.to(memory_format=torch.channels_last)
    save_network(network, tmp_path / "n", preprocessing=PREPROCESSING, classes=CLASSES)
    assert {file.name for file in (tmp_path / "n").iterdir()} == {
        "architecture.json",
        "weights.safetensors",
        "network.json",
    }
    state = torch.random.get_rng_state()
    stored = load_network(tmp_path / "n")
    assert torch.equal(state, torch.random.get_rng_state())
    assert stored.network.architecture == network.architecture
    assert stored.preprocessing == PREPROCESSING
    assert stored.classes == CLASSES
    assert not stored.network.training
    assert all(parameter.requires_grad for parameter in stored.network.parameters())
    images = torch.randn(2, 3, 32, 32)
    network.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        assert torch.equal(stored.network(images), network(images))
    loaded = stored.network.state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


def test_a_stored_network_can_be_trained(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path, preprocessing=PREPROCESSING, classes=CLASSES)
    stored = load_network(tmp_path).network.train()
    stored(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in stored.parameters())


def test_class_names_must_match_the_outputs(network: Network, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 class names for a network with 3"):
        save_network(network, tmp_path / "n", preprocessing=PREPROCESSING, classes=("a", "b"))
    assert not (tmp_path / "n").exists()


def test_damaged_and_mixed_files_are_refused(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path, preprocessing=PREPROCESSING, classes=CLASSES)
    weights = tmp_path / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(RecordError, match=r"weights\.safetensors is not the one"):
        load_network(tmp_path)
    weights.unlink()
    with pytest.raises(RecordError, match=r"weights\.safetensors"):
        load_network(tmp_path)
    weights.symlink_to("/dev/zero")  # all memory was read into, found by benchmarks/fuzz.py
    with pytest.raises(RecordError, match=r"weights\.safetensors: it is not a regular file"):
        load_network(tmp_path)
    weights.unlink()
    weights.write_bytes(whole)
    plain = json.loads((tmp_path / "architecture.json").read_text())
    (tmp_path / "architecture.json").write_text(json.dumps({**plain, "num_classes": 4}))
    with pytest.raises(RecordError, match=r"architecture\.json is not the one"):
        load_network(tmp_path)
    (tmp_path / "network.json").unlink()
    with pytest.raises(RecordError, match=r"network\.json"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    "content", ["[1]", "identity: [1]", "identity: {seed: x}", "identity: {seed: -1}", ""]
)
def test_the_seed_of_an_odd_run_yaml_is_one_line(content: str, tmp_path: Path) -> None:
    assert recorded_seed(tmp_path) == 0  # saved by hand
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(RecordError, match=r"run\.yaml") as caught:
        recorded_seed(tmp_path)
    assert "\n" not in str(caught.value)
