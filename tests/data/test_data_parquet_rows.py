"""A file is read in pieces: little memory, whatever it unpacks to, and one line when it cannot."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_fixture import encoded, labels_by_content, write

from featherweight.data import parquet_rows
from featherweight.data.images import load_images
from featherweight.errors import DataError, FailedError


@pytest.fixture
def pool():
    """Count what Arrow allocates during the test."""
    before, counting = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counting)
    yield counting
    pa.set_memory_pool(before)


def repeated(path, content, *, rows, **settings):
    """Write a file in which each row is the same picture, stored once."""
    picture = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([content]))
    table = pa.table({"image": picture, "label": [i % 2 for i in range(rows)]})
    pq.write_table(table, path, compression="zstd", store_schema=False, **settings)


def test_a_small_file_of_gigabytes_is_refused_with_little_memory(tmp_path, pool):
    path = tmp_path / "bomb.parquet"
    repeated(path, b"\0" * 2**20, rows=1200)
    assert path.stat().st_size < 2000
    with pytest.raises(DataError, match=r"bomb\.parquet has [\d,]+ bytes and unpacks to") as caught:
        load_images(path)
    assert "\n" not in str(caught.value)
    assert pool.max_memory() < 300 * 2**20


def test_a_large_value_that_rows_repeat_is_read_row_by_row(tmp_path, pool, monkeypatch):
    content = np.random.default_rng(0).bytes(2**20)
    repeated(tmp_path / "a.parquet", content, rows=60)
    monkeypatch.setattr(parquet_rows, "_BATCH_BYTES", 2**20)
    monkeypatch.setattr(parquet_rows, "_FILE_BYTES_PER_ROW", 1)
    columns = parquet_rows.read_columns(tmp_path / "a.parquet")
    rows = parquet_rows.read_rows(tmp_path / "a.parquet", columns)
    assert [(image == content, label) for image, label in rows] == [(True, 0), (True, 1)] * 30
    assert pool.max_memory() < 20 * 2**20


def test_many_rows_in_few_bytes_are_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    repeated(path, encoded(0), rows=100_000)
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match=r"unpacks to 10,\d+ rows"):
        load_images(path)


def test_a_large_page_is_refused_before_it_is_unpacked(tmp_path, pool):
    path = tmp_path / "page.parquet"
    repeated(path, b"\0" * 66 * 2**20, rows=2)
    written = pool.max_memory()
    with pytest.raises(DataError, match="unpacks to 69 MB"):
        load_images(path)
    assert pool.max_memory() == written


def test_pictures_in_many_row_groups_keep_their_labels(tmp_path):
    write(tmp_path / "a.parquet", [i % 2 for i in range(200)])
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    data = load_images(tmp_path)
    assert labels_by_content(data) == {encoded(i): "01"[i % 2] for i in range(200)}


def test_no_memory_is_a_failure_of_the_work(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet", [0, 1] * 10)

    def none_left(*_arguments, **_settings):
        raise pa.ArrowMemoryError("malloc of size 17179869184 failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", none_left)
    with pytest.raises(FailedError, match="memory does not suffice") as caught:
        load_images(tmp_path)
    assert caught.value.exit_code == 1


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.parquet")
    for source in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(DataError, match=r"no pictures in|is a named pipe"):
            load_images(source)


def test_texts_that_are_none_are_a_damaged_file(tmp_path):
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
    )
    write(tmp_path / "a.parquet", texts)
    with pytest.raises(DataError, match=r"cannot read .* as Parquet"):
        load_images(tmp_path)


def test_damage_anywhere_is_one_line(tmp_path):
    """Each byte that is overwritten gives data, or one line: no other exception."""
    path = tmp_path / "a.parquet"
    write(path, [i % 2 for i in range(12)], names=["cat", "dog"])
    sound = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(sound)
        for position in generator.integers(0, len(sound), size=int(generator.integers(1, 4))):
            damaged[position] = int(generator.integers(0, 256))
        path.write_bytes(damaged)
        try:
            load_images(path)
        except (DataError, FailedError) as error:
            assert "\n" not in str(error)  # noqa: PT017
