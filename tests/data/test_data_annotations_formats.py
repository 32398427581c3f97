"""COCO, VOC and YOLO as people lay them out, and files that are refused in one line."""

import json
import os

import numpy as np
import pytest
from test_data_annotations import (
    CLASSES,
    SCENE,
    by_name,
    coco,
    draw,
    kinds,
    many,
    names,
    plant_coco,
    plant_voc,
    plant_yolo,
    texts,
    voc,
    write,
    yolo,
)

from featherweight.data.annotations import load_annotations, recognises_annotations

EXPECTED = {split: sorted(pictures) for split, pictures in SCENE.items()}


# COCO


def test_coco_as_roboflow_writes_it(tmp_path):
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        write(tmp_path / folder / "_annotations.coco.json", coco(SCENE[split]))
        for name in SCENE[split]:
            draw(tmp_path / folder / name)
    assert recognises_annotations(tmp_path)
    data = load_annotations(tmp_path, seed=0)
    assert names(data) == EXPECTED
    assert data.splits["val"][0].name == "valid/d.jpg"


@pytest.mark.parametrize("place", ["", "images/", "data/", "images/train2017/"])
def test_a_coco_file_by_its_name_and_pictures_where_they_may_lie(tmp_path, place):
    file = write(tmp_path / "annotations/instances_train2017.json", coco(many(30)))
    write(tmp_path / "annotations/captions_train2017.json", {"images": []})
    for name in many(30):
        draw(tmp_path / f"{place}{name}")
    for source in (tmp_path, file):
        data = load_annotations(source, seed=0)
        assert (data.given_splits, len(by_name(data))) == (("train",), 30)
        assert by_name(data)["3.png"].name == f"{place}3.png"


@pytest.mark.parametrize("name", ["labels.json", "result.json"])
def test_a_coco_file_of_any_name_is_known_by_its_first_key(tmp_path, name):
    content = json.dumps(coco(many(30)), indent=1)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    for picture in many(30):
        draw(tmp_path / picture)
    assert load_annotations(tmp_path, seed=0).given_splits == ()


def test_coco_names_of_other_machines_and_outside_of_the_data(tmp_path):
    root = tmp_path / "data"
    draw(tmp_path / "secret.png")
    box = [("cat", 1, 1, 9, 9)]
    pictures = {
        "/mnt/disk/a.png": box,
        "C:\\pictures\\b.png": box,
        "sub\\c.png": box,
        "sub/../d.png": box,
        "../secret.png": box,
        "x" * 300: box,
        "bad\0.png": box,
    }
    write(root / "annotations/instances_train.json", coco(pictures))
    for name in ("a.png", "b.png", "sub/c.png", "d.png"):
        draw(root / "images" / name)
    data = load_annotations(root, seed=0)
    assert sorted(one.name for one in by_name(data).values()) == [
        f"images/{name}" for name in ("a.png", "b.png", "d.png", "sub/c.png")
    ]
    found = texts(data, "missing_picture")["annotations/instances_train.json"]
    assert found.startswith("3 of its pictures are not there, first ../secret.png")


def test_coco_ids_are_closed_in_their_order_and_files_may_differ(tmp_path):
    root = plant_coco(tmp_path, SCENE)
    other = ("eel", "cat", "dog", "fox")
    write(root / "annotations/instances_val2017.json", coco(SCENE["val"], classes=other))
    data = load_annotations(root, seed=0)
    assert set(data.classes) == {*CLASSES, "fox"}
    one = by_name(data)["d.jpg"]
    assert [data.classes[label] for label in one.labels] == ["dog", "cat"]
    assert "2 of the ids 1 to 5" in texts(data, "class_gap")["annotations/instances_test2017.json"]


