"""Class folders of all kinds: nested, unreadable, oddly named, with things that are no files."""

import os
import socket
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from featherweight.data.check import check_data
from featherweight.data.images import load_images
from featherweight.errors import DataError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.networks.resolve import resolve_architecture
from featherweight.networks.storage import load_network, save_network
from featherweight.nn.network import build_network
from featherweight.training.train import train

BYTES_NAME = os.fsdecode(b"caf\xe9")
"""A folder name that is not UTF-8, as an archive from an old machine has it."""


def counts(data):
    """Return {split: {class: pictures}}."""
    return {
        split: dict(Counter(data.classes[label] for label in part.targets))
        for split, part in data.splits.items()
    }


def problems(data, kind):
    return {problem.path: problem.detail for problem in data.skipped if problem.kind == kind}


def forbid(monkeypatch, folder):
    """Make a folder unreadable, also for the superuser."""
    for name in ("listdir", "scandir"):
        original = getattr(os, name)

        def refusing(path=".", original=original):
            if Path(os.fspath(path)) == folder:
                raise PermissionError(13, "Permission denied", str(path))
            return original(path)

        monkeypatch.setattr(os, name, refusing)


def test_a_class_name_that_is_not_utf8_can_be_kept_and_is_said(tmp_path, plant, said):
    root = plant(tmp_path / "data", {BYTES_NAME: 6, "tea": 6})
    data = load_images(root)
    assert data.classes == (r"caf\xe9", "tea")
    assert all(name.encode() for part in data.splits.values() for name in part.names)
    assert any(r"caf\xe9" in line and "UTF-8" in line for line in said)
    report = check_data(root).model_dump(mode="json")
    assert report["per_class"].keys() == {r"caf\xe9", "tea"}
    network = build_network(resolve_architecture("convnet:width=0.25,classes=2"), seed=0)
    save_network(network, tmp_path, preprocessing=Preprocessing(), classes=data.classes)
    assert load_network(tmp_path).classes == data.classes


@pytest.mark.slow
def test_a_class_name_that_is_not_utf8_trains_to_the_end(tmp_path, plant):
    root = plant(tmp_path / "data", {BYTES_NAME: 6, "tea": 6})
    trained = train(root, model="convnet:width=0.25", epochs=1, output=tmp_path / "run")
    assert trained.n == 2


def test_two_class_names_that_are_not_utf8_stay_two(tmp_path, plant):
    root = plant(tmp_path, {os.fsdecode(b"\xe9"): 4, os.fsdecode(b"\xe8"): 4})
    assert load_images(root).classes == (r"\xe8", r"\xe9")


def test_a_data_folder_that_is_not_utf8_has_a_name(tmp_path, plant):
    root = plant(tmp_path / BYTES_NAME, {"a": 4, "b": 4})
    assert load_images(root).name == r"caf\xe9"
    assert check_data(tmp_path / BYTES_NAME / "no").problems[0].path.encode()


def test_both_unicode_forms_of_a_name_are_one_class(tmp_path, plant, said):
    one, other = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    assert one != other
    root = plant(tmp_path / "loose", {one: 5, other: 4, "tea": 9})
    data = load_images(root)
    assert data.classes == (one, "tea")
    assert sum(split[one] for split in counts(data).values()) == 9
    assert any("one class" in line for line in said)
    split = plant(
        tmp_path / "split", {f"train/{one}": 9, "train/tea": 9, f"test/{other}": 3, "test/tea": 2}
    )
    assert counts(load_images(split))["test"] == {one: 3, "tea": 2}


def test_an_unreadable_folder_beside_the_classes_is_skipped_and_said(
    tmp_path, plant, said, monkeypatch
):
    root = plant(tmp_path, {"cat": 9, "dog": 9, "lost+found": 0})
    forbid(monkeypatch, root / "lost+found")
    data = load_images(root)
    assert data.classes == ("cat", "dog")
    assert "Permission denied" in problems(data, "unreadable")["lost+found"]
    assert any("lost+found" in line and "Permission denied" in line for line in said)


def test_an_unreadable_root_or_split_is_refused(tmp_path, plant, monkeypatch):
    root = plant(tmp_path, {f"{split}/{name}": 4 for split in ("train", "test") for name in "ab"})
    forbid(monkeypatch, root / "test")
    with pytest.raises(DataError, match=r"cannot read the folder .*test: Permission denied"):
        load_images(root)
    forbid(monkeypatch, root)
    with pytest.raises(DataError, match="cannot read the folder"):
        load_images(root)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("training", "testing"), {"training": "train", "testing": "test"}),
        (("train", "dev", "test"), {"train": "train", "dev": "val", "test": "test"}),
        (("train", "eval"), {"train": "train", "eval": "test"}),
        (("train", "dev", "eval"), {"train": "train", "dev": "val", "eval": "test"}),
        (("train", "eval", "test"), {"train": "train", "eval": "val", "test": "test"}),
        (("Training_Set", "Test-Set"), {"Training_Set": "train", "Test-Set": "test"}),
        (
            ("train_images", "validation_images", "testset"),
            {"train_images": "train", "validation_images": "val", "testset": "test"},
        ),
    ],
)
def test_split_folders_by_all_their_names(tmp_path, plant, names, expected):
    layout = {f"{name}/{label}": 10 + number for number, name in enumerate(names) for label in "ab"}
    data = load_images(plant(tmp_path, layout))
    assert data.classes == ("a", "b")
    found = {
        (name.split("/")[0], split) for split, part in data.splits.items() for name in part.names
    }
    # Where val is not given it is cut from train.
    extra = {(names[0], "val")} if "val" not in expected.values() else set()
    assert found == set(expected.items()) | extra


