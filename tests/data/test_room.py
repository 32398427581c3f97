"""The picture cache stays small: what was used longest ago goes first, and nothing in use."""

import fcntl
import os
import shutil
import time
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from featherweight.data import cache, room
from featherweight.data.cache import cached_pixels
from featherweight.data.images import load_images
from featherweight.data.room import make_room

NOW = time.time()
DAY = 86_400


def cache_file(directory, stem, *, days_ago, size=100):
    for suffix in (".npy", ".json", ".lock"):
        path = directory / f"{stem}{suffix}"
        path.write_bytes(b"x" * (size if suffix == ".npy" else 0))
        os.utime(path, (NOW - days_ago * DAY,) * 2)


def stems(directory):
    return sorted(path.stem for path in directory.glob("*.npy"))


@pytest.fixture
def three(tmp_path):
    cache_file(tmp_path, "oldest", days_ago=3)
    cache_file(tmp_path, "older", days_ago=2)
    cache_file(tmp_path, "now", days_ago=0)
    return tmp_path


def free_space(monkeypatch, directory, free):
    """Let the disk have this much free while the cache is whole."""
    usage = namedtuple("usage", "free")
    whole = sum(path.stat().st_size for path in directory.glob("*.npy"))

    def disk_usage(_):
        gone = whole - sum(path.stat().st_size for path in directory.glob("*.npy"))
        return usage(free + gone)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (200, ["now", "older", "oldest"]),
        (199, ["now", "older"]),
        (99, ["now"]),
        (0, ["now"]),
    ],
)
def test_earlier_commands_keep_so_much(three, monkeypatch, kept, left):
    monkeypatch.setattr(room, "KEPT_BYTES", kept)
    make_room(three, needed_bytes=1, started=NOW - DAY)
    assert stems(three) == left
    assert sorted(path.stem for path in three.glob("*.json")) == left


@pytest.mark.parametrize(
    ("needed", "left"),
    [
        (50, ["now", "older", "oldest"]),
        (51, ["now", "older"]),
        (251, []),
        (1000, []),
    ],
)
def test_a_full_disk_takes_this_commands_files_too(three, monkeypatch, needed, left):
    monkeypatch.setattr(room, "_SPARE_BYTES", 0)
    free_space(monkeypatch, three, 50)
    free = make_room(three, needed_bytes=needed, started=NOW - DAY)
    assert stems(three) == left
    assert free == 50 + 100 * (3 - len(left))


def test_what_is_being_built_is_left_alone(three, monkeypatch):
    monkeypatch.setattr(room, "KEPT_BYTES", 100)
    with (three / "oldest.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_room(three, needed_bytes=1, started=NOW - DAY)
    assert stems(three) == ["now", "oldest"]


def test_a_lock_that_is_a_link_is_left_alone(three, monkeypatch, tmp_path_factory, caplog):
    monkeypatch.setattr(room, "KEPT_BYTES", 100)
    target = tmp_path_factory.mktemp("other") / "precious"
    target.write_text("mine")
    (three / "oldest.lock").unlink()
    (three / "oldest.lock").symlink_to(target)
    make_room(three, needed_bytes=1, started=NOW - DAY)
    assert stems(three) == ["now", "oldest"]
    assert target.read_text() == "mine"
    assert "oldest.lock is a link" in caplog.text


def test_a_half_written_file_goes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "KEPT_BYTES", 0)
    (tmp_path / "killed.partial").write_bytes(b"x" * 100)
    make_room(tmp_path, needed_bytes=1, started=time.time() + 60)
    assert [path.name for path in tmp_path.iterdir()] == ["killed.lock"]


def test_use_is_noted_and_mapped_pixels_outlive_their_file(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            picture = Image.fromarray(np.full((20, 30, 3), number * 20, dtype=np.uint8))
            picture.putpixel((0, 0), (number, len(name), ord(name[0])))
            picture.save(tmp_path / "pets" / name / f"{number}.png")
    data, directory = load_images(tmp_path / "pets"), tmp_path / "c"

    def ask(size):
        return cached_pixels(data, "val", size=size, preprocessing=None, directory=directory)

    first, _ = ask(16), ask(24)
    before = first.copy()
    for path in directory.iterdir():
        os.utime(path, (NOW - DAY,) * 2)
    ask(24)
    monkeypatch.setattr(room, "KEPT_BYTES", 0)
    monkeypatch.setattr(cache, "make_room", lambda d, **k: make_room(d, **k, started=NOW - 60))
    ask(8)
    assert sorted(path.name.split("-")[1] for path in directory.glob("*.npy")) == ["24", "8"]
    assert (first == before).all()
    assert (ask(16) == before).all()
