"""Every problem that annotations may have: listed, mended or left out, or refused in one line."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from test_data_annotations import (
    PLANTS,
    SCENE,
    SIZE,
    by_name,
    coco,
    draw,
    kinds,
    names,
    plant_coco,
    plant_voc,
    plant_yolo,
    texts,
    voc,
    write,
)

from featherweight.data import annotations_coco, annotations_voc
from featherweight.data.annotations import load_annotations, recognises_annotations
from featherweight.data.annotations_check import SMALLEST_SIDE
from featherweight.data.pictures import to_eight_bit
from featherweight.errors import DataError

BOMB = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>"
OUTSIDE = "<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>"

GOOD = ("cat", 10, 20, 50, 40)


def left_out(data):
    return {problem.kind for problem in data.problems if problem.left_out}


def with_boxes(boxes):
    """Return the scene with other boxes in its first picture."""
    return SCENE | {"train": SCENE["train"] | {"a.png": boxes}}


def refused(source):
    """Return the one line with which data are refused."""
    with pytest.raises(DataError) as caught:
        load_annotations(source, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", PLANTS)
@pytest.mark.parametrize(
    ("box", "kind", "kept"),
    [
        ((5, 5, 6, 20), "degenerate_box", None),
        ((5, 5, 20, 6), "degenerate_box", None),
        ((5, 5, 5, 5), "degenerate_box", None),
        ((5, 5, 7, 7), None, (5, 5, 7, 7)),
        ((-4, -5, 20, 30), "clipped_box", (0, 0, 20, 30)),
        ((50, 30, 70, 60), "clipped_box", (50, 30, 64, 48)),
        ((50, 30, 64.01, 48.01), None, (50, 30, 64, 48)),
        ((63.5, 10, 99, 20), "degenerate_box", None),
        ((64, 10, 70, 20), "outside_box", None),
        ((-9, 10, 0, 20), "outside_box", None),
        ((10, 60, 20, 70), "outside_box", None),
        ((20, 10, 10, 30), "invalid_box", None),
        ((10, 30, 20, 10), "invalid_box", None),
        ((float("nan"), 1, 9, 9), "invalid_box", None),
        ((float("-inf"), 1, 9, 9), "invalid_box", None),
        ((1, 1, float("inf"), 9), "invalid_box", None),
        ((1, 1, 1e308, 9), "clipped_box", (1, 1, 64, 9)),
        (GOOD[1:], "duplicate_box", None),
    ],
)
def test_boxes_that_are_wrong(tmp_path, form, box, kind, kept):
    root = PLANTS[form](tmp_path, with_boxes([GOOD, ("cat", *box)]))
    data = load_annotations(root, seed=0)
    if (form, box[2]) == ("YOLO", 1e308):
        kept = (0, 1, 64, 9)  # its centre and its size are too large to know the pixel
    expected = [GOOD[1:]] if kept is None else [GOOD[1:], kept]
    np.testing.assert_allclose(by_name(data)["a.png"].boxes, expected, atol=1e-6)
    assert len(by_name(data)["a.png"].labels) == len(expected)
    found = {name for name in kinds(data) if name.endswith("_box")}
    assert found == ({kind} if kind else set())
    assert left_out(data) == (found if len(expected) == 1 else set())
    if kind:
        where = {"COCO": "train2017/a.png", "VOC": "Annotations/a.xml"}
        assert list(texts(data, kind)) == [where.get(form, "labels/train/a.txt")]


def test_several_wrong_boxes_of_a_picture_are_one_line(tmp_path):
    slips = [("cat", n, n, n + SMALLEST_SIDE, n + 9) for n in range(3)]
    data = load_annotations(plant_voc(tmp_path, with_boxes([*slips, GOOD])), seed=0)
    text = texts(data, "degenerate_box")["Annotations/a.xml"]
    assert text == "3 boxes, first (0, 0, 1, 9) of 'cat', with a side of 1 pixel or less: left out"


def test_equal_boxes_of_two_classes_or_of_a_crowd_are_no_duplicates(tmp_path):
    root = plant_coco(tmp_path, with_boxes([GOOD, ("dog", *GOOD[1:]), GOOD]))
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][2]["iscrowd"] = 1
    write(file, content)
    data = load_annotations(root, seed=0)
    assert len(by_name(data)["a.png"].labels) == 3
    assert "duplicate_box" not in kinds(data)


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "0 a b c d", "x 0.5 0.5 0.1 0.1", "0 1 1 1 1 1"])
def test_yolo_lines_that_are_no_boxes(tmp_path, line):
    root = plant_yolo(tmp_path, SCENE)
    write(root / "labels/train/a.txt", f"{line}\n0 0.5 0.5 0.5 0.5\n")
    data = load_annotations(root, seed=0)
    assert len(by_name(data)["a.png"].labels) == 1
    kind = "unknown_class" if line[0] == "x" else "invalid_box"
    assert texts(data, kind).keys() == {"labels/train/a.txt"}


@pytest.mark.parametrize("box", [None, "1 2 3 4", [1, 2, 3], ["a", 1, 2, 3], [True, 1, 9, 9], {}])
def test_coco_boxes_that_are_none(tmp_path, box):
    root = plant_coco(tmp_path, with_boxes([GOOD, GOOD]))
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = box
    write(file, content)
    data = load_annotations(root, seed=0)
    assert len(by_name(data)["a.png"].labels) == 1
    assert kinds(data)["invalid_box"] == 1


@pytest.mark.parametrize(("number", "text"), [(3, "of 3"), (-1, "of -1")])
def test_class_ids_beyond_the_names(tmp_path, number, text):
    root = plant_yolo(tmp_path, SCENE)
    write(root / "labels/train/a.txt", f"{number} 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n")
    data = load_annotations(root, seed=0)
    assert by_name(data)["a.png"].labels.tolist() == [0]
    assert f"{text}, of none of the 3 classes" in texts(data, "unknown_class")["labels/train/a.txt"]
    assert left_out(data) == {"unknown_class"}


def test_a_box_without_a_class_name(tmp_path):
    root = plant_voc(tmp_path, with_boxes([("", 1, 1, 9, 9), GOOD]))
    data = load_annotations(root, seed=0)
    assert by_name(data)["a.png"].labels.tolist() == [0]
    assert kinds(data)["unknown_class"] == 1


def plant_sized(root, form, *, size):
    """Plant the scene, the first picture annotated as of another size."""
    boxes = [("cat", 20, 20, 100, 40)]
    PLANTS[form](root, with_boxes(boxes))
    if form == "VOC":
        write(root / "Annotations/a.xml", voc(boxes, size=size))
        return
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"][0] = {"id": 7, "file_name": "a.png"}
    if size:
        content["images"][0] |= {"width": size[0], "height": size[1]}
    write(file, content)


@pytest.mark.parametrize("form", ["COCO", "VOC"])
@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [
        ((128, 96), "size_differs", (10, 10, 50, 20)),
        ((640, 484), "size_differs", (2, 20 * 48 / 484, 10, 40 * 48 / 484)),
        ((128, 98), "size_differs", None),
        ((48, 64), "size_differs", None),
        (None, "size_missing", (20, 20, 64, 40)),
        ((0, 0), "size_missing", (20, 20, 64, 40)),
        (("a", 48), "size_missing", (20, 20, 64, 40)),
    ],
)
def test_sizes_that_are_not_those_of_the_picture(tmp_path, form, size, kind, expected):
    plant_sized(tmp_path, form, size=size)
    data = load_annotations(tmp_path, seed=0)
    where = "train2017/a.png" if form == "COCO" else "Annotations/a.xml"
    text = texts(data, kind)[where]
    assert kinds(data)[kind] == 1
    if expected is None:
        assert "a.png" not in by_name(data)
        assert "the picture is left out" in text
        assert ("EXIF" in text) == (size == (48, 64))
        assert left_out(data) == {kind}
        return
    assert by_name(data)["a.png"].size == SIZE
    np.testing.assert_allclose(by_name(data)["a.png"].boxes, [expected])
    assert ("64x48" in text) or ("scaled" in text)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", ".bmp", ".ppm"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_shown_picture(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    root = plant_yolo(tmp_path, SCENE)
    path = draw(root / f"images/train/turned{suffix}", exif=exif)
    write(root / "labels/train/turned.txt", "0 0.25 0.5 0.5 1")
    with Image.open(path) as image:
        image.load()
        width, height = to_eight_bit(image).size
    one = by_name(load_annotations(root, seed=0))[path.name]
    assert one.size == (width, height)
    assert one.boxes.tolist() == [[0, 0, width / 2, height]]
    turns = suffix in (".jpg", ".png", ".webp", ".tif") and orientation >= 5
    assert one.size == (SIZE[::-1] if turns else SIZE)


def test_exif_at_the_end_of_a_png_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = plant_yolo(tmp_path, SCENE)
    content = draw(root / "images/train/a.png", exif=exif).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    last = content.index(b"IEND") - 4
    late = content[:start] + content[end:last] + content[start:end] + content[last:]
    (root / "images/train/a.png").write_bytes(late)
    assert by_name(load_annotations(root, seed=0))["a.png"].size == SIZE[::-1]


@pytest.mark.parametrize("form", PLANTS)
@pytest.mark.parametrize("content", [b"", b"x" * 100, "header"])
def test_pictures_that_cannot_be_read_are_left_out(tmp_path, form, content):
    root = PLANTS[form](tmp_path, SCENE)
    path = next(root.rglob("a.png"))
    path.write_bytes(path.read_bytes()[:20] if content == "header" else content)
    data = load_annotations(root, seed=0)
    assert names(data)["train"] == ["b.JPG", "c.png"]
    (text,) = texts(data, "broken").values()
    assert text.endswith(": left out")
    assert left_out(data) == {"broken"}


@pytest.mark.parametrize("form", PLANTS)
def test_the_same_content_in_two_splits_is_a_leak(tmp_path, form):
    root = PLANTS[form](tmp_path, SCENE)
    paths = {name: next(root.rglob(name)) for name in ("a.png", "e.png")}
    shutil.copy(paths["a.png"], paths["e.png"])
    data = load_annotations(root, seed=0)
    (text,) = texts(data, "leak").values()
    assert text.startswith("the same content as")
    assert text.endswith("in train and test")
    assert names(data)["test"] == ["e.png"]


@pytest.mark.parametrize("form", PLANTS)
def test_the_same_name_in_two_splits_is_a_leak_where_the_boxes_are_too(tmp_path, form):
    scene = SCENE | {"test": {"a.png": SCENE["train"]["a.png"]}}
    root = PLANTS[form](tmp_path / "same", scene)
    if form != "VOC":  # there it is one file
        draw(next(root.rglob("test*/a.png")), optimize=True, compress_level=1)
    data = load_annotations(root, seed=0)
    (text,) = texts(data, "leak").values()
    assert text.endswith("in train and test")
    assert ("same boxes" in text) == (form != "VOC")
    if form == "VOC":
        return
    root = PLANTS[form](tmp_path / "other", SCENE | {"test": {"a.png": [GOOD]}})
    draw(next(root.rglob("test*/a.png")), compress_level=1)
    assert "leak" not in kinds(load_annotations(root, seed=0))


def test_a_picture_that_is_listed_twice_counts_once(tmp_path):
    root = plant_voc(tmp_path, SCENE)
    write(root / "ImageSets/Main/train.txt", "a\nb\nc\na\n")
    data = load_annotations(root, seed=0)
    assert names(data)["train"] == ["a.png", "b.JPG", "c.png"]
    assert texts(data, "duplicate_picture").keys() == {"JPEGImages/a.png"}


def test_classes_without_boxes_are_named_by_split(tmp_path):
    scene = SCENE | {"val": {"d.jpg": [("dog", 5, 5, 11, 13)]}}
    data = load_annotations(plant_yolo(tmp_path, scene), seed=0)
    text = "2 of 3 classes have no boxes here: cat, eel"
    assert texts(data, "empty_class") == {"val": text}
    assert texts(data, "no_boxes").popitem()[1].startswith("1 of 5 pictures have no boxes, first ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "is not JSON"),
        ("\xff", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ("[" * 500 + "]" * 500, "nested more than"),
        ("[]", "no list of images"),
        ({"images": [], "annotations": []}, "no list of categories"),
        ({"images": [3], "annotations": [], "categories": []}, "no list of images"),
        (coco({"a.png": []}) | {"images": [{"id": 1}]}, "a picture has the id 1"),
        (coco({"a.png": []}) | {"images": [{"id": 1, "file_name": "a"}] * 2}, "two pictures have"),
        (coco({"a.png": []}) | {"categories": [{"id": 1, "name": "a"}] * 2}, "two categories have"),
        (coco({"a.png": []}) | {"categories": [{"id": "1", "name": "a"}]}, "a category has the id"),
    ],
)
def test_coco_files_that_are_refused(tmp_path, content, message):
    file = write(tmp_path / "annotations/instances_train.json", content)
    line = refused(tmp_path)
    assert message in line
    assert str(file) in line


def test_coco_too_large_twice_for_a_split_or_no_file(tmp_path, monkeypatch):
    root = plant_coco(tmp_path, SCENE)
    shutil.copy(
        root / "annotations/instances_val2017.json", root / "annotations/instances_valid.json"
    )
    assert "several COCO files of the split 'val'" in refused(root)
    (root / "annotations/instances_valid.json").unlink()
    monkeypatch.setattr(annotations_coco, "_JSON_BYTES", 100)
    assert "instances_test2017.json: it is larger than" in refused(root)
    (root / "annotations/instances_test2017.json").unlink()
    os.mkfifo(root / "annotations/instances_test2017.json")
    monkeypatch.undo()
    assert load_annotations(root, seed=0).given_splits == ("train", "val")  # no waiting for a pipe


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("head", [BOMB, OUTSIDE])
def test_xml_that_defines_entities_is_refused(tmp_path, head, encoding):
    root = plant_voc(tmp_path, SCENE)
    text = voc([("&a;", 1, 1, 9, 9)])
    (root / "Annotations/a.xml").write_bytes(f"{head}{text}".encode(encoding))
    assert "a.xml has a document type" in refused(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "is not XML: no element found"),
        ("", "is not XML"),
        ("<annotation>&a;</annotation>", "is not XML: undefined entity"),
        ('<?xml version="1.0" encoding="gb2312"?><annotation/>', "is not XML"),
        ("<a/>", "is not Pascal VOC: its root is <a>"),
        ("<annotation>" + "<a>" * 99 + "</a>" * 99 + "</annotation>", "nested more than"),
    ],
)
def test_voc_files_that_are_refused(tmp_path, content, message):
    root = plant_voc(tmp_path, SCENE)
    file = write(root / "Annotations/a.xml", content)
    assert f"{file}" in refused(root)
    assert message in refused(root)


def test_voc_too_large(tmp_path, monkeypatch):
    root = plant_voc(tmp_path, SCENE)
    monkeypatch.setattr(annotations_voc, "_XML_BYTES", 10)
    assert "a.xml: it is larger than" in refused(root)
    write(root / "ImageSets/Main/valid.txt", "d")
    assert "two lists of the split 'val'" in refused(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [a", "cannot read"),
        ("\0", "cannot read"),
        ("a: &a [x]\nnames: [" + "*a," * 5 + "]\nb: &b [*b]", "cannot read"),
        ("- a", "it has no keys"),
        ("train: images", "has no names"),
        ("names: []", "has no names"),
        ("names: {a: b}", "the class 'a' is called 'b'"),
        ("names: {-1: b}", "the class -1"),
        ("names: [cat, no]", "the class 1 is called False"),
        ("names: [cat]\nnc: 2", "nc: 2 but 1 names"),
        ("names: [cat]\ntrain: 3", "train is 3"),
        ("names: [cat]\ntrain: train.txt", "lists of files are not read"),
        ("names: [cat]\n#" + "x" * 2_000_000, "larger than 1 MB"),
    ],
)
def test_yaml_that_is_refused(tmp_path, content, message):
    file = write(tmp_path / "data.yaml", content)
    draw(tmp_path / "pictures/a.png")
    line = refused(tmp_path)
    assert message in line
    assert str(file) in line


def test_yolo_labels_that_are_no_text_and_folders_without_a_yaml(tmp_path):
    root = plant_yolo(tmp_path, SCENE)
    (root / "labels/train/a.txt").write_bytes(b"\xff\xfe\x00")
    assert "a.txt is not text" in refused(root)
    (root / "data.yaml").unlink()
    assert recognises_annotations(root)
    assert "has labels but no data.yaml" in refused(root)
    for name in ("one.yaml", "two.yml"):
        write(root / name, "names: [cat]")
    assert "has one.yaml, two.yml but no data.yaml" in refused(root)
