"""Every column that says clearly what it holds is read; the others are named with their type."""

import datetime as dt
import logging
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_fixture import encoded, labels_by_content, write

from featherweight.data.images import load_images
from featherweight.errors import DataError

NAN = float("nan")


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (pa.array([0.0, 1.0] * 10), ["cat", "dog"], ("cat", "dog")),
        (pa.array([2.0, 10.0] * 10, pa.float32()), None, ("2", "10")),
        (pa.array([Decimal(3), Decimal(4)] * 10, pa.decimal128(5, 2)), None, ("3", "4")),
        (pa.array([False, True] * 10), ["cat", "dog"], ("cat", "dog")),
        (pa.array([False, True] * 10), None, ("False", "True")),
        (pa.array([b"cat", b"dog"] * 10), None, ("cat", "dog")),
        (pa.array(["cat", "dog"] * 10, pa.string_view()), None, ("cat", "dog")),
        (pa.array(["cat", "dog"] * 10).dictionary_encode(), None, ("cat", "dog")),
        (pa.array(["cat", "dog"] * 10), ["cat", "dog"], ("cat", "dog")),
        (pa.array(["7", "star"] * 10), None, ("7", "star")),
        (pa.array([0, 1] * 10, pa.uint8()), {"0": "cat", "1": "dog"}, ("cat", "dog")),
    ],
    ids=[
        "floats",
        "single floats",
        "decimals",
        "booleans with names",
        "booleans",
        "bytes",
        "text views",
        "dictionary",
        "texts with names",
        "numbers among texts",
        "names by number",
    ],
)
def test_clear_labels_are_read(tmp_path, labels, names, classes):
    write(tmp_path / "a.parquet", labels, names=names)
    data = load_images(tmp_path)
    assert data.classes == classes
    assert labels_by_content(data) == {encoded(i): classes[i % 2] for i in range(20)}


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary(), pa.binary()], ids=str)
def test_every_kind_of_bytes_is_a_picture(tmp_path, kind):
    contents = [encoded(i) for i in range(20)]
    write(tmp_path / "plain.parquet", [0, 1] * 10, images=pa.array(contents, kind))
    inside = pa.array([{"bytes": c} for c in contents], pa.struct([("bytes", kind)]))
    write(tmp_path / "struct.parquet", [0, 1] * 10, images=inside)
    for name in ("plain.parquet", "struct.parquet"):
        assert set(labels_by_content(load_images(tmp_path / name))) == set(contents)


@pytest.mark.parametrize(
    ("empty", "labels"),
    [
        (NAN, [0.0, 1.0] * 10),
        (None, [0.0, 1.0] * 10),
        (" ", ["cat", "dog"] * 10),
    ],
)
def test_an_empty_label_is_a_skipped_row(tmp_path, empty, labels):
    write(tmp_path / "a.parquet", [*labels, empty])
    data = load_images(tmp_path)
    assert [problem.path for problem in data.skipped] == ["a.parquet:20"]
    assert len(data.classes) == 2


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0.5, 1.0], None, "row a.parquet:0 has label 0.5"),
        ([1.0, float("inf")], None, "row a.parquet:1 has label inf"),
        ([b"cat", b"\xff"], None, r"row a.parquet:1 has label b'\xff'"),
        (["cat", "fox"], ["cat", "dog"], "row a.parquet:1 has label 'fox'"),
        ([0.0, 2.0], ["cat", "dog"], "row a.parquet:1 has label 2"),
        (pa.array([[0], [1]]), None, "the label column 'label' of"),
        (pa.array([dt.date(2026, 1, 1)] * 2), None, "holds date32[day]"),
    ],
    ids=["half", "infinite", "no text", "other text", "too large", "lists", "dates"],
)
def test_labels_without_a_meaning_are_named(tmp_path, labels, names, words):
    write(tmp_path / "a.parquet", labels, names=names)
    with pytest.raises(DataError) as caught:
        load_images(tmp_path)
    assert words in str(caught.value)
    assert caught.value.allowed


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (pa.array(["a.jpg", "b.jpg"]), "holds string"),
        (pa.array([[1, 2], [3]], pa.list_(pa.uint8())), "holds list<"),
        (pa.array([{"path": "a.jpg"}] * 2), "holds struct<path: string>"),
    ],
    ids=["paths", "lists", "paths in a struct"],
)
def test_pictures_that_are_no_bytes_are_named(tmp_path, images, words):
    write(tmp_path / "a.parquet", [0, 1], images=images)
    with pytest.raises(DataError, match="the image column 'image' of") as caught:
        load_images(tmp_path)
    assert words in str(caught.value)


def test_one_name_written_in_two_ways_is_one_class(tmp_path):
    write(tmp_path / "a.parquet", ["caf\u00e9", "cafe\u0301", "bar"] * 8)
    assert load_images(tmp_path).classes == ("bar", "caf\u00e9")


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [pa.array([encoded(0)]), pa.array([0]), pa.array([1])]
    table = pa.Table.from_arrays(columns, names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns named 'label'"):
        load_images(tmp_path)


def test_a_column_whose_name_has_a_dot_does_not_disturb(tmp_path):
    contents = [encoded(i) for i in range(20)]
    table = pa.table(
        {
            "image": pa.array(contents),
            "label": [0, 1] * 10,
            "label.source": ["x"] * 20,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert set(labels_by_content(load_images(tmp_path))) == set(contents)


@pytest.mark.parametrize("names", ["ab", [["a"], ["b"]], {"x": "a", "y": "b"}], ids=str)
def test_names_that_cannot_be_read_leave_numbers_and_say_so(tmp_path, names, caplog):
    write(tmp_path / "a.parquet", [0, 1] * 10, names=names)
    with caplog.at_level(logging.WARNING):
        assert load_images(tmp_path).classes == ("0", "1")
    assert "class names cannot be read" in caplog.text


def test_deep_metadata_is_no_crash(tmp_path, caplog):
    table = pa.table({"image": [encoded(i) for i in range(20)], "label": [0, 1] * 10})
    table = table.replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_images(tmp_path).classes == ("0", "1")
    assert "metadata cannot be read" in caplog.text
