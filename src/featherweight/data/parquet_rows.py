"""Read the rows of a Parquet file, a few at a time: a small file may unpack to gigabytes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featherweight.data.parquet_columns import ParquetColumns, find_columns
from featherweight.errors import DataError, FailedError

__all__ = ["LARGEST_RATIO", "read_columns", "read_rows"]

LARGEST_RATIO = 100
"""Times its size that a file may unpack to: encoded pictures hardly shrink any further."""

_SMALL_BYTES = 64 * 2**20
"""What any file may unpack to, however small it is."""

_SMALL_ROWS = 10_000
_LEAST_ROW_BYTES = 16
"""Of the file, for each row beyond those: the smallest PNG has 67."""

_BATCH_BYTES = 512 * 2**20
_BATCH_ROWS = 64
_FILE_BYTES_PER_ROW = 2**16
_BUFFER_BYTES = 2**20


def read_columns(file: Path) -> ParquetColumns:
    """Read which columns a file has; no row is read.

    Raises:
        DataError: the file is not Parquet, or lacks pictures or labels.
    """
    with _opened(file) as parquet:
        return find_columns(parquet.schema_arrow, file=file)


def read_rows(file: Path, columns: ParquetColumns) -> Iterator[tuple[bytes | None, Any]]:
    """Yield the picture and the label of every row.

    Held in memory are a batch of at most half a gigabyte (or one row) and the pages it lies in.

    Raises:
        DataError: the file is damaged, or unpacks to more than pictures can.
        FailedError: memory does not suffice.
    """
    size = file.stat().st_size
    largest = max(_SMALL_BYTES, LARGEST_RATIO * size)
    most_rows = max(_SMALL_ROWS, size // _LEAST_ROW_BYTES)
    wanted = [f"{columns.image}.bytes" if columns.in_struct else columns.image, columns.label]
    unpacked = rows = 0
    with _opened(file) as parquet:
        # Not the sizes of single columns: pyarrow ends the process on some damaged ones.
        groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
        stored = max((group.total_byte_size for group in groups), default=0)
        if stored > largest:
            raise _bomb(file, size=size, detail=f"{stored / 1e6:,.0f} MB")
        batch_rows = _batch_rows(stored, file_bytes=size)
        for batch in parquet.iter_batches(batch_rows, columns=wanted, use_threads=False):
            images, labels = batch.column(columns.image), batch.column(columns.label)
            if columns.in_struct:
                images = pc.struct_field(images, "bytes")
            unpacked += images.nbytes + labels.nbytes
            rows += batch.num_rows
            if unpacked > largest:
                raise _bomb(file, size=size, detail=f"{unpacked / 1e6:,.0f} MB and more")
            if rows > most_rows:
                raise _bomb(file, size=size, detail=f"{rows:,} rows and more")
            yield from zip(images.to_pylist(), labels.to_pylist(), strict=True)


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    """Open a file, and say in one line why it cannot be read, whenever that shows."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would block for ever
            raise DataError(f"{file} is no regular file", allowed="Parquet files")
        with pq.ParquetFile(
            file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        ) as parquet:
            yield parquet
    except MemoryError as error:
        raise FailedError(
            f"memory does not suffice to read {file}",
            hint="end other programs, or write the file with smaller row groups",
        ) from error
    # UnicodeDecodeError: a text that is none.
    except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot read {file} as Parquet: {reason}", hint="write or download the file again"
        ) from error


def _batch_rows(stored_bytes: int, *, file_bytes: int) -> int:
    """Return how many rows are unpacked at a time.

    No value is larger than all that is stored, but each row may repeat it. What is stored is what
    the file says: a small one, which could lie, is read nearly row by row.
    """
    fit = _BATCH_BYTES // max(1, stored_bytes)
    return max(1, min(_BATCH_ROWS, fit, file_bytes // _FILE_BYTES_PER_ROW))


def _bomb(file: Path, *, size: int, detail: str) -> DataError:
    return DataError(
        f"{file} has {size:,} bytes and unpacks to {detail}",
        allowed=f"{LARGEST_RATIO} times its size and one picture of its own in each row",
        hint="it is damaged or made to fill the memory; keep pictures as folders",
    )
