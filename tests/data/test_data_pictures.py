"""What can be opened, how it is limited, and what is said about the rest."""

import ast
import os
import struct
import subprocess
import sys
import threading
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile

from featherweight.data import pictures
from featherweight.data.decode import decode_square, inspect_picture
from featherweight.errors import FailedError

SOURCES = Path(pictures.__file__).parents[1]


def content_of(image, form="PNG", **options):
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(rows, *, depth, colour, transparent):
    """Write a PNG of 4 x len(rows) pixels by hand: Pillow writes neither 2-bit nor 16-bit RGB."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, len(rows), depth, colour, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


def test_heic_is_readable_where_its_library_is_and_named_where_not(monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert ".heic" not in pictures.readable_suffixes()
    assert pictures.missing_libraries()[".heic"] == "pillow-heif"
    monkeypatch.setattr(pictures, "find_spec", lambda name: object())
    assert {".heic", ".heif", ".jpg", ".png"} <= pictures.readable_suffixes()
    assert ".heic" not in pictures.missing_libraries()


def test_heic_is_decoded_by_its_library(monkeypatch, tmp_path):
    content = b"\0\0\0\x18ftypheic" + bytes(12)
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert "pip install pillow-heif" in inspect_picture(content).error

    class Stand(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode, self.tile = (6, 4), "RGB", []

        def load(self):
            self.im = Image.new("RGB", self.size).im

    class Library:
        @staticmethod
        def register_heif_opener():
            Image.register_open("HEIF", Stand, lambda prefix: prefix[4:8] == b"ftyp")

    monkeypatch.setitem(sys.modules, "pillow_heif", Library)
    monkeypatch.setattr(pictures, "find_spec", lambda name: Library)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    seen = inspect_picture(content)
    assert (seen.error, seen.width, seen.height) == (None, 6, 4)


def test_sixteen_bit_grey_with_a_transparent_value_keeps_its_grey():
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    content = content_of(Image.fromarray(wide))
    before = content.index(b"IDAT") - 4
    value = struct.pack(">H", int(wide[2, 3]))
    chunk = b"\0\0\0\x02tRNS" + value + struct.pack(">I", zlib.crc32(b"tRNS" + value))
    expected = np.rint(wide / 257).astype(int)
    expected[2, 3] = 255
    found = decode_square(content[:before] + chunk + content[before:], size=8)
    assert np.abs(found[:, :, 0] - expected).max() <= 1


@pytest.mark.parametrize(
    ("depth", "colour", "row", "transparent", "expected"),
    [
        (2, 0, bytes([0b00011011]), (2,), [0, 85, 255, 255]),
        (4, 0, bytes([0x04, 0x8F]), (4,), [0, 255, 136, 255]),
        (
            16,
            2,
            struct.pack(">12H", *[x * 256 + 9 for x in (9, 50, 7, 0) for _ in "RGB"]),
            (50 * 256 + 9,) * 3,
            [9, 255, 7, 0],
        ),
    ],
)
def test_a_transparent_value_has_the_scale_of_the_pixels(depth, colour, row, transparent, expected):
    content = png([row] * 4, depth=depth, colour=colour, transparent=transparent)
    assert decode_square(content, size=4)[1, :, 0].tolist() == expected


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with (tmp_path / "sparse.jpg").open("wb") as stream:
        stream.truncate(5 << 30)
    for name in ("pipe.jpg", "zero.jpg"):
        assert inspect_picture(tmp_path / name).error == "cannot be read: not a regular file"
    assert "allowed: 0.54 GB" in inspect_picture(tmp_path / "sparse.jpg").error


def test_no_more_is_read_than_a_file_announces(tmp_path):
    """Files of the kernel announce 0 bytes, and some of them never end."""
    (tmp_path / "kernel.jpg").symlink_to("/proc/self/maps")
    assert inspect_picture(tmp_path / "kernel.jpg").error == "the file is empty"


PEAK = """
import resource, sys
from featherweight.data.decode import decode_square, inspect_picture
content = open(sys.argv[1], "rb").read()
inspect_picture(b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert inspect_picture(content).error is None
decode_square(content, size=32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(("mode", "pixel_bytes"), [("I;16", 5), ("RGBA", 10)])
def test_a_large_picture_takes_hardly_more_memory_than_its_pixels(tmp_path, mode, pixel_bytes):
    path = tmp_path / "large.png"
    Image.new(mode, (3000, 3000)).save(path, compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES.parent)},
        timeout=60,
    )
    assert int(done.stdout) < pixel_bytes * 3000 * 3000 + (16 << 20)


