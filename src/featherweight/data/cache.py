"""Decode every picture once: a memory-mapped uint8 array on disk, checked before it is used."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featherweight.data.dataset import ImageData, ImageSplit
from featherweight.data.decode import (
    content_digest,
    decode_square,
    map_decoding,
    read_picture,
)
from featherweight.data.room import make_room, mark_used, open_lock, replacing
from featherweight.errors import DataError, FailedError, RecordError, UsageError
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import SCHEMA_VERSION, Record, parse_record, read_json, to_plain

__all__ = ["CacheSeal", "cached_pixels"]

logger = logging.getLogger(__name__)

CACHE_FORMAT = 3
WHOLE_FORMAT = 2
"""Of pictures squeezed whole; other caches stay valid when these are decoded otherwise."""
_READ_BYTES = 1 << 20
_ROOM_HINT = "free space there, or keep the pictures elsewhere: FEATHERWEIGHT_HOME=FOLDER"

_sound: dict[Path, tuple[int, ...]] = {}
"""What this process checked or wrote, and what the file was like then."""


class CacheSeal(Record):
    """Written beside a complete cache file; a file without one is unfinished.

    Attributes:
        digest: of everything the pixels depend on.
        size_bytes: of the .npy file.
        crc32: of the whole file. Against damage, not against forgery: who can write to the folder
            can write a seal; and it is read at 1 GB a second where SHA-256 takes 0.4.
    """

    digest: str
    size_bytes: int
    crc32: int


def cached_pixels(
    data: ImageData,
    split: str,
    *,
    size: int,
    preprocessing: Preprocessing | None,
    directory: Path,
    rows: npt.NDArray[np.int64] | None = None,
    whole: bool = False,
) -> npt.NDArray[np.uint8]:
    """Return pictures of a split as squares, decoded at the first call and mapped after.

    Killing the process at any moment leaves no half-written cache behind; two processes that want
    the same cache build it once. A file is read whole and checked when a process opens it first.

    Args:
        data: from `load_images`.
        split: "train", "val" or "test".
        size: side of the square, pixels.
        preprocessing: its interpolation and crop fraction are applied (not mean and std);
            None = bilinear, nothing cropped away.
        directory: where cache files are kept; created when absent. Those not used lately make
            room for new ones (`make_room`).
        rows: which pictures of the split, in this order; None = all. Only they are decoded.
        whole: whole pictures, squeezed into squares, instead of their centres.

    Returns:
        uint8 (N, size, size, 3), read-only memory map; row i is picture i of the split, or
        picture rows[i].

    Raises:
        UsageError: unknown split, or a size below 1.
        DataError: a picture changed or broke since `load_images`.
        FailedError: the cache cannot be written (disk too small, no permission), or memory does
            not suffice.
    """
    if split not in data.splits:
        raise UsageError(f"no split named {split!r}", allowed=", ".join(data.splits))
    if size < 1:
        raise UsageError(f"picture size {size}", allowed="1 or more pixels")
    preprocessing = preprocessing or Preprocessing()
    part = data.splits[split]
    indices = list(range(len(part))) if rows is None else [int(row) for row in rows]
    digest = _cache_digest(
        data,
        split=split,
        size=size,
        preprocessing=preprocessing,
        rows=None if rows is None else indices,
        whole=whole,
    )
    path = directory / f"{split}-{size}-{digest[:16]}.npy"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not _intact(path, digest=digest):
                _check_room(directory, needed_bytes=len(indices) * size * size * 3)
                squares = _squares(
                    part, indices, size=size, preprocessing=preprocessing, whole=whole
                )
                shape = (len(indices), size, size, 3)
                _build(squares, path=path, shape=shape, digest=digest)
            mark_used(_seal_path(path))
            # Under the lock: a file that is mapped stays readable when another process removes it.
            pixels: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise FailedError(
            f"cannot write the picture cache {path}: {error.strerror or error}", hint=_ROOM_HINT
        ) from error
    return pixels


def _check_room(directory: Path, *, needed_bytes: int) -> None:
    free = make_room(directory, needed_bytes=needed_bytes)
    if free < needed_bytes:
        raise FailedError(
            f"the decoded pictures need {needed_bytes / 1e9:.1f} GB and the disk of {directory} "
            f"has {free / 1e9:.1f} GB free",
            hint=_ROOM_HINT,
        )


def _cache_digest(
    data: ImageData,
    *,
    split: str,
    size: int,
    preprocessing: Preprocessing,
    rows: list[int] | None,
    whole: bool,
) -> str:
    """Digest everything the cached pixels depend on."""
    parts = {
        "format": CACHE_FORMAT,
        "fingerprint": data.fingerprint,
        "split": split,
        "size": size,
        "interpolation": preprocessing.interpolation,
        "crop_fraction": preprocessing.crop_fraction,
        "rows": rows,
        **({"whole": WHOLE_FORMAT} if whole else {}),
        **({"stretch": True} if preprocessing.stretch else {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel drops it when the process dies, however it dies."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _intact(path: Path, *, digest: str) -> bool:
    """Tell whether a finished cache file is there and still what was written; warn when damaged."""
    if not (path.exists() and _seal_path(path).exists()):
        return False
    try:
        seal = parse_record(CacheSeal, read_json(_seal_path(path)), source=str(_seal_path(path)))
    except RecordError as error:
        logger.warning("the picture cache %s is rebuilt: %s", path, error)
        return False
    stamp = _stamp(path)
    sound = (
        seal.digest == digest
        and path.is_file()
        and path.stat().st_size == seal.size_bytes
        and (_sound.get(path) == stamp or _crc32(path) == seal.crc32)
    )
    if sound:
        _sound[path] = stamp
    else:
        logger.warning("the picture cache %s is damaged and is rebuilt", path)
    return sound


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to."""
    seen = path.stat()
    return (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _crc32(path: Path) -> int:
    crc = 0
    buffer = bytearray(_READ_BYTES)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            crc = zlib.crc32(memoryview(buffer)[:count], crc)
    return crc


def _build(
    squares: Iterator[npt.NDArray[np.uint8]],
    *,
    path: Path,
    shape: tuple[int, int, int, int],
    digest: str,
) -> None:
    """Write the file under a temporary name, rename it, then seal it.

    Written through a file, not through a memory map: on a full disk a map kills the process with
    SIGBUS, where write raises.
    """
    _seal_path(path).unlink(missing_ok=True)
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    crc = size_bytes = 0
    with replacing(path) as stream:
        for content in chain([header.getvalue()], (square.tobytes() for square in squares)):
            crc = zlib.crc32(content, crc)
            size_bytes += stream.write(content)
    seal = CacheSeal(digest=digest, size_bytes=size_bytes, crc32=crc)
    plain = {"schema_version": SCHEMA_VERSION, **to_plain(seal)}
    with replacing(_seal_path(path)) as stream:
        stream.write(json.dumps(plain, indent=2).encode() + b"\n")
    _sound[path] = _stamp(path)


def _squares(
    split: ImageSplit,
    indices: list[int],
    *,
    size: int,
    preprocessing: Preprocessing,
    whole: bool,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the decoded pictures in the order of `indices`."""

    def decode(position: int) -> npt.NDArray[np.uint8]:
        index = indices[position]
        name = split.names[index]
        try:
            content = read_picture(split.paths_or_bytes[index])
        except MemoryError as error:
            raise _no_memory(f"read {name}") from error
        except OSError as error:
            raise DataError(f"cannot read {name} any more: {error.strerror or error}") from error
        if content_digest(content) != split.inspections[index].digest:
            raise DataError(
                f"{name} changed since the data was loaded",
                hint="leave the data alone during a run, then start again",
            )
        try:
            return decode_square(content, size=size, preprocessing=preprocessing, whole=whole)
        except MemoryError as error:
            raise _no_memory(f"decode {name}") from error
        except (OSError, ValueError) as error:
            raise DataError(f"cannot decode {name}: {error}", hint="remove the file") from error

    return map_decoding(decode, [split.paths_or_bytes[index] for index in indices])


def _no_memory(work: str) -> FailedError:
    """No fault of the picture: it is not left out, the work fails."""
    return FailedError(
        f"memory does not suffice to {work}", hint="end other programs, or use smaller pictures"
    )
