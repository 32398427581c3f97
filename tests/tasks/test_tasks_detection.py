"""Pictures with boxes through every command: train, evaluate, predict, export, verify, profile."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_objects import write_drawn_data
from PIL import Image

from featherweight.cli.app import run as run_cli
from featherweight.data.check import check_data
from featherweight.detection.average_precision import Detections, Truth
from featherweight.detection.detector import SsdLite, ThunderNet
from featherweight.detection.suiting import object_shapes, suited_to
from featherweight.detection.table import (
    DETECTIONS,
    detections_of,
    pack_detections,
    pack_truths,
    truths_of,
)
from featherweight.errors import DataError, UsageError
from featherweight.exporting.export_run import export, verify
from featherweight.fitting.fit import fit
from featherweight.fitting.stages import float32
from featherweight.networks.detectors import classifier_of, create_detector, resolve_network
from featherweight.networks.storage import load_network
from featherweight.profiling.profile import profile
from featherweight.reporting.report import write_report
from featherweight.tasks.detection_findings import FINDINGS_FILE
from featherweight.tasks.task import TASKS, load_data
from featherweight.training.predict import evaluate, predict
from featherweight.training.train import TrainSummary, train

MODEL = "ssdlite_efficientnet_lite0:resolution=96"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawn_data(tmp_path_factory.mktemp("drawn"), {"train": 24, "valid": 6, "test": 6})


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainSummary:
    return train(
        data,
        model=MODEL,
        pretrained="auto",
        epochs=24,
        output=tmp_path_factory.mktemp("runs") / "detector",
    )


def some_answers() -> tuple[dict[str, np.ndarray], np.ndarray]:
    truth = Truth(np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([1]), np.array([False]))
    right = Detections(np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([0.9]), np.array([1]))
    return {DETECTIONS: pack_detections([right])}, pack_truths([truth])


def test_tables_hold_what_was_packed() -> None:
    truths = [
        Truth(np.array([[0.0, 0.0, 0.5, 1.0], [0.2, 0.2, 0.4, 0.4]]), np.array([2, 0]),
              np.array([True, False])),
        Truth(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_)),
    ]  # fmt: skip
    again = truths_of(pack_truths(truths))
    for one, other in zip(again, truths, strict=True):
        assert one.boxes == pytest.approx(other.boxes)
        assert one.labels.tolist() == other.labels.tolist()
        assert one.crowd.tolist() == other.crowd.tolist()
    answers, _ = some_answers()
    (found,) = detections_of(answers[DETECTIONS])
    assert found.scores.tolist() == pytest.approx([0.9])
    with pytest.raises(DataError, match="allowed: float32"):
        truths_of(np.zeros((2, 3)))


def test_figures_of_a_right_answer() -> None:
    task = TASKS["detection"]
    answers, targets = some_answers()
    assert task.score(answers, targets) == pytest.approx(1.0)
    assert task.losses(answers, targets) == pytest.approx(0.0, abs=1e-6)
    assert task.interval(answers, targets) == pytest.approx((1.0, 1.0))
    assert task.details(answers, targets, classes=2)["per_class"] == [None, pytest.approx(1.0)]
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    nothing = {DETECTIONS: pack_detections([empty])}
    assert task.score(nothing, targets) == 0.0
    assert task.agreement(nothing, answers) == 0.0
    assert task.error(nothing, answers) == (1.0, pytest.approx(1.0, abs=0.02))
    assert task.agreement(answers, answers) == 1.0
    with pytest.raises(UsageError, match="cannot be balanced"):
        task.balance(targets)
    with pytest.raises(DataError, match="labels from 1 to 1; allowed: 0 to 0"):
        task.check(targets, outputs=1)
    with pytest.raises(DataError, match="no boxes in a whole split"):
        task.check(targets[:, :0], outputs=2)


def table_of(*rows: tuple[float, float, float, float, float, int]) -> dict[str, np.ndarray]:
    """Return the answers to one picture: boxes, score and class, the surest first."""
    one = np.array(rows)
    found = Detections(one[:, :4], one[:, 4], one[:, 5].astype(int))
    return {DETECTIONS: pack_detections([found])}


def test_what_a_file_says_too_much_or_unsurely_is_compared() -> None:
    task = TASKS["detection"]
    box = (0.1, 0.1, 0.5, 0.5)
    expected = table_of((*box, 0.9, 1))
    more = table_of((*box, 0.9, 1), (0.6, 0.6, 0.9, 0.9, 0.8, 1))
    assert task.error(more, expected) == (1.0, pytest.approx(1.0, abs=0.05))
    assert task.error(expected, more)[0] == 1.0
    # Sure on one side, a little less on the other: the same answer.
    edge, below = table_of((*box, 0.31, 1)), table_of((*box, 0.29, 1))
    assert task.error(edge, below)[0] == pytest.approx(0.02)
    assert task.error(below, edge)[0] == pytest.approx(0.02)
    # Where nothing is sure, the surest answers are.
    unsure, elsewhere = table_of((*box, 0.2, 1)), table_of((0.6, 0.6, 0.9, 0.9, 0.2, 1))
    assert task.error(unsure, unsure)[0] == 0.0
    assert task.error(unsure, elsewhere)[0] == 1.0
    assert (task.agreement(unsure, unsure), task.agreement(unsure, elsewhere)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("thundernet_resnet", {}, "no map with cells of 32 pixels, which thundernet reads"),
        ("ssdlite_vgg16", {}, "no map with cells of 32 pixels, which ssdlite reads"),
        ("thundernet", {"classes": 0}, "thundernet with 0 classes; allowed: 1 or more"),
    ],
)
def test_a_backbone_that_cannot_be_one(name: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_detector(name, **settings)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "the training pictures of .* have no usable boxes"),
        ("valid", "the val pictures of data have no boxes to find"),
        ("test", "the test pictures of data have no boxes to find"),
    ],
)
def test_a_split_without_boxes_is_refused(tmp_path: Path, split: str, message: str) -> None:
    folder = write_drawn_data(tmp_path / "data", {"train": 4, "valid": 2, "test": 2})
    file = next((folder / split).glob("*.json"))
    listed = json.loads(file.read_text())
    for one in listed["annotations"]:
        one["iscrowd"] = 1
    file.write_text(json.dumps(listed))
    with pytest.raises(DataError, match=message):
        load_data(folder, quiet=True)


def test_anchors_follow_the_objects() -> None:
    boxes = np.array([[0.1, 0.1, 0.15, 0.15]] * 30 + [[0.1, 0.1, 0.5, 0.5]] * 2)
    labels = np.array([0] * 30 + [1] * 2)
    objects = object_shapes(pack_truths([Truth(boxes, labels, np.zeros(32, np.bool_))]))
    sides = objects.sides
    assert sides[0] <= 0.05 + 1e-6
    assert 0.4 in sides, "a rare class counts like a common one"
    assert all(b >= 1.249 * a for a, b in itertools.pairwise(sides))
    two_stage = suited_to(create_detector("thundernet", resolution=160), objects).head
    assert isinstance(two_stage, ThunderNet)
    assert 64.0 in two_stage.anchor_sizes
    one_stage = suited_to(create_detector("ssdlite", resolution=160), objects).head
    assert isinstance(one_stage, SsdLite)
    assert one_stage.fine_anchors == ((0.05, 0.05),)
    assert one_stage.fine_channels
    large = suited_to(create_detector("ssdlite", resolution=1024), objects).head
    assert isinstance(large, SsdLite)
    assert large.fine_anchors
    assert not large.fine_channels, "cells of 16 pixels are fine enough"


def test_names_of_detectors() -> None:
    assert resolve_network("thundernet").name == "thundernet_snet49"
    assert resolve_network("thundernet_535").backbone.name == "snet535"
    detector = create_detector("ssdlite_mobilenet_v2", width=0.5, resolution=224, classes=3)
    assert (detector.num_classes, detector.input_shape) == (3, (3, 224, 224))
    whole = classifier_of(detector)
    assert [block.out_channels for block in whole.blocks[:5]] == [
        block.out_channels for block in detector.backbone.blocks[:5]
    ]
    with pytest.raises(UsageError, match="allowed: a multiple of 32"):
        create_detector("thundernet", resolution=100)
    with pytest.raises(UsageError, match="no network named"):
        resolve_network("ssdlite_mobilnet_v2")


@pytest.mark.parametrize(
    ("name", "millions"), [("thundernet_snet49", 263.5), ("thundernet_snet535", 1299.3)]
)
def test_profile_counts_a_detector_as_its_paper(name: str, millions: float) -> None:
    detector = create_detector(name, classes=80)
    assert (profile(detector).macs or 0) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_trained_detector_answers(
    data: Path, trained: TrainSummary, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.metric == "ap"
    assert trained.accuracy > 0.05, "drawn squares and discs"
    found = evaluate(trained.run_directory, data=data, split="train")
    assert set(found) == {"split", "ap", "interval", "n", "ap50", "ap75", "per_class"}
    assert found["ap50"] > 0.5
    assert set(found["per_class"]) == {"square", "disc"}
    pictures = sorted((data / "test").glob("*.png"))
    said = predict(trained.run_directory, pictures=pictures)
    boxes = [one["box"] for picture in said for one in picture["objects"]]
    assert boxes
    assert np.max(boxes) <= 96.0
    assert run_cli(["evaluate", str(trained.run_directory), str(data)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("AP 0.")
    assert "\nsquare: 0." in out or "\nsquare: no objects" in out
    assert run_cli(["predict", str(trained.run_directory), str(pictures[0])]) == 0


def test_boxes_are_in_pixels_of_the_picture(
    data: Path, trained: TrainSummary, tmp_path: Path
) -> None:
    source = sorted((data / "train").glob("*.png"))[0]
    larger = tmp_path / "larger.png"
    Image.open(source).resize((384, 192)).save(larger)
    (small,), (large,) = (
        predict(trained.run_directory, pictures=[one]) for one in (source, larger)
    )
    assert small["objects"]
    first, other = small["objects"][0]["box"], large["objects"][0]["box"]
    assert np.array(other) / [4, 2, 4, 2] == pytest.approx(np.array(first), abs=6)


@pytest.mark.parametrize("platform", ["onnxruntime", "openvino", "onnxruntime:precision=int8"])
def test_files_are_verified(
    platform: str, data: Path, trained: TrainSummary, tmp_path: Path
) -> None:
    (shipped,) = export(trained.run_directory, data=data, on=[f"local/{platform}"], output=tmp_path)
    assert shipped.verification is not None
    if "int8" not in platform:
        assert shipped.verification.passed
        assert shipped.verification.accuracy == pytest.approx(
            shipped.verification.network_accuracy, abs=0.002
        )
    again = verify(trained.run_directory, artifact=shipped.artifact.directory, data=data)
    assert again.verification is not None
    assert again.verification.accuracy == shipped.verification.accuracy


def test_weights_come_back(trained: TrainSummary) -> None:
    stored = load_network(trained.run_directory)
    assert stored.task == "detection"
    assert stored.preprocessing.stretch
    with pytest.raises(UsageError, match="is a detector; allowed: a classifier"):
        _ = stored.classifier


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "mobilenet_v2"}, "is a classifier, drawn.* has boxes"),
        ({"model": MODEL, "teacher": "RUN"}, "a teacher for a detector"),
    ],
)
def test_what_does_not_fit_is_refused(
    given: dict[str, Any], message: str, data: Path, trained: TrainSummary
) -> None:
    if given.get("teacher") == "RUN":
        given = {**given, "teacher": trained.run_directory}
    with pytest.raises(UsageError, match=message):
        train(data, epochs=1, **given)


def test_a_detector_is_refused_for_pictures_without_boxes() -> None:
    with pytest.raises(UsageError, match="answers boxes, demo has none"):
        train("demo", model="thundernet", epochs=1)


def test_a_classifiers_data_is_refused(trained: TrainSummary) -> None:
    with pytest.raises(UsageError, match="is data for classification; allowed: detection"):
        evaluate(trained.run_directory, data="demo")


def test_data_that_cannot_be_decoded_is_left_out(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    write_drawn_data(copy, {"train": 4, "valid": 2, "test": 2})
    broken = next((copy / "train").glob("*.png"))
    broken.write_bytes(broken.read_bytes()[:-200])
    images = load_data(copy, quiet=True)
    assert len(images.splits["train"]) == 3
    assert any(one.kind == "broken" for one in images.skipped)
    assert images.fingerprint != load_data(data, quiet=True).fingerprint
    assert json.dumps(images.classes) == '["square", "disc"]'


def test_data_check_lists_boxes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_data(data)
    assert report.ok
    assert report.images == 36
    assert sum(report.per_class["square"].values()) > 10
    assert run_cli(["data", "check", str(data)]) == 0
    assert capsys.readouterr().out.startswith("ok: 36 pictures")


def test_drawn_pictures_and_folders(data: Path, trained: TrainSummary, tmp_path: Path) -> None:
    said = predict(trained.run_directory, pictures=data / "test", draw=tmp_path / "drawn")
    assert len(said) == 6
    drawn = sorted((tmp_path / "drawn").glob("*.png"))
    assert len(drawn) == 6
    changed = 0
    for one in said:
        before = np.asarray(Image.open(one["image"]).convert("RGB"))
        after = np.asarray(Image.open(tmp_path / "drawn" / Path(one["image"]).name))
        assert after.shape == before.shape
        changed += bool(one["objects"]) == bool((after != before).any())
    assert changed == 6
    with pytest.raises(DataError, match="no pictures in"):
        predict(trained.run_directory, pictures=tmp_path)
    with pytest.raises(UsageError, match="would be drawn over, and is one of the files given"):
        predict(trained.run_directory, pictures=data / "test", draw=data / "test")
    first = sorted((data / "test").glob("*.png"))[0]
    Image.open(first).save(tmp_path / first.with_suffix(".jpg").name)
    with pytest.raises(UsageError, match="would both be drawn to"):
        predict(
            trained.run_directory,
            pictures=[first, tmp_path / first.with_suffix(".jpg").name],
            draw=tmp_path / "drawn",
        )


def test_a_film_is_answered_and_drawn(
    data: Path, trained: TrainSummary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = pytest.importorskip("cv2")
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 96))
    pictures = sorted((data / "train").glob("*.png"))[:8]
    for one in pictures:
        writer.write(cv2.imread(str(one)))
    writer.release()
    (said,) = predict(trained.run_directory, pictures=film, draw=tmp_path / "drawn")
    assert said["error"] is None
    assert [frame["time_s"] for frame in said["frames"]][:2] == [0.0, pytest.approx(0.1)]
    assert len(said["frames"]) == 8
    assert sum(len(frame["objects"]) for frame in said["frames"]) > 0
    again = cv2.VideoCapture(said["drawn"])
    assert int(again.get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    assert run_cli(["predict", str(trained.run_directory), str(film)]) == 2
    assert "of 8 frames" in capsys.readouterr().out
    film.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no frame of"):
        predict(trained.run_directory, pictures=film)


def test_the_report_shows_what_is_found(trained: TrainSummary) -> None:
    page = write_report(trained.run_directory).read_text(encoding="utf-8")
    for text in ("What it finds", "What is taken for what", "Answered worst", "data:image/jpeg"):
        assert text in page
    findings = json.loads((trained.run_directory / FINDINGS_FILE).read_text())
    table = np.array(findings["confusion"])
    assert table.shape == (3, 3)
    assert {one["kind"] for one in findings["pictures"]} == {"best", "worst"}


@pytest.mark.slow
def test_fit_gives_a_detector_with_a_bundle(data: Path, tmp_path: Path) -> None:
    found = fit(
        data,
        latency="500ms",
        epochs=1,
        model="ssdlite_efficientnet_lite0:resolution=96",
        precisions=("fp32",),
        output=tmp_path / "fit",
    )
    summary = found.summary
    assert summary.metric == "ap"
    assert set(summary.details) == {"ap50", "ap75"}
    assert summary.measured is not None
    assert summary.bundle is not None
    again = fit(latency="400ms", from_run=found.path, output=tmp_path / "from").summary
    assert (again.metric, again.network) == ("ap", summary.network)
    assert again.accuracy is not None
    assert summary.accuracy is not None
    assert again.accuracy.artifact == summary.accuracy.artifact
    bundle = found.path / summary.bundle
    picture = next((data / "test").glob("*.png"))
    for arguments in (["--self-test"], [str(picture), "--draw", str(tmp_path / "out")]):
        done = subprocess.run(
            [sys.executable, "-s", str(bundle / "run.py"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / picture.name).exists()
    before = picture.read_bytes()
    over = subprocess.run(
        [sys.executable, "-s", str(bundle / "run.py"), str(picture), "--draw", str(picture.parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (over.returncode, picture.read_bytes()) == (2, before)
    assert "would be drawn over, and is one of the files given" in over.stderr
    for program in bundle.glob("*.py"):
        assert "import featherweight" not in program.read_text()
        assert "from featherweight" not in program.read_text()


@pytest.mark.slow
def test_float32_ships_where_int8_costs_a_detector_too_much(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shipped(of_file: float) -> str | None:
        monkeypatch.setattr(float32, "scores_on_val", lambda *_, **__: (0.5, of_file))
        found = fit(
            data,
            latency="500ms",
            epochs=1,
            model="ssdlite_efficientnet_lite0:resolution=96",
            output=tmp_path / f"fit-{of_file}",
        )
        assert found.summary.artifact == f"artifacts/onnxruntime-{found.summary.precision}"
        return found.summary.precision

    assert shipped(0.496) == "int8"
    assert shipped(0.494) == "fp32"
