"""What is on pictures: what can be read is answered, what cannot is said."""

import json
import os

import pytest
from artifact_networks import IMAGENET, block, labels_of, network_of, trained_like
from PIL import Image

from featherweight.cli.app import run
from featherweight.errors import DataError
from featherweight.networks.storage import save_network
from featherweight.training.predict import predict


@pytest.fixture
def trained(tmp_path):
    architecture = network_of("small", block("conv", 4, stride=2), input_shape=(3, 16, 16))
    save_network(
        trained_like(architecture),
        tmp_path / "network",
        preprocessing=IMAGENET,
        classes=tuple(labels_of(architecture)),
    )
    return tmp_path / "network"


def test_one_bad_picture_does_not_take_the_others(trained, tmp_path, capsys) -> None:
    good = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in good:
        Image.new("RGB", (20, 20)).save(path)
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    found = predict(trained, pictures=[good[0], pipe, good[1]])
    assert [one["error"] for one in found] == [None, "not a regular file", None]
    assert found[0]["label"] == found[2]["label"] != found[1]["label"] is None
    command = ["predict", str(trained), *map(str, [good[0], pipe, good[1]])]
    assert run([*command, "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == found
    assert run(command) == 2
    assert "not a regular file" in capsys.readouterr().out


def test_no_picture_at_all_is_an_error(trained, tmp_path) -> None:
    (tmp_path / "text.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="not a picture of the formats"):
        predict(trained, pictures=[tmp_path / "text.png"])
