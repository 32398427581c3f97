"""Pictures with boxes for object detection: COCO JSON, Pascal VOC XML or YOLO text, whichever."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from featherweight.arguments import check_seed, to_path
from featherweight.data.annotations_check import (
    AnnotatedPicture,
    CheckedPicture,
    FoundAnnotations,
    Problem,
    check_pictures,
    place_in,
    split_of,
)
from featherweight.data.annotations_coco import coco_file, find_coco, read_coco
from featherweight.data.annotations_voc import find_voc, read_voc
from featherweight.data.annotations_yolo import find_yolo, read_yolo
from featherweight.data.dataset import SPLITS
from featherweight.data.decode import content_digest, read_picture
from featherweight.data.listing import list_folder
from featherweight.data.splits import HELD_OUT_SHARE, cut_stratified
from featherweight.errors import DataError
from featherweight.readable import plain_text

__all__ = [
    "ANNOTATION_LAYOUTS",
    "AnnotatedData",
    "AnnotatedPicture",
    "Problem",
    "load_annotations",
    "recognises_annotations",
]

ANNOTATION_LAYOUTS = (
    "COCO (annotations/*.json, or _annotations.coco.json beside the pictures), Pascal VOC "
    "(Annotations/*.xml, or XML beside the pictures), YOLO (data.yaml with images/ and labels/)"
)

_DEEPEST = 4
_REST = "other"
_SMALLEST_STRATUM = round(1 / HELD_OUT_SHARE)
"""Pictures. Of fewer, the share that is cut off would be more than HELD_OUT_SHARE."""


class _Format(NamedTuple):
    """A format that was found, the first file that says so, and what reads it."""

    name: str
    sign: Path
    read: Callable[[], FoundAnnotations]


@dataclass(frozen=True, eq=False)
class AnnotatedData:
    """Pictures with boxes in three splits; pictures of which only the headers were read.

    Attributes:
        name: of the folder, for messages and reports.
        format: "COCO", "VOC" or "YOLO".
        classes: names, as the labels of the pictures count them, from 0 without gaps.
        splits: "train", "val" and "test", none of them empty; train has boxes.
        problems: what was wrong and what was done about it.
        fingerprint: SHA-256 over classes, splits, cleaned boxes, names, sizes and file lengths.
        given_splits: those that the data has, by its own names. Of the others "test" is the data's
            val, where it has one, and the rest is cut from train.
    """

    name: str
    format: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[AnnotatedPicture, ...]]
    problems: tuple[Problem, ...]
    fingerprint: str
    given_splits: tuple[str, ...]


def recognises_annotations(source: str | os.PathLike[str]) -> bool:
    """Tell whether a folder or file looks like annotated pictures; no annotation is read.

    Raises:
        UsageError: `source` is no path.
    """
    try:
        return source != "demo" and bool(_formats(to_path(source, name="data"))[1])
    except DataError:  # said where it is loaded
        return False


def load_annotations(source: str | os.PathLike[str], *, seed: int) -> AnnotatedData:
    """Read the boxes of all pictures, list what is wrong with them, split the pictures.

    The format is found by itself. {train,val,test}: as given. {train,test}: val = 10 % of train.
    {train,val}: val becomes test and val is cut from train. Else: 80/10/10. A cut is stratified by
    the rarest class of each picture; pictures of one content stay together.

    Args:
        source: a folder, or the COCO file or data.yaml in it.
        seed: draws the splits that the data does not have; other seeds draw other pictures.

    Raises:
        DataError: nothing is there, no format or two of them, a file that cannot be understood, no
            usable pictures, or no boxes to train on.
        UsageError: `source` is no path, or `seed` no seed.
    """
    check_seed(seed)
    top, formats = _formats(to_path(source, name="data"))
    if not formats:
        raise DataError(f"no annotations of boxes in {top}", allowed=ANNOTATION_LAYOUTS)
    if len(formats) > 1:
        signs = " and ".join(f"{one.name} ({place_in(top, one.sign)})" for one in formats)
        raise DataError(
            f"{top} has annotations in several formats: {signs}",
            allowed="one format",
            hint="name the COCO file or the data.yaml that counts, or move the others away",
        )
    found = formats[0].read()
    checked, problems = check_pictures(found)
    problems = [*found.problems, *problems]
    if not checked:
        raise _unusable(f"{top} has no usable pictures", problems=problems)
    keys = _content_keys(checked)
    names = _arrange(checked, keys=keys, seed=seed)
    members = {
        split: [one for one, name in zip(checked, names, strict=True) if name == split]
        for split in SPLITS
    }
    splits = {split: tuple(one.picture for one in inner) for split, inner in members.items()}
    if not any((~picture.crowd).any() for picture in splits["train"]):
        raise _unusable(f"the training pictures of {top} have no usable boxes", problems=problems)
    name = plain_text(top.resolve().name)
    problems += _content_problems(splits, classes=found.classes, name=name)
    problems += _leaks(checked, keys=keys, splits=names)
    return AnnotatedData(
        name=name,
        format=formats[0].name,
        classes=found.classes,
        splits=splits,
        problems=tuple(problems),
        fingerprint=_fingerprint(found.classes, members),
        given_splits=tuple(s for s in SPLITS if any(one.split == s for one in checked)),
    )


def _formats(path: Path) -> tuple[Path, list[_Format]]:
    """Return the folder of the data and the formats it has.

    Raises:
        DataError: there is no such file or folder, or it cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {why}", allowed=ANNOTATION_LAYOUTS) from error
    if not stat.S_ISDIR(mode):
        return _format_of_file(path, regular=stat.S_ISREG(mode))
    top = path
    for _ in range(_DEEPEST):
        formats = _formats_in(top)
        folders = list_folder(top).folders
        if formats or len(folders) != 1:
            return top, formats
        top = folders[0]  # unpacked archives: VOCdevkit/VOC2007/
    return path, []


