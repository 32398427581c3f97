"""The cache: right pixels, built once, never half written, rebuilt when damaged."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherweight.data import cache
from featherweight.data.cache import cached_pixels
from featherweight.data.decode import decode_square
from featherweight.data.images import load_images
from featherweight.errors import DataError, FailedError, UsageError
from featherweight.networks.preprocessing import Preprocessing


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def pixels_of(data, directory, *, size=16, preprocessing=None, split="train"):
    return cached_pixels(data, split, size=size, preprocessing=preprocessing, directory=directory)


def new_process(monkeypatch):
    """Forget which files were found sound."""
    monkeypatch.setattr(cache, "_sound", {})


def test_row_i_is_picture_i(folder, tmp_path):
    data = load_images(folder)
    preprocessing = Preprocessing(interpolation="bicubic", crop_fraction=0.8)
    for split, part in data.splits.items():
        pixels = pixels_of(data, tmp_path / "c", split=split, preprocessing=preprocessing)
        assert pixels.shape == (len(part), 16, 16, 3)
        assert pixels.dtype == np.uint8
        assert not pixels.flags.writeable
        for row, path in zip(pixels, part.paths_or_bytes, strict=True):
            direct = decode_square(path.read_bytes(), size=16, preprocessing=preprocessing)
            assert (row == direct).all()


def test_decoded_once_and_one_file_per_setting(folder, tmp_path, monkeypatch):
    data = load_images(folder)
    first = pixels_of(data, tmp_path / "c").copy()
    pixels_of(data, tmp_path / "c", size=8)
    pixels_of(data, tmp_path / "c", preprocessing=Preprocessing(crop_fraction=0.5))
    pixels_of(data, tmp_path / "c", preprocessing=Preprocessing(mean=(0.1,) * 3))
    assert len(list((tmp_path / "c").glob("*.npy"))) == 3
    monkeypatch.setattr(cache, "decode_square", None)
    new_process(monkeypatch)
    assert (pixels_of(data, tmp_path / "c") == first).all()


def damage(path, offset):
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 255]))


@pytest.mark.parametrize("harm", ["flip", "truncate", "seal", "no_seal", "middle", "pipe"])
def test_a_damaged_cache_is_rebuilt_with_a_warning(folder, tmp_path, harm, caplog, monkeypatch):
    data = load_images(folder)
    first = pixels_of(data, tmp_path / "c").copy()
    (path,) = (tmp_path / "c").glob("*.npy")
    seal = path.with_suffix(".json")
    if harm == "flip":
        damage(path, path.stat().st_size - 3)
    elif harm == "middle":
        damage(path, path.stat().st_size // 2)
    elif harm == "truncate":
        os.truncate(path, path.stat().st_size - 100)
    elif harm == "seal":
        seal.write_text("{")
    elif harm == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        seal.unlink()
    new_process(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert (pixels_of(data, tmp_path / "c") == first).all()
    assert ("rebuilt" in caplog.text) == (harm != "no_seal")
    assert json.loads(seal.read_text())["size_bytes"] == path.stat().st_size


def test_damage_far_from_the_ends_is_found(folder, tmp_path, monkeypatch, caplog):
    data = load_images(folder)
    first = pixels_of(data, tmp_path / "c", size=512).copy()
    (path,) = (tmp_path / "c").glob("*.npy")
    size = path.stat().st_size
    assert size > 4 * 2**20
    new_process(monkeypatch)
    with path.open("r+b") as stream:  # a page that never reached the disk
        stream.seek(size // 2)
        stream.write(bytes(4096))
    assert (pixels_of(data, tmp_path / "c", size=512) == first).all()
    assert "damaged" in caplog.text


def test_a_file_is_checked_once_in_a_process_unless_it_changes(folder, tmp_path, monkeypatch):
    data, checked = load_images(folder), []
    original = cache._crc32
    monkeypatch.setattr(cache, "_crc32", lambda path: checked.append(path) or original(path))
    pixels_of(data, tmp_path / "c")
    pixels_of(data, tmp_path / "c")
    assert len(checked) == 0
    new_process(monkeypatch)
    pixels_of(data, tmp_path / "c")
    pixels_of(data, tmp_path / "c")
    assert len(checked) == 1
    (path,) = (tmp_path / "c").glob("*.npy")
    os.utime(path, (1, 1))
    pixels_of(data, tmp_path / "c")
    assert len(checked) == 2


@pytest.mark.parametrize("suffix", [".partial", ".npy", ".json"])
def test_a_planted_link_keeps_its_target(folder, tmp_path, suffix):
    data, target = load_images(folder), tmp_path / "precious"
    first = pixels_of(data, tmp_path / "c").copy()
    (path,) = (tmp_path / "c").glob("*.npy")
    for file in (tmp_path / "c").iterdir():
        file.unlink()
    target.write_text("mine")
    path.with_suffix(suffix).symlink_to(target)
    assert (pixels_of(data, tmp_path / "c") == first).all()
    assert target.read_text() == "mine"
    assert not any(file.is_symlink() for file in (tmp_path / "c").iterdir())


def test_a_lock_that_is_a_link_is_refused(folder, tmp_path):
    data, target = load_images(folder), tmp_path / "precious"
    pixels_of(data, tmp_path / "c")
    (lock,) = (tmp_path / "c").glob("*.lock")
    lock.unlink()
    target.write_text("mine")
    lock.symlink_to(target)
    with pytest.raises(FailedError, match=r"\.lock is a link") as caught:
        pixels_of(data, tmp_path / "c")
    assert caught.value.hint
    assert target.read_text() == "mine"


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_files_of_the_cache_have_the_modes_of_the_umask(folder, tmp_path, umask, mode):
    data = load_images(folder)
    before = os.umask(umask)
    try:
        pixels_of(data, tmp_path / "c")
    finally:
        os.umask(before)
    files = sorted((tmp_path / "c").iterdir())
    assert [file.suffix for file in files] == [".json", ".lock", ".npy"]
    assert {file.stat().st_mode & 0o777 for file in files} == {mode}


def test_no_memory_is_a_failure_and_no_broken_picture(folder, tmp_path, monkeypatch):
    def none_left(*_arguments, **_settings):
        raise MemoryError

    data = load_images(folder)
    monkeypatch.setattr(cache, "decode_square", none_left)
    with pytest.raises(FailedError, match=r"memory does not suffice .* cat/") as caught:
        pixels_of(data, tmp_path / "c")
    assert caught.value.exit_code == 1
    assert not list((tmp_path / "c").glob("*.partial"))


def test_the_cache_of_another_user_is_used_though_its_times_cannot_be_set(
    folder, tmp_path, monkeypatch
):
    def refused(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    data = load_images(folder)
    first = pixels_of(data, tmp_path / "c").copy()
    monkeypatch.setattr(os, "utime", refused)
    assert (pixels_of(data, tmp_path / "c") == first).all()


def test_a_killed_build_leaves_nothing_that_is_believed(folder, tmp_path):
    directory = tmp_path / "c"
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from featherweight.data import cache\n"
        "from featherweight.data.images import load_images\n"
        "original = cache.decode_square\n"
        "def slow(*a, **k):\n"
        "    time.sleep(0.2)\n"
        "    return original(*a, **k)\n"
        "cache.decode_square = slow\n"
        "data = load_images(sys.argv[1])\n"
        "cache.cached_pixels(data, 'train', size=16, preprocessing=None,"
        " directory=Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder), str(directory)])
    try:
        deadline = time.monotonic() + 60
        while not list(directory.glob("*.partial")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(directory.glob("*.npy"))
    data = load_images(folder)
    pixels = pixels_of(data, directory)
    source = data.splits["train"].paths_or_bytes[-1]
    assert (pixels[-1] == decode_square(source.read_bytes(), size=16)).all()
    assert not list(directory.glob("*.partial"))


def test_a_picture_that_changed_since_is_named(folder, tmp_path):
    data = load_images(folder)
    path = data.splits["train"].paths_or_bytes[3]
    stream = BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    path.write_bytes(stream.getvalue())
    with pytest.raises(DataError, match=f"{path.parent.name}/{path.name} changed"):
        pixels_of(data, tmp_path / "c")
    path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        pixels_of(data, tmp_path / "c")
    assert not [file for file in (tmp_path / "c").iterdir() if file.suffix != ".lock"]


def test_wrong_arguments_are_refused(folder, tmp_path):
    data = load_images(folder)
    with pytest.raises(UsageError, match="no split named 'dev'"):
        pixels_of(data, tmp_path, split="dev")
    with pytest.raises(UsageError, match="size 0"):
        pixels_of(data, tmp_path, size=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FailedError, match="cannot write the picture cache"):
        pixels_of(data, tmp_path / "file" / "c")


def test_data_modules_do_not_import_torch():
    program = (
        "import sys\n"
        "from featherweight.data import cache, check, images, metrics\n"
        "assert not {'torch', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


def test_rows_alone_are_decoded(folder, tmp_path, monkeypatch):
    data = load_images(folder)
    whole = pixels_of(data, tmp_path / "whole")
    decoded = []
    original = cache.decode_square

    def counting(*arguments, **settings):
        decoded.append(1)
        return original(*arguments, **settings)

    monkeypatch.setattr(cache, "decode_square", counting)
    rows = np.array([5, 0, 3])
    part = cached_pixels(
        data, "train", size=16, preprocessing=None, directory=tmp_path / "c", rows=rows
    )
    assert len(decoded) == 3
    assert (part == whole[rows]).all()
    others = cached_pixels(
        data, "train", size=16, preprocessing=None, directory=tmp_path / "c", rows=np.array([5, 0])
    )
    assert (others == whole[[5, 0]]).all()


def test_a_disk_too_small_is_said_before_it_is_filled(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "make_room", lambda directory, *, needed_bytes: needed_bytes - 1)
    with pytest.raises(FailedError, match=r"need 0\.0 GB and the disk of .* free") as caught:
        pixels_of(load_images(folder), tmp_path / "c")
    assert "FEATHERWEIGHT_HOME" in str(caught.value.hint)
    assert not list((tmp_path / "c").glob("*.partial"))
