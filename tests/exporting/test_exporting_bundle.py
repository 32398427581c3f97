import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from artifact_networks import IMAGENET, block, labels_of, network_of, pictures, trained_like
from cases import often
from PIL import Image

from featherweight.data import pictures as data_pictures
from featherweight.data.decode import decode_square
from featherweight.errors import UnsupportedError, UsageError
from featherweight.exporting import bundle_run
from featherweight.exporting.bundle import write_bundle
from featherweight.exporting.export import export_network
from featherweight.runtimes.runtime import RUNTIMES

ARCHITECTURE = network_of(
    "small", block("conv", 8, stride=2, activation="relu6"), input_shape=(3, 32, 32)
)
PREPROCESSING = IMAGENET.model_copy(update={"crop_fraction": 0.875, "interpolation": "bicubic"})
ISOLATED = """
import os, runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "featherweight", "onnx", "pydantic"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as `python run.py` does, without -I
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def bundle(folder, *, runtime="onnxruntime"):
    artifact = export_network(
        trained_like(ARCHITECTURE),
        runtime=runtime,
        out=folder / "artifact",
        preprocessing=PREPROCESSING,
        labels=labels_of(ARCHITECTURE),
    )
    sample = pictures(ARCHITECTURE, 1)
    predict = RUNTIMES[runtime].load(artifact, num_threads=1)
    return write_bundle(artifact, folder / "bundle", sample=sample, expected=predict(sample))


def run(folder, *arguments, encoding="utf-8"):
    """Run the bundle where only onnxruntime, numpy and Pillow can be imported."""
    return subprocess.run(
        [sys.executable, "-s", "-c", ISOLATED, str(folder / "run.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )


def test_self_test_passes_and_can_fail(tmp_path) -> None:
    folder = bundle(tmp_path)
    done = run(folder, "--self-test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("self-test ok: relative error")
    with np.load(folder / "selftest.npz") as stored:
        sample, expected = stored["sample"], stored["expected.logits"]
    np.savez(folder / "selftest.npz", **{"sample": sample, "expected.logits": expected + 0.1})
    assert run(folder, "--self-test").returncode == 1


def test_a_picture_gets_the_answer_of_the_artifact(tmp_path) -> None:
    folder = bundle(tmp_path)
    picture = tmp_path / "picture.png"
    big = network_of("big", block("conv", 8), input_shape=(3, 90, 70))
    Image.fromarray(pictures(big, 1, seed=3)[0]).save(picture)
    done = run(folder, picture, "--json", "--top", "7")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    predict = RUNTIMES["onnxruntime"].load(
        export_network(
            trained_like(ARCHITECTURE),
            runtime="onnxruntime",
            out=tmp_path / "again",
            preprocessing=PREPROCESSING,
            labels=labels_of(ARCHITECTURE),
        ),
        num_threads=1,
    )
    pixels = decode_square(picture.read_bytes(), size=32, preprocessing=PREPROCESSING)
    logits = predict(pixels[None])["logits"][0].astype(np.float64)
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [answer["label"] for answer in answers] == [
        f"class {index}" for index in np.argsort(-shares)
    ]
    assert answers[0]["score"] == pytest.approx(shares.max(), rel=1e-4)


@pytest.mark.parametrize("kind", ["jpeg", "alpha", "grey16", "hole", "strip", "turned", "exact"])
def test_pictures_are_read_as_in_training(tmp_path, kind) -> None:
    shape = {"strip": (12, 300), "exact": (32, 32)}.get(kind, (150, 211))
    sized = network_of("sized", block("conv", 8), input_shape=(3, *shape))
    values = pictures(sized, 1, seed=4)[0]
    image = Image.fromarray(values)
    path = tmp_path / ("picture.jpg" if kind in ("jpeg", "turned") else "picture.png")
    if kind == "alpha":
        image.putalpha(Image.fromarray(values[..., 0]))
    if kind == "grey16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    if kind == "hole":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
        image.info["transparency"] = int(values[0, 0, 0]) * 257
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    image.save(path, **({"exif": exif} if kind == "turned" else {}))
    settings = {"input_shape": [32, 32, 3], "interpolation": "bicubic", "crop_fraction": 0.875}
    found = bundle_run.read_square(str(path), settings)
    expected = decode_square(path.read_bytes(), size=32, preprocessing=PREPROCESSING)
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("name", ["preprocessing.json", "labels.txt", "model.onnx", "selftest.npz"])
def test_a_device_in_place_of_a_file_is_one_line(tmp_path, name) -> None:
    """Found by benchmarks/fuzz.py: 3.7 GB were read before the memory ended."""
    folder = bundle(tmp_path)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    done = run(folder, *(["--self-test"] if name == "selftest.npz" else [tmp_path / "good.png"]))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{name} is not a regular file" in done.stderr


def bad_pictures(folder):
    """Write what training refuses; each of these was an answer, a traceback or a hang once."""
    folder.mkdir()
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(folder / "float.tiff")
    Image.fromarray(np.full((4, 4), 100_000, np.int32)).save(folder / "wide.tiff")
    (folder / "text.png").write_bytes(b"not a picture")
    (folder / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + crc)
    os.mkfifo(folder / "pipe.jpg")
    return sorted(folder.iterdir())


def test_bad_pictures_are_a_line_each_and_the_others_get_their_answers(tmp_path) -> None:
    folder = bundle(tmp_path)
    Image.new("RGB", (40, 40), (90, 30, 200)).save(tmp_path / "good.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "exif.jpg", exif=b"Exif\0\0garbage garbage")
    bad = bad_pictures(tmp_path / "bad")
    good = [tmp_path / "good.png", tmp_path / "exif.jpg"]
    done = run(folder, good[0], *bad, good[1], "--json", "--top", "1")
    assert done.returncode == 2
    assert [one["image"] for one in json.loads(done.stdout)] == [str(path) for path in good]
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(path) for path in bad]


def test_a_terminal_without_the_letters_gets_them_escaped(tmp_path) -> None:
    folder = bundle(tmp_path)
    labels = "".join(f"K\u00e4se\x1b {index}\n" for index in range(7))
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    Image.new("RGB", (40, 40)).save(tmp_path / "\u732b.png")
    done = run(folder, tmp_path / "\u732b.png", tmp_path / "\u72ac.png", encoding="ascii")
    assert done.returncode == 2
    assert "K\\xe4se\\x1b" in done.stdout
    assert "\\u732b.png" in done.stdout
    assert done.stderr.count("\n") == 1


def test_the_decoder_beside_the_program_is_that_of_training(tmp_path) -> None:
    folder = bundle(tmp_path)
    assert (folder / "pictures.py").read_bytes() == Path(data_pictures.__file__).read_bytes()
    assert "featherweight.data" not in (folder / "run.py").read_text(encoding="utf-8")


def test_numbers_that_are_none_are_one_line(tmp_path) -> None:
    done = run(bundle(tmp_path), "--self-test", "--threads", "-1")
    assert done.returncode == 2
    assert "allowed: 1 to 9999" in done.stderr


def test_other_runtimes_and_samples_are_refused(tmp_path) -> None:
    with pytest.raises(UnsupportedError, match="no bundle for the runtime 'torch'"):
        bundle(tmp_path, runtime="torch")
    artifact = export_network(
        trained_like(ARCHITECTURE),
        runtime="onnxruntime",
        out=tmp_path / "artifact",
        preprocessing=PREPROCESSING,
        labels=labels_of(ARCHITECTURE),
    )
    with pytest.raises(UsageError, match="expected answers"):
        write_bundle(
            artifact,
            tmp_path / "bundle",
            sample=pictures(ARCHITECTURE, 1),
            expected={"logits": np.zeros((1, 3), np.float32)},
        )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("damage", often(["empty", "cut", "absent"], ["cut"]))
def test_a_damaged_bundle_is_one_line(tmp_path, damage) -> None:
    folder = bundle(tmp_path)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    for name in ("preprocessing.json", "labels.txt", "model.onnx"):
        before = (folder / name).read_bytes()
        if damage == "absent":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(before[: len(before) // 2 if damage == "cut" else 0])
        done = run(folder, tmp_path / "a.png", "--top", "9")
        assert "Traceback" not in done.stderr, name
        assert done.returncode == 1 or name == "labels.txt", name
        if done.returncode:
            (line,) = done.stderr.splitlines()
            assert "copy the bundle again" in line
        (folder / name).write_bytes(before)
    assert run(folder, tmp_path / "a.png").returncode == 0


def test_objects_are_compared_by_class_and_place() -> None:
    """Of two that are nearly as sure the rounding of another processor changes the order."""
    one, other = [0.1, 0.1, 0.3, 0.3, 0.951, 0.0], [0.5, 0.5, 0.9, 0.9, 0.949, 0.0]
    expected = np.array([one, other, [0.0] * 5 + [-1.0]], dtype=np.float32)
    assert bundle_run.difference_of_objects(expected[[1, 0, 2]], expected) < 1e-6
    moved = expected.copy()
    moved[0, 0] += 0.2
    assert bundle_run.difference_of_objects(moved, expected) == pytest.approx(0.2)
    named = expected.copy()
    named[:, 5] = 1.0
    assert bundle_run.difference_of_objects(named, expected) == 1.0
    unsure = expected.copy()
    unsure[:, 4] = 0.1
    assert bundle_run.difference_of_objects(unsure, unsure) == 0.0
    assert bundle_run.difference_of_objects(named, unsure) == 1.0
