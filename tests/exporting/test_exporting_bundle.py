import json
import subprocess
import sys

import numpy as np
import pytest
from artifact_networks import IMAGENET, block, labels_of, network_of, pictures, trained_like
from PIL import Image

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
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "featherweight", "onnx", "pydantic"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def bundle(folder, *, runtime="onnxruntime"):
    artifact = export_network(
        trained_like(ARCHITECTURE), runtime=runtime, out=folder / "artifact",
        preprocessing=PREPROCESSING, labels=labels_of(ARCHITECTURE),
    )  # fmt: skip
    sample = pictures(ARCHITECTURE, 1)
    predict = RUNTIMES[runtime].load(artifact, num_threads=1)
    return write_bundle(artifact, folder / "bundle", sample=sample, expected=predict(sample))


def run(folder, *arguments):
    """Run the bundle where only onnxruntime, numpy and Pillow can be imported."""
    return subprocess.run(
        [sys.executable, "-I", "-c", ISOLATED, str(folder / "run.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_self_test_passes_and_can_fail(tmp_path) -> None:
    folder = bundle(tmp_path)
    done = run(folder, "--self-test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("self-test ok: relative error")
    with np.load(folder / "selftest.npz") as stored:
        sample, expected = stored["sample"], stored["expected"]
    np.savez(folder / "selftest.npz", sample=sample, expected=expected + 0.1)
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
            trained_like(ARCHITECTURE), runtime="onnxruntime", out=tmp_path / "again",
            preprocessing=PREPROCESSING, labels=labels_of(ARCHITECTURE),
        ),
        num_threads=1,
    )  # fmt: skip
    pixels = decode_square(picture.read_bytes(), size=32, preprocessing=PREPROCESSING)
    logits = predict(pixels[None])[0].astype(np.float64)
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [answer["label"] for answer in answers] == [
        f"class {index}" for index in np.argsort(-shares)
    ]
    assert answers[0]["score"] == pytest.approx(shares.max(), rel=1e-4)


@pytest.mark.parametrize("kind", ["jpeg", "alpha", "grey16", "strip", "turned", "exact"])
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
    exif = Image.Exif()
    if kind == "turned":
        exif[0x0112] = 6
    image.save(path, **({"exif": exif} if kind == "turned" else {}))
    settings = {"input_shape": [32, 32, 3], "interpolation": "bicubic", "crop_fraction": 0.875}
    found = bundle_run.read_picture(str(path), settings)
    expected = decode_square(path.read_bytes(), size=32, preprocessing=PREPROCESSING)
    assert np.array_equal(found[0], expected)


def test_an_unreadable_picture_is_one_line(tmp_path) -> None:
    folder = bundle(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    done = run(folder, tmp_path / "bad.png")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "bad.png" in done.stderr


def test_other_runtimes_and_samples_are_refused(tmp_path) -> None:
    with pytest.raises(UnsupportedError, match="no bundle for the runtime 'torch'"):
        bundle(tmp_path, runtime="torch")
    artifact = export_network(
        trained_like(ARCHITECTURE), runtime="onnxruntime", out=tmp_path / "artifact",
        preprocessing=PREPROCESSING, labels=labels_of(ARCHITECTURE),
    )  # fmt: skip
    with pytest.raises(UsageError, match="expected logits"):
        write_bundle(
            artifact, tmp_path / "bundle", sample=pictures(ARCHITECTURE, 1),
            expected=np.zeros((1, 3), np.float32),
        )  # fmt: skip
    assert not (tmp_path / "bundle").exists()