def test_coco_crowds_unknown_classes_and_repeated_names(tmp_path):
    root = plant_coco(tmp_path, SCENE)
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["category_id"] = 2
    content["annotations"][2]["iscrowd"] = 1
    content["annotations"] += [{"image_id": 99, "category_id": 1, "bbox": [1, 1, 9, 9]}]
    content["categories"] += [{"id": 9, "name": "cat"}]
    content["annotations"] += [{"image_id": 7, "category_id": 9, "bbox": [2, 2, 9, 9]}]
    write(file, content)
    data = load_annotations(root, seed=0)
    one = by_name(data)["a.png"]
    assert one.crowd.tolist() == [True, False]
    assert one.labels.tolist() == [0, 0]
    assert data.classes == CLASSES
    assert "of 2, of none of the 3 classes" in texts(data, "unknown_class")["train2017/a.png"]
    assert "1 boxes of pictures that it does not list" in "".join(
        texts(data, "missing_picture").values()
    )
    assert "the ids 1 and 9" in texts(data, "merged_class")["cat"]
    assert texts(data, "crowd").popitem()[1].startswith("2 boxes are around crowds")
    assert texts(data, "empty_class")["train"] == "2 of 3 classes have no boxes here: dog, eel"


# Pascal VOC


@pytest.mark.parametrize("nested", [False, True])
def test_voc_beside_the_pictures_and_in_split_folders(tmp_path, nested):
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        place = tmp_path / folder
        for name, boxes in SCENE[split].items():
            draw(place / ("images" if nested else "") / name)
            stem = name.split(".")[0]
            write(place / ("annotations" if nested else "") / f"{stem}.xml", voc(boxes))
    assert recognises_annotations(tmp_path)
    data = load_annotations(tmp_path, seed=0)
    assert data.format == "VOC"
    assert names(data) == EXPECTED


def test_voc_without_lists_is_cut_and_pictures_may_have_other_names(tmp_path):
    for name, boxes in many(30).items():
        draw(tmp_path / f"photo {name}")
        stem = name.split(".")[0]
        write(tmp_path / f"{stem}.xml", voc(boxes, filename=f"C:\\p\\photo {name}"))
    draw(tmp_path / "3.png")
    data = load_annotations(tmp_path, seed=0)
    assert (data.given_splits, len(by_name(data))) == ((), 31)
    assert set(by_name(data)) == {"3.png"} | {f"photo {n}.png" for n in range(30)}
    assert "1 pictures have no XML file, first photo 3" in texts(data, "missing_annotation")["."]


@pytest.mark.parametrize(
    ("lists", "given", "train"),
    [
        ({"train": "ab", "val": "c", "trainval": "abcdefgh", "test": "d"}, 3, "ab"),
        ({"train": "abc", "trainval": "abcdef", "test": "h"}, 3, "abc"),
        ({"val": "cd", "trainval": "abcd", "test": "h"}, 3, "ab"),
        ({"trainval": "abcdefg", "test": "h", "cat_train": "h"}, 2, None),
    ],
)
def test_voc_lists(tmp_path, lists, given, train):
    plant_voc(tmp_path, {"train": {f"{n}.png": [("cat", 1, 1, 9, 9)] for n in "abcdefgh"}})
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    for name, stems in lists.items():
        flagged = "".join(f"{stem}  -1\n" for stem in stems)
        write(tmp_path / f"ImageSets/Main/{name}.txt", flagged)
    data = load_annotations(tmp_path, seed=0)
    assert len(data.given_splits) == given
    assert names(data)["test"] == [f"{n}.png" for n in lists["test"]]
    if train is not None:
        assert names(data)["train"] == [f"{n}.png" for n in train]
        if "val" not in lists:
            assert names(data)["val"] == ["d.png", "e.png", "f.png"]
    listed = {name.split(".")[0] for part in names(data).values() for name in part}
    rest = [n for n in "abcdefgh" if n not in listed]
    assert ("ignored" in kinds(data)) == bool(rest)
    if rest:
        text = texts(data, "ignored")["Annotations"]
        assert text.startswith(f"{len(rest)} are in no list of ImageSets/Main, first {rest[0]}")