def _formats_in(top: Path) -> list[_Format]:
    formats = []
    if coco := find_coco(top):
        formats.append(_Format("COCO", coco[0].path, partial(read_coco, coco, top=top)))
    if voc := find_voc(top):
        formats.append(_Format("VOC", voc[0].annotations, partial(read_voc, voc, top=top)))
    if yolo := find_yolo(top):
        formats.append(_Format("YOLO", yolo[0], partial(read_yolo, yolo, top=top)))
    return formats


def _format_of_file(path: Path, *, regular: bool) -> tuple[Path, list[_Format]]:
    top, suffix = path.parent, path.suffix.lower()
    if regular and suffix == ".json":
        if top.name.lower() == "annotations" or split_of(top.name):
            top = top.parent
        return top, [_Format("COCO", path, partial(read_coco, [coco_file(path)], top=top))]
    if regular and suffix in (".yaml", ".yml"):
        return top, [_Format("YOLO", path, partial(read_yolo, [path], top=top))]
    raise DataError(f"{path} is no annotation file", allowed="a folder, a COCO .json, a data.yaml")


def _unusable(message: str, *, problems: Sequence[Problem]) -> DataError:
    """Say why, where something was left out."""
    lost = [problem for problem in problems if problem.left_out] or list(problems)
    more = f" ({len(lost)} problems in all)" if len(lost) > 1 else ""
    hint = f"first {lost[0].where}: {lost[0].text}{more}" if lost else None
    return DataError(message, allowed="pictures that can be read, with boxes in train", hint=hint)


def _content_keys(checked: Sequence[CheckedPicture]) -> list[str]:
    """Return a text for each picture that is equal where the contents are.

    Only files of one length are read for it: COCO's train2017 has 19 GB.
    """
    lengths = Counter(one.file_bytes for one in checked)
    keys = []
    for one in checked:
        key = f"name {one.picture.name}"
        if lengths[one.file_bytes] > 1:
            try:
                key = content_digest(read_picture(one.picture.path))
            except OSError as error:
                raise DataError(f"cannot read {one.picture.path}: {error.strerror}") from error
        keys.append(key)
    return keys


def _arrange(checked: Sequence[CheckedPicture], *, keys: Sequence[str], seed: int) -> list[str]:
    """Return the split of every picture, see `load_annotations`."""
    present = {one.split for one in checked}
    if present <= {"all", "train"}:
        names = ["train"] * len(checked)
        shares = {"test": HELD_OUT_SHARE, "val": HELD_OUT_SHARE}
    elif "train" not in present:
        raise DataError(
            f"the data has {' and '.join(sorted(present))} but no train split",
            allowed="train alone, or with val, test or both",
        )
    elif present == set(SPLITS):
        return [one.split for one in checked]
    else:
        names = ["test" if one.split == "val" else one.split for one in checked]
        shares = {"val": HELD_OUT_SHARE}
    inside = {
        key: one.picture
        for one, key, name in zip(reversed(checked), reversed(keys), reversed(names), strict=True)
        if name == "train"
    }
    cut = _cut(inside, shares=shares, seed=seed)
    return [cut[key] if name == "train" else name for name, key in zip(names, keys, strict=True)]


