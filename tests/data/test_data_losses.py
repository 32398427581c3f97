"""Whatever is not used is said, by every command that loads data; DATA itself may be anything."""

import os
from pathlib import Path

import numpy as np
import pytest

from featherweight.cli.app import run
from featherweight.data.check import check_data
from featherweight.data.images import load_images
from featherweight.errors import DataError

ESCAPE = "\x1b]0;owned\x07cat\x1b[2J"


def heic(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"IMG_{number}.CR2").write_bytes(b"raw")


def test_a_class_in_a_format_that_is_not_read_is_said(tmp_path, plant, said):
    root = plant(tmp_path, {"cat": 9, "dog": 9})
    heic(root / "fox", 5)
    data = load_images(root)
    assert data.classes == ("cat", "dog")
    assert [line for line in said if "'fox' lost all its 5 pictures" in line and ".cr2" in line]
    report = check_data(root)
    assert report.ok
    found = {problem.path: problem for problem in report.problems}
    assert found["fox"].kind == "empty_class"
    assert "5 .cr2" in found["fox"].detail


def test_every_class_that_lost_pictures_is_said(tmp_path, plant, said):
    layout = {f"class{number:02}": 5 for number in range(30)}
    root = plant(tmp_path, layout)
    for name in layout:
        heic(root / name, 1)
    (root / "class07" / "broken.jpg").write_bytes(b"no")
    data = load_images(root)
    text = "\n".join(said)
    assert all(f"'{name}'" in text for name in layout)
    assert "class 'class07' lost 2 of 7 pictures: 1 broken, 1 .cr2" in text
    assert len(said) < 20
    lost = {problem.path: problem.detail for problem in data.skipped if problem.kind == "lost"}
    assert lost.keys() == layout.keys()


def test_a_raw_file_beside_its_jpeg_is_no_loss(tmp_path, plant, said):
    root = plant(tmp_path, {"cat": 9, "dog": 9})
    (root / "cat" / "0.NEF").write_bytes(b"raw")
    data = load_images(root)
    assert not any("lost" in line for line in said)
    assert "1 .nef" in next(p.detail for p in data.skipped if p.path == "cat")


def test_what_else_is_not_used_is_two_lines(tmp_path, plant, said):
    root = plant(tmp_path, {"cat": 9, "dog": 9, "videos": 0})
    (root / "videos" / "1.mp4").write_bytes(b"x")
    (root / "README.md").write_text("x")
    (root / "cat" / "labels").write_text("x")
    load_images(root)
    assert len(said) == 2
    assert said[0] == "videos: no pictures in this folder (1 .mp4): not a class"
    assert "README.md" in said[1]
    assert "data check" in said[1]


def test_the_heic_library_is_named(tmp_path, plant, said, monkeypatch):
    from featherweight.data import folders

    monkeypatch.setattr(folders, "IMAGE_SUFFIXES", folders.IMAGE_SUFFIXES - {".heic"})
    root = plant(tmp_path, {"cat": 9, "dog": 9})
    (root / "cat" / "x.HEIC").write_bytes(b"x")
    load_images(root)
    assert any("1 .heic" in line and "pip install pillow-heif" in line for line in said)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({}, r"no pictures .*12 \.cr2"),
        ({"dog": 9}, r"one class only \('dog'\).*12 \.cr2"),
        ({"dog": 9, "cat": 2}, r"class 'cat' has 2 usable pictures.*12 \.cr2"),
    ],
)
def test_a_refusal_says_what_was_lost(tmp_path, plant, layout, words):
    root = plant(tmp_path, layout)
    heic(root / "cat", 12)
    with pytest.raises(DataError, match=words):
        load_images(root)


def test_escape_sequences_in_names_do_not_reach_the_terminal(tmp_path, plant, said, capfd):
    root = plant(tmp_path / ESCAPE, {ESCAPE: 9, "dog\nerror: false": 9, f"{ESCAPE}/{ESCAPE}": 1})
    (root / ESCAPE / f"{ESCAPE}.jpg").write_bytes(b"no")
    heic(root / "dog\nerror: false", 3)
    data = load_images(root)
    assert ESCAPE in data.classes, "the class keeps its name"
    assert len(said) >= 3
    assert all(line.isprintable() for line in said)
    assert run(["data", "check", str(root)]) == 0
    shown = capfd.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\\x1b]0;owned" in shown.out
    assert run(["data", "check", str(root / "no")]) == 2
    assert "\x1b" not in capfd.readouterr().out


def test_check_says_all_once(tmp_path, plant, capfd):
    root = plant(tmp_path, {"cat": 9, "dog": 9})
    heic(root / "dog", 3)
    assert run(["data", "check", str(root)]) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert shown.out.count("3 of 12") == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x" * 300, "File name too long"),
        ("y" * 300 + "/a.parquet", "File name too long"),
        ("~nosuchuser", "no such user"),
        ("~nosuchuser/pets", "no such user"),
        ("a\0b", "null byte"),
        ("", "empty"),
        (" ", "empty"),
        (np.zeros(3), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_data_that_is_no_place(source, words):
    with pytest.raises(DataError, match=words) as caught:
        load_images(source)
    assert caught.value.allowed
    assert not check_data(source).ok


def test_demo_is_the_digits_and_a_path_of_that_name_is_a_folder(tmp_path, plant, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plant(tmp_path / "demo", {"cat": 4, "dog": 4})
    assert load_images(Path("demo")).classes == ("cat", "dog")
    assert load_images("./demo").classes == ("cat", "dog")
    assert len(load_images("demo").classes) == 10


@pytest.mark.parametrize("data", ["x" * 300, "~nosuchuser", "a\0b", ""])
def test_commands_refuse_data_that_is_no_place(data, tmp_path, capfd):
    for arguments in (
        ["fit", data, "--latency", "5ms", "--output", str(tmp_path / "a")],
        ["train", data, "--model", "convnet", "--output", str(tmp_path / "b")],
        ["data", "check", data],
    ):
        assert run(arguments) == 2
        assert "Traceback" not in capfd.readouterr().err


def test_data_that_is_no_file(tmp_path):
    for name in ("pipe", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="named pipe"):
            load_images(tmp_path / name)
    with pytest.raises(DataError, match="device"):
        load_images("/dev/zero")