def test_voc_names_of_what_is_missing(tmp_path):
    root = plant_voc(tmp_path, SCENE)
    (root / "JPEGImages/a.png").unlink()
    (root / "Annotations/c.xml").unlink()
    data = load_annotations(root, seed=0)
    assert names(data)["train"] == ["b.JPG", "c.png"]
    assert len(by_name(data)["c.png"].labels) == 0
    assert texts(data, "missing_picture") == {
        "Annotations": "1 are without a picture, first a: left out"
    }
    assert "first c: taken as without boxes" in texts(data, "missing_annotation")["Annotations"]


# YOLO


def roboflow(root, *, head="", folders=("train", "valid", "test")):
    lines = f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n{head}"
    write(root / "data.yaml", f"{lines}\nnc: 3\nnames: {list(CLASSES)}\n")
    for folder in folders:
        for name, boxes in SCENE["val" if folder == "valid" else folder].items():
            draw(root / folder / "images" / name)
            write(root / folder / "labels" / f"{name.split('.')[0]}.txt", yolo(boxes))
    return root


@pytest.mark.parametrize("base", ["", "path: .", "path: /mnt/data", "path: ../datasets"])
def test_yolo_as_roboflow_writes_it(tmp_path, base):
    data = load_annotations(roboflow(tmp_path, head=base), seed=0)
    assert names(data) == EXPECTED
    assert data.classes == CLASSES
    assert kinds(data)["path"] == 3


@pytest.mark.parametrize(
    "lines",
    [
        "path: sub\ntrain: images/train\nval: images/val\ntest: images/test",
        "path: /mnt/x\ntrain: sub/images/train\nvalid: sub/images/val\ntest: [sub/images/test]",
        "train: /mnt/x/sub/images/train\nval: ..\\sub\\images\\val\ntest: ./sub/images/test/",
    ],
)
@pytest.mark.parametrize("listed", ["[cat, dog, eel]", "{0: cat, 1: dog, 2: eel}"])
def test_yolo_folders_and_names_in_every_form(tmp_path, lines, listed):
    plant_yolo(tmp_path / "sub", SCENE)
    (tmp_path / "sub/data.yaml").unlink()
    write(tmp_path / "data.yaml", f"{lines}\nnames: {listed}\n")
    data = load_annotations(tmp_path, seed=0)
    assert names(data) == EXPECTED
    assert data.classes == CLASSES


@pytest.mark.parametrize("folders", [("train",), ("train", "valid")])
def test_yolo_splits_that_are_named_but_not_there_are_cut(tmp_path, folders):
    root = roboflow(tmp_path, folders=folders)
    for n in range(8):
        draw(root / f"train/images/more{n}.png")
    data = load_annotations(root, seed=0)
    assert all(data.splits.values())
    assert kinds(data)["missing_split"] == 3 - len(folders)
    assert "../test/images is not there" in "".join(
        problem.text for problem in data.problems if problem.kind == "missing_split"
    )


def test_yolo_without_folders_in_the_yaml_and_with_one_folder_for_two_splits(tmp_path):
    root = plant_yolo(tmp_path / "plain", SCENE)
    write(root / "data.yaml", "names: [cat, dog, eel]")
    assert names(load_annotations(root, seed=0)) == EXPECTED
    root = plant_yolo(tmp_path / "same", {"train": many(20)})
    write(root / "set.yaml", "train: images/train\nval: images/train\nnames: [cat, dog, eel]")
    (root / "data.yaml").unlink()
    data = load_annotations(root, seed=0)
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    assert "leak" not in kinds(data)
    assert kinds(data)["missing_split"] == 1
    root = plant_yolo(tmp_path / "chosen", {"train": many(20), "test": many(4)})
    write(root / "data.yaml", "train: images/train\nval: images/test\ntest: images/test\n")
    with (root / "data.yaml").open("a") as stream:
        stream.write("names: [cat, dog, eel]")
    data = load_annotations(root, seed=0)
    inner = {split: {one.name for one in part} for split, part in data.splits.items()}
    assert len(inner["test"]) == 4
    assert inner["val"], "cut from train: what is chosen by val must not have seen test"
    assert not inner["val"] & inner["test"]