def _cut(
    pictures: Mapping[str, AnnotatedPicture], *, shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return the split of each content, stratified by the rarest class that it shows."""
    least = len(shares) + 1
    if len(pictures) < least:
        raise DataError(
            f"the data has {len(pictures)} different pictures to split",
            allowed=f"at least {least}: to train on, and for {' and '.join(shares)}",
        )
    shown = Counter(int(n) for one in pictures.values() for n in np.unique(one.labels))
    rarest = {
        key: str(min(one.labels.tolist(), key=lambda label: (shown[label], label), default=_REST))
        for key, one in pictures.items()
    }
    sizes = Counter(rarest.values())
    strata = {
        key: name if sizes[name] >= _SMALLEST_STRATUM else _REST for key, name in rarest.items()
    }
    # So few that none can be spared; the others are enough for every split.
    tiny = Counter(strata.values())[_REST] < least
    spread = [key for key in pictures if not (tiny and strata[key] == _REST)]
    cut = cut_stratified([strata[key] for key in spread], digests=spread, shares=shares, seed=seed)
    return dict.fromkeys(pictures, "train") | dict(zip(spread, cut, strict=True))


def _content_problems(
    splits: Mapping[str, Sequence[AnnotatedPicture]], *, classes: Sequence[str], name: str
) -> list[Problem]:
    """Count pictures without boxes and crowds; name the classes that a split does not show."""
    everything = [picture for part in splits.values() for picture in part]
    problems = []
    bare = [picture.name for picture in everything if not len(picture.labels)]
    if bare:
        text = f"{len(bare)} of {len(everything)} pictures have no boxes, first {bare[0]}: kept"
        problems.append(Problem(kind="no_boxes", where=name, text=text, left_out=False))
    crowds = sum(int(picture.crowd.sum()) for picture in everything)
    if crowds:
        text = f"{crowds} boxes are around crowds: kept apart, not to be learned"
        problems.append(Problem(kind="crowd", where=name, text=text, left_out=False))
    difficult = sum(int((picture.difficult & ~picture.crowd).sum()) for picture in everything)
    if difficult:
        text = f"{difficult} objects are marked difficult: neither to be learned nor to be found"
        problems.append(Problem(kind="difficult", where=name, text=text, left_out=False))
    for split, part in splits.items():
        labels = np.concatenate([picture.labels[~picture.crowd] for picture in part])
        counts = np.bincount(labels, minlength=len(classes))
        empty = [name for name, count in zip(classes, counts, strict=True) if not count]
        if empty:
            more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
            shown = f"{', '.join(empty[:5])}{more}"
            text = f"{len(empty)} of {len(classes)} classes have no boxes here: {shown}"
            problems.append(Problem(kind="empty_class", where=split, text=text, left_out=False))
    return problems


def _leaks(
    checked: Sequence[CheckedPicture], *, keys: Sequence[str], splits: Sequence[str]
) -> list[Problem]:
    """Return one problem for each picture that is in two splits; it is kept in both.

    It is the same by its content, or by its file name and its boxes: a copy that was saved again.
    A name alone is no sign, 0001.jpg is in every split of a film.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for row, (one, key) in enumerate(zip(checked, keys, strict=True)):
        groups[key].append(row)
        picture = one.picture
        if len(picture.boxes):
            shares = np.round(picture.boxes / (picture.size * 2), 3) + 0.0
            name = picture.path.stem.lower()
            groups[name, picture.labels.tobytes(), shares.tobytes()].append(row)
    problems: dict[tuple[int, ...], Problem] = {}
    for group, rows in groups.items():
        inside = {splits[row] for row in rows}
        if len(inside) > 1:
            same = "content" if isinstance(group, str) else "name and the same boxes"
            first, *others = (checked[row].picture.name for row in rows)
            where = " and ".join(split for split in SPLITS if split in inside)
            text = f"the same {same} as {', '.join(others[:3])}: in {where}"
            problem = Problem(kind="leak", where=first, text=text, left_out=False)
            problems.setdefault(tuple(rows), problem)
    return list(problems.values())


def _fingerprint(classes: Sequence[str], members: Mapping[str, Sequence[CheckedPicture]]) -> str:
    """Digest what a run depends on; where the folder lies does not count."""
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for split, part in members.items():
        for picture, _, file_bytes in part:
            head = (split, picture.name, picture.size, file_bytes, len(picture.labels))
            digest.update(repr(head).encode())
            digest.update(picture.boxes.astype("<f8").tobytes())
            digest.update(picture.labels.astype("<i8").tobytes())
            digest.update(picture.crowd.tobytes() + picture.difficult.tobytes())
    return digest.hexdigest()