def test_nested_class_folders_the_innermost_is_the_class(tmp_path, plant, said):
    root = plant(
        tmp_path,
        {
            f"{split}/{path}": count
            for split, count in (("train", 6), ("val", 2), ("test", 3))
            for path in ("Fruit/Apple/Pink-Lady", "Fruit/Apple/Royal-Gala", "Fruit/Lemon", "Milk")
        },
    )
    data = load_images(root)
    assert data.classes == ("Lemon", "Milk", "Pink-Lady", "Royal-Gala")
    assert counts(data)["test"] == dict.fromkeys(data.classes, 3)
    assert [path.parent.name for path in data.splits["val"].paths_or_bytes] == [
        data.classes[label] for label in data.splits["val"].targets
    ]
    assert "train/Fruit/Apple/Pink-Lady" in problems(data, "nested")
    assert any("Pink-Lady" in line and "innermost" in line for line in said)


def test_a_folder_around_all_classes_is_no_level(tmp_path, plant, said):
    root = plant(tmp_path, {f"{s}/images/{c}": 9 for s in ("train", "test") for c in ("a", "b")})
    assert load_images(root).classes == ("a", "b")
    assert said == []


@pytest.mark.parametrize(
    "layout",
    [
        {"cat/monday": 5, "cat/tuesday": 5, "dog/monday": 5, "dog/tuesday": 5},
        {"train/cat/1": 5, "train/dog/2": 5, "test/cat/2": 5, "test/dog/1": 5},
    ],
)
def test_inner_folders_that_repeat_are_no_classes(tmp_path, plant, layout):
    with pytest.raises(DataError, match=r"a folder '.*' lies in .* and in .*unclear") as caught:
        load_images(plant(tmp_path, layout))
    assert "cat" in str(caught.value)
    assert "dog" in str(caught.value)
    assert "put the pictures of each class" in str(caught.value)


def test_folders_in_a_class_with_pictures_are_lost_and_said(tmp_path, plant, said):
    root = plant(tmp_path, {"cat": 9, "cat/more": 2, "cat/more/deep": 1, "dog": 9})
    data = load_images(root)
    assert counts(data)["train"] == {"cat": 7, "dog": 7}
    assert any("'cat' lost 3 of 12" in line and "folders inside" in line for line in said)


def test_only_regular_files_are_pictures(tmp_path, plant, said):
    root = plant(tmp_path / "data", {"cat": 9, "dog": 9})
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "zero.jpg").symlink_to("/dev/zero")
    (root / "cat" / "gone.jpg").symlink_to(tmp_path / "gone")
    (root / "dog" / "0-link.png").symlink_to(root / "dog" / "0.png")
    os.mkfifo(root / "pipe.parquet")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "dog" / "socket.png"))
    data = load_images(root)
    assert sum(map(len, data.splits.values())) == 19
    assert any("'cat' lost 3 of 12" in line and "a named pipe" in line for line in said)
    assert any("'dog' lost 1 of 11" in line and "a socket" in line for line in said)
    assert any("a device" in line and "a broken link" in line for line in said)


def test_links_that_lead_in_a_circle_end(tmp_path, plant):
    root = plant(tmp_path / "data", {"cat": 9, "dog": 9, "big/lion": 9, "big/cats": 0})
    (root / "big" / "lion" / "again").symlink_to(root)
    (root / "big" / "cats" / "up").symlink_to(root / "big")
    (root / "big" / "cats" / "self").symlink_to(".")
    (root / "hen").symlink_to(plant(tmp_path / "elsewhere", {".": 9}))
    data = load_images(root)
    assert data.classes == ("cat", "dog", "hen", "lion")
    assert sum(map(len, data.splits.values())) == 36
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "x").symlink_to(alone)
    with pytest.raises(DataError, match="no pictures"):
        load_images(alone)


def test_a_thousand_folders_in_each_other_end(tmp_path):
    for level in range(1, 1101):
        (tmp_path / "/".join("a" * level)).mkdir()
    try:
        with pytest.raises(DataError, match="no pictures"):
            load_images(tmp_path)
    finally:  # pytest's own removal is recursive
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)