def test_yolo_ids_with_gaps_are_closed(tmp_path):
    root = plant_yolo(tmp_path, SCENE, classes=("cat", "x", "dog", "y", "eel"))
    folders = (root / "data.yaml").read_text().partition("names")[0]
    write(root / "data.yaml", f"{folders}names: {{0: cat, '2': dog, 4: eel}}\nnc: 3\n")
    data = load_annotations(root, seed=0)
    assert data.classes == CLASSES
    assert by_name(data)["d.jpg"].labels.tolist() == [1, 0]
    assert kinds(data)["class_gap"] == 1


def test_yolo_polygons_key_points_and_ids_that_are_no_integers(tmp_path):
    root = plant_yolo(tmp_path, SCENE)
    label = write(
        root / "labels/train/a.txt",
        "1.0 0.25 0.5 0.5 0.25 0.75 0.75\n\n2 0.5 0.5 0.25 0.25\n",
    )
    write(root / "labels/train/b.txt", "0 0.1 0.1 0.3 0.1 0.3 0.9 0.1 0.9")
    data = load_annotations(root, seed=0)
    one = by_name(data)["a.png"]
    assert one.labels.tolist() == [1, 2]
    np.testing.assert_allclose(one.boxes, [[16, 12, 48, 36], [24, 18, 40, 30]])
    assert texts(data, "polygon") == {
        "labels/train/a.txt": "2 files have polygons: their bounds are taken"
    }
    with (root / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [1, 2]\n")
    write(label, "0 0.5 0.5 0.25 0.25 0.9 0.9")
    data = load_annotations(root, seed=0)
    np.testing.assert_allclose(by_name(data)["a.png"].boxes, [[24, 18, 40, 30]])
    assert "polygon" not in kinds(data)


def test_yolo_names_of_what_is_missing(tmp_path):
    root = plant_yolo(tmp_path, SCENE)
    (root / "images/train/a.png").unlink()
    (root / "labels/train/c.txt").unlink()
    write(root / "labels/train/classes.txt", "cat")
    data = load_annotations(root, seed=0)
    assert names(data)["train"] == ["b.JPG", "c.png"]
    assert texts(data, "missing_annotation") == {
        "images/train/c.png": "1 pictures without label file: no boxes"
    }
    assert texts(data, "missing_picture") == {
        "labels/train": "1 label files without a picture, first a.txt: left out"
    }


def test_yolo_labels_beside_the_pictures(tmp_path):
    write(tmp_path / "data.yaml", "names: [cat, dog, eel]\ntrain: photos")
    for name, boxes in many(20).items():
        draw(tmp_path / "photos" / name)
        write(tmp_path / "photos" / f"{name.split('.')[0]}.txt", yolo(boxes))
    data = load_annotations(tmp_path, seed=0)
    assert sum(len(one.labels) for one in by_name(data).values()) == 20


def test_yolo_follows_links_as_class_folders_do_and_ends_in_circles(tmp_path):
    root = plant_yolo(tmp_path / "data", SCENE)
    draw(tmp_path / "elsewhere/f.png")
    (root / "images/train/f.png").symlink_to(tmp_path / "elsewhere/f.png")
    (root / "images/train/up").symlink_to(root / "images/train")
    (root / "images/train/gone.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(root / "images/train/pipe.png")
    data = load_annotations(root, seed=0)
    assert names(data)["train"] == ["a.png", "b.JPG", "c.png", "f.png"]


def test_yolo_never_reads_outside_of_the_data(tmp_path):
    plant_yolo(tmp_path / "other", SCENE)
    root = plant_yolo(tmp_path / "data", {"train": many(20)})
    write(
        root / "data.yaml",
        f"names: [cat, dog, eel]\ntrain: images/train\nval: ../other/images/val\n"
        f"test: {tmp_path / 'other/images/test'}",
    )
    data = load_annotations(root, seed=0)
    assert len(by_name(data)) == 20
    assert kinds(data)["missing_split"] == 2
