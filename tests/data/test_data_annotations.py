"""Annotated pictures: one scene in three formats, the splits, and what cannot be used."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from featherweight.data.annotations import load_annotations, recognises_annotations
from featherweight.errors import DataError, UsageError

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIZE = (64, 48)
CLASSES = ("cat", "dog", "eel")
SCENE = {
    "train": {
        "a.png": [("cat", 10, 20, 50, 40), ("dog", 0, 0, 30, 47)],
        "b.JPG": [("eel", 1, 2, 64, 48)],
        "c.png": [],
    },
    "val": {"d.jpg": [("dog", 5, 5, 11, 13), ("cat", 40, 3, 47, 40)]},
    "test": {"e.png": [("cat", 3, 1, 9, 48), ("dog", 3, 1, 9, 48), ("eel", 20, 20, 33, 22)]},
}
"""{split: {picture: [(class, x1, y1, x2, y2)]}}, edges in pixels from 0."""


def draw(path, *, size=SIZE, **options):
    """Save a picture like no other; its pixels depend on its name only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(list(path.name.encode()))
    pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def coco(pictures, *, size=SIZE, classes=CLASSES, **more):
    """Return COCO content; the ids of the classes are 1, 3, 5, ..."""
    images, annotations = [], []
    for number, (name, boxes) in enumerate(pictures.items()):
        images.append(
            {"id": number + 7, "file_name": name, "width": size[0], "height": size[1], **more}
        )
        for label, x1, y1, x2, y2 in boxes:
            category = 2 * classes.index(label) + 1
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"image_id": number + 7, "category_id": category, "bbox": box})
    categories = [{"id": 2 * n + 1, "name": name} for n, name in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def voc(boxes, *, size=SIZE, filename="?"):
    """Return VOC XML: pixels from 1, the last one included."""
    size = (
        "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    )
    objects = "".join(
        f"<object><name>{label}</name><difficult>{int(label == 'eel')}</difficult><bndbox>"
        f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for label, x1, y1, x2, y2 in boxes
    )
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def yolo(boxes, *, size=SIZE, classes=CLASSES):
    """Return YOLO lines: centre and size in shares."""
    lines = [
        f"{classes.index(label)} {(x1 + x2) / 2 / size[0]} {(y1 + y2) / 2 / size[1]} "
        f"{(x2 - x1) / size[0]} {(y2 - y1) / size[1]}\n"
        for label, x1, y1, x2, y2 in boxes
    ]
    return "".join(lines)


def plant_coco(root, scene):
    for split, pictures in scene.items():
        write(root / f"annotations/instances_{split}2017.json", coco(pictures))
        for name in pictures:
            draw(root / f"{split}2017" / name)
    return root


def plant_voc(root, scene):
    for split, pictures in scene.items():
        stems = [name.rpartition(".")[0] for name in pictures]
        write(root / f"ImageSets/Main/{split}.txt", "\n".join(stems))
        for (name, boxes), stem in zip(pictures.items(), stems, strict=True):
            write(root / f"Annotations/{stem}.xml", voc(boxes))
            draw(root / "JPEGImages" / name)
    return root


def plant_yolo(root, scene, *, classes=CLASSES):
    folders = "".join(f"{split}: images/{split}\n" for split in scene)
    write(root / "data.yaml", f"{folders}names: {list(classes)}\n")
    for split, pictures in scene.items():
        for name, boxes in pictures.items():
            stem = name.rpartition(".")[0]
            write(root / f"labels/{split}/{stem}.txt", yolo(boxes, classes=classes))
            draw(root / f"images/{split}" / name)
    return root


PLANTS = {"COCO": plant_coco, "VOC": plant_voc, "YOLO": plant_yolo}


def kinds(data):
    return Counter(problem.kind for problem in data.problems)


def texts(data, kind):
    return {problem.where: problem.text for problem in data.problems if problem.kind == kind}


def names(data):
    return {split: sorted(one.path.name for one in part) for split, part in data.splits.items()}


def by_name(data):
    return {one.path.name: one for part in data.splits.values() for one in part}


def many(count, *, start=0):
    """Return so many pictures, every tenth with a rare class."""
    return {
        f"{n}.png": [("eel" if n % 10 == 0 else "cat", 1, 1, 9, 9)]
        for n in range(start, start + count)
    }


@pytest.mark.parametrize("form", PLANTS)
def test_one_scene_is_the_same_in_every_format(tmp_path, form):
    root = PLANTS[form](tmp_path / "data", SCENE)
    assert recognises_annotations(root)
    data = load_annotations(str(root), seed=0)
    assert (data.name, data.format, data.classes) == ("data", form, CLASSES)
    assert data.given_splits == ("train", "val", "test")
    assert names(data) == {split: sorted(pictures) for split, pictures in SCENE.items()}
    for split, pictures in SCENE.items():
        for one in data.splits[split]:
            boxes = pictures[one.path.name]
            assert one.size == SIZE
            assert (root / one.name).samefile(one.path)
            assert [data.classes[label] for label in one.labels] == [box[0] for box in boxes]
            expected = np.array([box[1:] for box in boxes], dtype=float).reshape(-1, 4)
            np.testing.assert_allclose(one.boxes, expected, atol=1e-6, rtol=0)
            assert (one.boxes.dtype, one.labels.dtype) == (np.float64, np.int64)
            assert not one.crowd.any()
            hard = form == "VOC" and np.array([box[0] == "eel" for box in boxes], dtype=bool)
            assert (one.difficult == hard).all()
            assert not one.boxes.flags.writeable
    # The gaps are those of COCO's ids; val shows no eel.
    gaps = {"COCO": {"class_gap": 3}, "VOC": {"difficult": 1}}.get(form, {})
    assert kinds(data) == {"no_boxes": 1, "empty_class": 1, **gaps}


def test_other_data_are_not_taken_for_annotations(tmp_path, plant):
    classes = plant(tmp_path / "classes", {"train/cat": 3, "train/dog": 3})
    write(classes / "results.json", '{"accuracy": 1}')
    write(classes / "recipe.yaml", "epochs: 3\n")
    write(classes / "notes.xml", "<annotation/>")
    assert not recognises_annotations(classes)
    assert not recognises_annotations(tmp_path / "absent")
    assert not recognises_annotations(write(tmp_path / "a.txt", ""))
    assert not recognises_annotations("demo")
    with pytest.raises(DataError, match=r"no annotations of boxes.*COCO.*VOC.*YOLO"):
        load_annotations(classes, seed=0)


@pytest.mark.parametrize(
    ("first", "second", "signs"),
    [
        ("COCO", "YOLO", r"COCO \(annotations/instances_test2017.json\) and YOLO \(data.yaml\)"),
        ("VOC", "YOLO", r"VOC \(Annotations\) and YOLO \(data.yaml\)"),
    ],
)
def test_two_formats_in_one_folder_are_refused(tmp_path, first, second, signs):
    PLANTS[first](tmp_path, SCENE)
    PLANTS[second](tmp_path, SCENE)
    assert recognises_annotations(tmp_path)
    with pytest.raises(DataError, match=signs) as caught:
        load_annotations(tmp_path, seed=0)
    assert "\n" not in str(caught.value)
    assert load_annotations(tmp_path / "data.yaml", seed=0).format == "YOLO"


def test_a_folder_around_the_data_is_stepped_into(tmp_path):
    plant_voc(tmp_path / "VOCdevkit" / "VOC2007", SCENE)
    assert recognises_annotations(tmp_path)
    assert load_annotations(tmp_path, seed=0).name == "VOC2007"


@pytest.mark.parametrize(
    ("source", "message"),
    [("absent", "cannot read .*absent: No such file"), ("a.txt", "no annotation file")],
)
def test_what_is_no_data_is_refused(tmp_path, source, message):
    write(tmp_path / "a.txt", "")
    with pytest.raises(DataError, match=message):
        load_annotations(tmp_path / source, seed=0)
    with pytest.raises(UsageError, match="not a path"):
        load_annotations(3, seed=0)
    with pytest.raises(UsageError, match="seed"):
        load_annotations(tmp_path, seed=-1)


@pytest.mark.parametrize("form", PLANTS)
def test_training_pictures_without_boxes_are_refused(tmp_path, form):
    scene = SCENE | {"train": {"a.png": [("cat", 70, 1, 80, 9)], "c.png": []}}
    with pytest.raises(DataError, match=r"training pictures .* no usable boxes.*outside"):
        load_annotations(PLANTS[form](tmp_path, scene), seed=0)


def test_boxes_around_crowds_alone_train_nothing(tmp_path):
    root = plant_coco(tmp_path, SCENE)
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    for box in content["annotations"]:
        box["iscrowd"] = 1
    write(file, content)
    with pytest.raises(DataError, match="no usable boxes"):
        load_annotations(root, seed=0)


def test_without_a_train_split_or_any_picture_nothing_is_cut(tmp_path):
    scene = {"val": SCENE["val"], "test": SCENE["test"]}
    with pytest.raises(DataError, match="test and val but no train split"):
        load_annotations(plant_yolo(tmp_path / "a", scene), seed=0)
    root = plant_coco(tmp_path / "b", SCENE)
    for split in SCENE:
        shutil.rmtree(root / f"{split}2017")
    with pytest.raises(
        DataError, match=r"no usable pictures.*1 of its pictures are not there.*3 problems"
    ):
        load_annotations(root, seed=0)


@pytest.mark.parametrize("form", PLANTS)
@pytest.mark.parametrize(
    ("given", "sizes", "kept"),
    [
        (("train",), (80, 10, 10), {}),
        (("train", "test"), (90, 10, 5), {"test": "test"}),
        (("train", "val"), (90, 10, 5), {"val": "test"}),
    ],
)
def test_splits_that_are_missing_are_cut_from_train(tmp_path, form, given, sizes, kept):
    scene = {split: many(100) if split == "train" else many(5, start=200) for split in given}
    root = PLANTS[form](tmp_path, scene)
    data = load_annotations(root, seed=3)
    assert data.given_splits == tuple(split for split in ("train", "val", "test") if split in given)
    assert tuple(len(data.splits[split]) for split in ("train", "val", "test")) == sizes
    for old, new in kept.items():
        assert names(data)[new] == sorted(scene[old])
    everything = [name for part in names(data).values() for name in part]
    assert sorted(everything) == sorted(name for part in scene.values() for name in part)
    # Ten pictures show the rare class: one of each split that is cut.
    for split in {"train", "val", "test"} - {*kept.values()}:
        eels = sum(data.classes[one.labels[0]] == "eel" for one in data.splits[split])
        assert eels >= 1
        assert eels == 1 or split == "train"
    again, other = load_annotations(root, seed=3), load_annotations(root, seed=4)
    assert names(again) == names(data)
    assert again.fingerprint == data.fingerprint
    assert names(other)["val"] != names(data)["val"]


def test_pictures_of_one_content_are_not_cut_apart(tmp_path):
    root = plant_yolo(tmp_path, {"train": many(60)})
    for n in range(0, 60, 2):
        shutil.copy(root / f"images/train/{n}.png", root / f"images/train/{n}-copy.png")
        write(root / f"labels/train/{n}-copy.txt", "1 0.5 0.5 0.5 0.5")
    data = load_annotations(root, seed=0)
    assert kinds(data)["leak"] == 0
    splits = {name: split for split, part in names(data).items() for name in part}
    assert set(splits.values()) == {"train", "val", "test"}
    for n in range(0, 60, 2):
        assert splits[f"{n}.png"] == splits[f"{n}-copy.png"]


@pytest.mark.parametrize(("count", "message"), [(2, "2 different pictures"), (3, None)])
def test_too_few_pictures_to_cut(tmp_path, count, message):
    root = plant_yolo(tmp_path, {"train": many(count)})
    shutil.copy(root / "images/train/1.png", root / "images/train/copy.png")
    if message is None:
        assert sorted(map(len, load_annotations(root, seed=0).splits.values()))[0] == 1
        return
    with pytest.raises(DataError, match=message):
        load_annotations(root, seed=0)


def test_classes_of_few_pictures_never_stop_a_cut(tmp_path):
    pictures = many(40) | {"rare.png": [("dog", 1, 1, 9, 9)]}
    data = load_annotations(plant_yolo(tmp_path, {"train": pictures}), seed=0)
    assert sum(map(len, data.splits.values())) == 41


@pytest.mark.parametrize("form", PLANTS)
def test_the_fingerprint_is_of_what_was_read(tmp_path, form):
    one = load_annotations(PLANTS[form](tmp_path / "one", SCENE), seed=0)
    same = load_annotations(PLANTS[form](tmp_path / "same", SCENE), seed=1)
    assert same.fingerprint == one.fingerprint
    scene = SCENE | {"val": {"d.jpg": [("dog", 5, 5, 11, 13), ("cat", 40, 3, 48, 40)]}}
    moved = load_annotations(PLANTS[form](tmp_path / "moved", scene), seed=0)
    assert moved.fingerprint != one.fingerprint


def test_no_picture_is_decoded(tmp_path, monkeypatch):
    roots = [plant(tmp_path / form, SCENE) for form, plant in PLANTS.items()]

    def refusing(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refusing)
    with (
        pytest.raises(AssertionError, match="decoded"),
        Image.open(roots[0] / "train2017/a.png") as image,
    ):
        image.load()
    for root in roots:
        assert sum(map(len, load_annotations(root, seed=0).splits.values())) == 5


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no ../shared/data/{name}")
    return path


@pytest.mark.data
def test_real_voc():
    root = shared("bccd")
    data = load_annotations(root, seed=0)
    lists = {split: (root / f"ImageSets/Main/{split}.txt").read_text().split() for split in SCENE}
    assert [len(stems) for stems in lists.values()] == [205, 87, 72]
    assert names(data) == {s: [f"{stem}.jpg" for stem in sorted(lists[s])] for s in lists}
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert kinds(data) == {"degenerate_box": 2}
    assert all("a box (" in problem.text and problem.left_out for problem in data.problems)
    assert sum(len(one.labels) for one in by_name(data).values()) == 361 + 4155 + 372 - 2
    np.testing.assert_array_equal(
        by_name(data)["BloodImage_00000.jpg"].boxes[0], [259, 176, 491, 376]
    )


@pytest.mark.data
def test_real_yolo():
    data = load_annotations(shared("aquarium"), seed=0)
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 448,
        "val": 127,
        "test": 63,
    }
    assert len(data.classes) == 7
    assert kinds(data) == {"path": 3, "degenerate_box": 3, "no_boxes": 1}


@pytest.mark.data
def test_real_coco():
    data = load_annotations(shared("tiny_coco"), seed=0)
    assert data.given_splits == ("train", "val")
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 45,
        "val": 5,
        "test": 50,
    }
    assert {one.name.split("/")[0] for one in data.splits["test"]} == {"val2017"}
    assert len(data.classes) == 80
    assert data.classes[:2] + data.classes[-1:] == ("person", "bicycle", "toothbrush")
    assert sum(int(one.crowd.sum()) for one in by_name(data).values()) == 10
    assert sum(len(one.labels) for one in by_name(data).values()) == 470 + 382
    assert kinds(data) == {"class_gap": 2, "crowd": 1, "no_boxes": 1, "empty_class": 3}