@pytest.mark.parametrize(
    ("form", "options", "pixel_bytes"),
    [("PNG", {}, 8), ("WEBP", {}, 20), ("JPEG", {"progressive": True}, 6)],
)
def test_what_needs_too_much_memory_is_refused(monkeypatch, form, options, pixel_bytes):
    content = content_of(Image.new("RGB", (160, 160)), form, **options)
    monkeypatch.setattr(pictures, "MAX_PIXEL_BYTES", pixel_bytes * 160 * 160 - 1)
    assert "GB to decode; allowed" in inspect_picture(content).error
    plain = content_of(Image.new("RGB", (160, 160)), "JPEG")
    assert inspect_picture(plain).error is None, "decoded at a fraction of its size"


def test_the_strips_of_a_tiff_count(monkeypatch):
    image = Image.new("RGB", (160, 160))
    content = content_of(image, "TIFF", compression="tiff_lzw", tiffinfo={278: 160})
    monkeypatch.setattr(pictures, "MAX_PIXEL_BYTES", 9 * 160 * 160)
    assert "GB to decode; allowed" in inspect_picture(content).error


def test_threads_share_the_memory_of_decoding():
    memory = pictures.SharedMemory(10)
    at_once, most = [], []
    start = threading.Barrier(8)

    def work():
        start.wait()
        for wanted in (6, 20, 6):
            with memory.hold(wanted):
                at_once.append(wanted)
                most.append(len(at_once))
                at_once.remove(wanted)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(most) == 24
    assert max(most) == 1


def test_a_decode_holds_what_it_needs(monkeypatch):
    held = []
    memory = pictures.SharedMemory(1)
    monkeypatch.setattr(pictures, "_PIXEL_MEMORY", memory)
    original = memory.hold
    monkeypatch.setattr(memory, "hold", lambda wanted: (held.append(wanted), original(wanted))[1])
    decode_square(content_of(Image.new("RGBA", (10, 10))), size=4)
    assert held == [800]


def test_postscript_is_not_handed_to_ghostscript(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: ran.append(a))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    assert "not a picture of the formats JPEG, PNG" in inspect_picture(content).error
    with pytest.raises(ValueError, match="not a picture of the formats"):
        decode_square(content, size=8)
    assert ran == []


def test_every_open_names_its_formats():
    opens = [
        (path.name, node)
        for path in sorted(SOURCES.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert [name for name, _ in opens] == ["picture_size.py", "pictures.py"]
    assert all(any(word.arg == "formats" for word in call.keywords) for _, call in opens)


def test_a_header_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(pictures, "_MAX_READS", 1000)
    for start in (b"\xff\xd8\xff", b"GIF89a\x10\0\x10\0\0\0\0", b"P5 #"):
        assert "more parts than any picture has" in inspect_picture(start + bytes(3000)).error


def test_what_would_be_decoded_for_minutes_is_refused(monkeypatch):
    monkeypatch.setattr(pictures, "_MAX_SLOW_PIXELS", 99)
    assert "save it as PNG" in inspect_picture(b"P2 10 10 255\n" + b"1 " * 100).error
    scans = content_of(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = scans[scans.rindex(b"\xff\xda") : -2]
    monkeypatch.setattr(pictures, "_MAX_SCANNED_PIXELS", 64 * 64 * 20)
    assert inspect_picture(scans).error is None
    assert "26 scans" in inspect_picture(scans[:-2] + last * 20 + scans[-2:]).error


def test_short_memory_is_no_broken_picture(monkeypatch):
    def no_memory(*arguments, **named):
        raise MemoryError

    content = content_of(Image.new("RGB", (8, 8)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_memory)
    for use in (inspect_picture, lambda content: decode_square(content, size=8)):
        with pytest.raises(FailedError, match="not enough memory"):
            use(content)
