"""`profile --redundancy`: what is measured, its page, and input that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherweight.adapting.samples import covariances
from featherweight.advising.redundancy import Seen, measure_redundancy, redundancy, similar_maps
from featherweight.cli.app import run
from featherweight.data.augmentation import normalise_batch
from featherweight.errors import DataError
from featherweight.layers import layers
from featherweight.networks.channels import mixes_channels
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import create_architecture
from featherweight.networks.storage import save_network
from featherweight.nn.network import Network, build_network
from featherweight.reporting.redundancy import render_redundancy

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(create_architecture("convnet", resolution=16, classes=10), seed=0).eval()


def test_every_map_that_is_read_has_its_figures(network: Network) -> None:
    found = measure_redundancy(network, PIXELS, Preprocessing())
    assert len(found.layers) >= 4
    assert found.layers[-1].explained_share is None  # pooled: one position a picture
    assert found.layers[0].explained_share is not None
    for one in found.layers:
        assert 0 < one.effective_rank <= one.channels
        assert one.explained_share is None or 0 <= one.explained_share <= 1
        assert all(pair.first != pair.second for pair in one.pairs)


def test_figures_are_those_of_the_maps(network: Network) -> None:
    found = measure_redundancy(network, PIXELS, Preprocessing()).layers[0]
    usual = Preprocessing()
    images = normalise_batch(torch.from_numpy(PIXELS), mean=usual.mean, std=usual.std)
    with torch.no_grad():
        (maps,) = network.forward_layers(images, [found.layer])
    places = maps[:, :, 1::2, 1::2]  # of few pictures every fourth position is looked at
    rows = places.permute(0, 2, 3, 1).reshape(-1, found.channels).double().numpy()
    correlations = np.corrcoef(rows.T)
    pair = found.pairs[0]
    assert pair.correlation == pytest.approx(correlations[pair.first, pair.second], abs=0.01)
    off = np.abs(np.nan_to_num(correlations) - np.eye(found.channels))
    assert abs(pair.correlation) == pytest.approx(off.max(), abs=0.01)


def test_of_many_pictures_fewer_positions_are_looked_at(network: Network) -> None:
    readers = [one for one in layers(network.architecture) if mixes_channels(one)][1:]

    def looked_at(count: int | None) -> dict[str, int]:
        found = covariances(network, readers, [torch.zeros(2, 3, 16, 16)], count=count)
        return {name: one.count // 2 for name, one in found.items()}

    every = looked_at(None)
    assert max(every.values()) == 256
    assert looked_at(1) == every, "forty for each channel"
    assert max(looked_at(10_000).values()) == 64


def test_the_page_shows_the_maps_and_fetches_nothing(network: Network) -> None:
    found = measure_redundancy(network, PIXELS, Preprocessing(), split="val")
    maps = similar_maps(network, PIXELS[0], Preprocessing(), found)
    page = render_redundancy(Seen(found, PIXELS[0], maps))
    assert page.count("data:image/png;base64,") > 10
    assert "http:" not in page
    assert "https:" not in page
    assert found.layers[0].layer in page


def test_the_command_prints_a_row_for_every_layer(
    network: Network, tmp_path: Path, capsys: Any
) -> None:
    save_network(
        network,
        tmp_path / "run",
        preprocessing=Preprocessing(),
        classes=tuple(map(str, range(10))),
    )
    words = ["profile", str(tmp_path / "run"), "--redundancy", "demo"]
    assert run([*words, "--plot", str(tmp_path / "page.html")]) == 0
    assert "effective" in capsys.readouterr().out
    assert "Redundancy of convnet" in (tmp_path / "page.html").read_text()
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == "val"
    assert found["pictures"] >= 32
    assert redundancy(tmp_path / "run", data="demo").found.layers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convnet", "--redundancy", "demo"], "convnet is not trained"),
        (["convnet", "--plot", "page.html"], "--plot was given without --redundancy"),
        (["convnet", "--redundancy", "demo", "--plot", "."], "--plot . is a folder"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], said: str, capsys: Any) -> None:
    assert run(["profile", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_too_few_pictures_and_other_channels_are_refused(network: Network) -> None:
    with pytest.raises(DataError, match="31 pictures are too few"):
        measure_redundancy(network, PIXELS[:31], Preprocessing())
    with pytest.raises(DataError, match="pictures with 1 channels"):
        measure_redundancy(network, PIXELS[..., :1], Preprocessing())
