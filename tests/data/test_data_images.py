"""Folders, Parquet and the demo become ImageData, or one clear line."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from featherweight.data.images import load_images
from featherweight.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def encoded(value, *, size=(12, 10), form="PNG"):
    """Return a picture whose content is unique for `value`."""
    pixels = np.random.default_rng(value).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def fill(folder, count, *, start, form="PNG"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (folder / f"{number}.{form.lower()}").write_bytes(encoded(number, form=form))


def make(root, layout):
    """Create {"train/cat": 5, ...} with globally unique pictures."""
    start = 0
    for folder, count in layout.items():
        fill(root / folder, count, start=start)
        start += count
    return root


def counts(data):
    return {
        name: np.bincount(part.targets, minlength=2).tolist() for name, part in data.splits.items()
    }


def write_parquet(path, rows, *, names=None, columns=("image", "label")):
    image = pa.array(
        [{"bytes": content, "path": None} for content, _ in rows],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({columns[0]: image, columns[1]: pa.array([label for _, label in rows])})
    if names:
        features = {
            columns[0]: {"_type": "Image"},
            columns[1]: {"names": names, "_type": "ClassLabel"},
        }
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            {"cat": 20, "dog": 30},
            {"train": [16, 24], "val": [2, 3], "test": [2, 3]},
        ),
        (
            {"train/cat": 20, "train/dog": 30},
            {"train": [16, 24], "val": [2, 3], "test": [2, 3]},
        ),
        (
            {"train/cat": 20, "train/dog": 30, "test/cat": 4, "test/dog": 5},
            {"train": [18, 27], "val": [2, 3], "test": [4, 5]},
        ),
        (
            {"Train/cat": 20, "Train/dog": 30, "valid/cat": 4, "valid/dog": 5},
            {"train": [18, 27], "val": [2, 3], "test": [4, 5]},
        ),
        (
            {
                "train/cat": 5,
                "train/dog": 6,
                "validation/cat": 3,
                "validation/dog": 2,
                "test/cat": 4,
                "test/dog": 1,
            },
            {"train": [5, 6], "val": [3, 2], "test": [4, 1]},
        ),
        (
            {"unpacked/cat": 20, "unpacked/dog": 30},
            {"train": [16, 24], "val": [2, 3], "test": [2, 3]},
        ),
    ],
)
def test_every_folder_layout_gives_three_stratified_splits(tmp_path, layout, expected):
    data = load_images(str(make(tmp_path / "pets", layout)))
    assert counts(data) == expected
    assert data.classes == ("cat", "dog")
    assert (data.name, data.channels, data.typical_size) == ("pets", 3, 10)
    for part in data.splits.values():
        for path, label in zip(part.paths_or_bytes, part.targets, strict=True):
            assert path.parent.name == data.classes[label]


def test_a_class_may_be_called_like_a_split(tmp_path):
    data = load_images(make(tmp_path, {"train": 10, "car": 10, "valid": 10}))
    assert data.classes == ("car", "train", "valid")


def test_what_is_not_a_picture_in_a_class_is_ignored_and_said(tmp_path):
    root = make(tmp_path, {"cat": 10, "dog": 10, ".hidden": 3, "cat/more": 3})
    (root / "README.md").write_text("x")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / ".DS_Store").write_text("x")
    (root / "docs").mkdir()
    data = load_images(root)
    assert data.classes == ("cat", "dog")
    assert sum(map(len, data.splits.values())) == 20
    assert {(problem.kind, problem.path) for problem in data.skipped} == {
        ("ignored", "."),
        ("ignored", "cat"),
        ("ignored", "cat/more"),
        ("empty_class", "docs"),
        ("lost", "cat"),
    }


def test_broken_pictures_are_skipped_and_labels_stay_aligned(tmp_path):
    root = make(tmp_path, {"cat": 12, "dog": 12})
    jpeg = encoded(1, size=(200, 200), form="JPEG")
    (root / "cat" / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "text.jpg").write_text("not a picture")
    data = load_images(root)
    broken = {problem.path: problem.detail for problem in data.skipped}
    assert set(broken) == {"cat/truncated.jpg", "cat/empty.png", "dog/text.jpg"}
    assert "truncated" in broken["cat/truncated.jpg"]
    assert sum(map(len, data.splits.values())) == 24
    for part in data.splits.values():
        assert len(part) == len(part.names) == len(part.inspections) == len(part.paths_or_bytes)
        for name, label in zip(part.names, part.targets, strict=True):
            assert name.split("/")[0] == data.classes[label]


def test_the_seed_draws_and_the_fingerprint_tells(tmp_path):
    root = make(tmp_path / "a", {"cat": 20, "dog": 20})
    first, again, other = load_images(root), load_images(root), load_images(root, seed=1)
    assert first.fingerprint == again.fingerprint
    assert first.splits["test"].names == again.splits["test"].names
    assert first.splits["test"].names != other.splits["test"].names
    moved = root.rename(tmp_path / "b")
    assert load_images(moved).fingerprint == first.fingerprint
    (moved / "cat" / "0.png").write_bytes(encoded(999))
    assert load_images(moved).fingerprint != first.fingerprint


def test_the_fingerprint_covers_content_where_splits_are_given(tmp_path):
    root = make(
        tmp_path, {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in "ab"}
    )
    before = load_images(root)
    (root / "train" / "a" / "0.png").write_bytes(encoded(999))
    after = load_images(root)
    assert before.splits["train"].names == after.splits["train"].names
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({}, "no pictures"),
        ({".": 4}, "no class folders"),
        ({"train": 4, "test": 4}, "no class folders"),
        ({"cat": 9}, "one class only ('cat')"),
        ({"cat": 9, "dog": 2}, "class 'dog' has 2 usable pictures"),
        ({"val/cat": 4, "val/dog": 4, "test/cat": 4, "test/dog": 4}, "no train folder"),
        ({"train/a": 4, "val/a": 4, "valid/a": 4}, "two folders for the split 'val'"),
        (
            {"train/cat": 9, "train/dog": 9, "test/cat": 3, "test/cow": 3},
            "class 'cow' is in test but not in train",
        ),
    ],
)
def test_unusable_folders_are_one_clear_line(tmp_path, layout, words):
    with pytest.raises(DataError) as caught:
        load_images(make(tmp_path, layout))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.allowed


def test_too_many_broken_pictures_name_the_first(tmp_path):
    root = make(tmp_path, {"cat": 4, "dog": 4})
    for number in range(9):
        (root / "cat" / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"9 of 17 pictures are broken, first cat/broken0\.jpg"):
        load_images(root)


def test_missing_paths_and_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_images(tmp_path / "absent")
    archive = tmp_path / "data.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DataError, match="not Parquet"):
        load_images(archive)
    false = tmp_path / "data.parquet"
    false.write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot read .* as Parquet"):
        load_images(false)


def test_parquet_files_carry_splits_and_class_names(tmp_path):
    rows = [(encoded(i), i % 2) for i in range(40)]
    names = ["zebra", "ant", "never used"]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", rows[:10], names=names)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", rows[10:20], names=names)
    write_parquet(tmp_path / "validation.parquet", rows[20:30], names=names)
    write_parquet(tmp_path / "test.parquet", rows[30:], names=names)
    data = load_images(tmp_path)
    assert data.classes == ("zebra", "ant")
    assert counts(data) == {"train": [10, 10], "val": [5, 5], "test": [5, 5]}
    expected = dict(rows)
    for part in data.splits.values():
        assert [expected[content] for content in part.paths_or_bytes] == part.targets.tolist()
    assert [problem.path for problem in data.skipped] == ["never used"]


@pytest.mark.parametrize("layout", ["data/{}-0.parquet", "{}/0000.parquet"])
def test_parquet_in_the_folders_that_hugging_face_writes(tmp_path, layout):
    for start, split in ((0, "train"), (20, "test")):
        rows = [(encoded(start + i), "ab"[i % 2]) for i in range(20)]
        write_parquet(tmp_path / layout.format(split), rows)
    data = load_images(tmp_path)
    assert data.classes == ("a", "b")
    assert counts(data) == {"train": [9, 9], "val": [1, 1], "test": [10, 10]}


def test_a_single_parquet_file_is_split_and_numbers_sort_by_value(tmp_path):
    path = tmp_path / "all.parquet"
    write_parquet(path, [(encoded(i), (2, 10)[i % 2]) for i in range(40)], columns=("IMG", "Class"))
    data = load_images(path)
    assert data.classes == ("2", "10")
    assert counts(data) == {"train": [16, 16], "val": [2, 2], "test": [2, 2]}


def test_rows_without_bytes_or_label_are_skipped(tmp_path):
    rows = [(encoded(i), i % 2) for i in range(20)]
    rows[3], rows[4] = (None, 1), (encoded(4), None)
    write_parquet(tmp_path / "a.parquet", rows)
    data = load_images(tmp_path / "a.parquet")
    assert [problem.path for problem in data.skipped] == ["a.parquet:3", "a.parquet:4"]
    assert sum(map(len, data.splits.values())) == 18


@pytest.mark.parametrize(
    ("columns", "words"),
    [(("photo", "label"), "no image column"), (("image", "kind"), "no label column")],
)
def test_parquet_without_the_columns_lists_what_it_has(tmp_path, columns, words):
    path = tmp_path / "a.parquet"
    write_parquet(path, [(encoded(i), i % 2) for i in range(8)], columns=columns)
    with pytest.raises(DataError, match=words) as caught:
        load_images(path)
    assert ", ".join(columns) in str(caught.value)


def test_unlabelled_rows_are_an_error(tmp_path):
    rows = [(encoded(i), i % 2) for i in range(20)]
    write_parquet(tmp_path / "train.parquet", rows, names=["a", "b"])
    write_parquet(tmp_path / "test.parquet", [(encoded(99), -1)], names=["a", "b"])
    with pytest.raises(DataError, match=r"row test\.parquet:0 has label -1"):
        load_images(tmp_path)


def test_the_demo_is_the_digits():
    data = load_images("demo")
    assert sum(map(len, data.splits.values())) == 1797
    assert data.classes == tuple("0123456789")
    assert data.typical_size == 8
    assert not data.skipped
    assert min(np.bincount(data.splits["test"].targets)) >= 16


@pytest.mark.data
def test_real_parquet_rows_keep_their_labels():
    path = SHARED / "cifar10" / "test.parquet"
    if not path.exists():
        pytest.skip("no ../shared/data/cifar10")
    data = load_images(path)
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert [len(part) for part in data.splits.values()] == [4000, 500, 500]
    assert np.bincount(data.splits["test"].targets).tolist() == [50] * 10
