"""check_data names each defect that was planted, and only those."""

import numpy as np
import pytest
from PIL import Image

from featherweight.data.check import check_data


@pytest.fixture
def folder(tmp_path):
    """A clean data set with given splits."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (80, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def kinds(report):
    return sorted(problem.kind for problem in report.problems)


def copy(folder, source, target):
    (folder / target).write_bytes((folder / source).read_bytes())


def test_clean_data_have_no_problems(folder):
    report = check_data(folder)
    assert report.ok
    assert report.problems == ()
    assert report.classes == ("cat", "dog")
    assert report.images == 28
    assert report.per_class["dog"] == {"train": 8, "val": 3, "test": 3}


def test_duplicates_leaks_and_conflicts_are_told_apart(folder):
    copy(folder, "train/cat/0.png", "train/cat/x.png")
    copy(folder, "train/cat/1.png", "test/cat/x.png")
    copy(folder, "train/cat/2.png", "train/dog/x.png")
    report = check_data(folder)
    found = {problem.kind: problem for problem in report.problems}
    assert kinds(report) == ["duplicate", "label_conflict", "leak"]
    assert found["duplicate"].path == "train/cat/0.png"
    assert "test/cat/x.png: in train and test" in found["leak"].detail
    assert "labelled cat, dog" in found["label_conflict"].detail
    assert report.ok


def test_broken_tiny_and_grey_pictures(folder):
    (folder / "train/cat/broken.jpg").write_bytes(b"x")
    Image.new("L", (3, 90), 7).save(folder / "train/dog/tiny.png")
    report = check_data(folder)
    assert kinds(report) == ["broken", "mixed_modes", "tiny"]
    assert {problem.path for problem in report.problems} >= {
        "train/cat/broken.jpg",
        "train/dog/tiny.png",
    }
    assert report.ok


def test_uneven_and_missing_classes(folder):
    for number in range(1, 8):
        (folder / f"train/dog/{number}.png").unlink()
        pixels = np.full((80, 90, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"train/cat/more{number}.png")
    for number in range(3):
        (folder / f"val/dog/{number}.png").unlink()
    report = check_data(folder)
    assert kinds(report) == ["imbalance", "missing_class"]
    assert {problem.path for problem in report.problems} == {"dog"}


def test_unusable_data_are_reported_not_raised(tmp_path):
    report = check_data(tmp_path / "absent")
    assert not report.ok
    assert kinds(report) == ["error"]
    assert "no such file" in report.problems[0].detail
