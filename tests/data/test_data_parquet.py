"""Shards together: names of one hold for all, splits stay apart, and what is not used is said."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_fixture import encoded, labels_by_content, sizes, write

from featherweight.data import parquet
from featherweight.data.images import load_images
from featherweight.errors import DataError


def test_two_labels_with_one_name_stay_two_classes(tmp_path):
    write(tmp_path / "a.parquet", [i % 3 for i in range(30)], names=["crane", "owl", "crane"])
    data = load_images(tmp_path)
    assert data.classes == ("crane (0)", "owl", "crane (2)")
    expected = {encoded(i): ("crane (0)", "owl", "crane (2)")[i % 3] for i in range(30)}
    assert labels_by_content(data) == expected
    assert [problem.kind for problem in data.skipped] == ["renamed"]
    assert "'crane'" in data.skipped[0].detail


def test_names_of_one_shard_hold_for_those_without(tmp_path):
    write(tmp_path / "train-0.parquet", [i % 2 for i in range(20)], names=["cat", "dog"])
    write(tmp_path / "train-1.parquet", [i % 2 for i in range(20)], start=20)
    write(tmp_path / "test.parquet", ["cat", "dog"] * 5, start=40)
    data = load_images(tmp_path)
    assert data.classes == ("cat", "dog")
    assert labels_by_content(data) == {encoded(i): ("cat", "dog")[i % 2] for i in range(50)}


def test_shards_with_other_names_are_refused(tmp_path):
    write(tmp_path / "train.parquet", [0, 1] * 5, names=["cat", "dog"])
    write(tmp_path / "test.parquet", [0, 1] * 5, names=["dog", "cat"], start=10)
    with pytest.raises(DataError, match="declare different class names") as caught:
        load_images(tmp_path)
    assert "test.parquet" in str(caught.value)
    assert "train.parquet" in str(caught.value)


def test_numbers_in_one_shard_and_texts_in_another_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [0, 1] * 5)
    write(tmp_path / "b.parquet", ["cat", "dog"] * 5, start=10)
    with pytest.raises(DataError, match=r"row a\.parquet:0 has label 0 and row b\.parquet:0 'cat'"):
        load_images(tmp_path)


def test_numbers_written_as_texts_are_the_same_numbers(tmp_path):
    write(tmp_path / "a.parquet", [2, 10] * 5)
    write(tmp_path / "b.parquet", ["2", "10"] * 5, start=10)
    assert load_images(tmp_path).classes == ("2", "10")


def test_a_file_without_a_split_beside_a_test_is_not_taken_for_train(tmp_path):
    write(tmp_path / "pets.parquet", [0, 1] * 10)
    write(tmp_path / "pets_test.parquet", [0, 1] * 5, start=20)
    with pytest.raises(DataError, match="none of train") as caught:
        load_images(tmp_path)
    assert "pets.parquet" in str(caught.value.hint)


def test_files_that_are_not_read_are_said(tmp_path, caplog):
    write(tmp_path / "train.parquet", [0, 1] * 10)
    write(tmp_path / "extra" / "more.parquet", [0, 1], start=20)
    write(tmp_path / "notes.parquet", [0, 1], start=30)
    data = load_images(tmp_path)
    assert sizes(data) == {"train": 16, "val": 2, "test": 2}
    assert [(problem.kind, problem.path) for problem in data.skipped] == [
        ("ignored", "extra"),
        ("ignored", "notes.parquet"),
    ]
    assert "extra" in caplog.text
    assert "notes.parquet" in caplog.text


def test_rows_that_are_skipped_are_said_once(tmp_path, caplog):
    write(tmp_path / "a.parquet", [0, 1] * 10 + [None, None])
    assert len(load_images(tmp_path).skipped) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["2 rows are skipped, first a.parquet:20: the row has no label"]


def test_rows_are_named_by_their_path_below_the_data(tmp_path):
    for start, split in ((0, "train"), (20, "test")):
        write(tmp_path / "default" / split / "0000.parquet", [0, 1] * 10, start=start)
    data = load_images(tmp_path)
    assert data.splits["test"].names[0] == "default/test/0000.parquet:0"


def test_more_pictures_than_memory_are_one_line(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", [0, 1] * 10)
    monkeypatch.setattr(parquet, "_memory_bytes", lambda: 4 * len(encoded(0)))
    with pytest.raises(DataError, match="half of this machine's") as caught:
        load_images(tmp_path)
    assert "folder" in str(caught.value.hint)


def test_a_picture_of_nobody_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_LARGEST_PICTURE", 1000)
    images = pa.array([encoded(i) for i in range(20)] + [b"\0" * 1001])
    write(tmp_path / "a.parquet", [0, 1] * 10 + [0], images=images)
    data = load_images(tmp_path)
    assert [problem.path for problem in data.skipped] == ["a.parquet:20"]


def test_a_file_without_rows_is_one_line(tmp_path):
    empty = {"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}
    pq.write_table(pa.table(empty), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no pictures"):
        load_images(tmp_path)
