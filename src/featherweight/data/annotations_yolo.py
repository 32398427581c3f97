"""YOLO text: one .txt file for each picture, classes and splits in data.yaml.

Source: docs.ultralytics.com, "Object Detection Datasets Overview": each line is `class x_center
y_center width height`, in shares of the picture; labels/ lies where images/ does. A line of a
polygon is `class x1 y1 x2 y2 x3 y3 ...`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from featherweight.data.annotations_check import (
    Box,
    FoundAnnotations,
    Mark,
    MarkedPicture,
    Problem,
    class_text,
    order_classes,
    path_inside,
    place_in,
    read_annotation_file,
    split_of,
    to_number,
)
from featherweight.data.decode import IMAGE_SUFFIXES
from featherweight.data.listing import list_folder
from featherweight.errors import DataError, RecordError
from featherweight.records import read_bounded, read_yaml

__all__ = ["find_yolo", "read_yolo"]

_YAML_BYTES = 1 << 20
_LABEL_BYTES = 4 << 20
_NAMES = re.compile(rb"^names\s*:", re.MULTILINE)
_DEEPEST = 8
_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_NO_LABELS = frozenset({"classes", "labels", "names", "readme"})
"""Text files beside labels that are none: LabelImg writes classes.txt."""


def find_yolo(top: Path) -> list[Path]:
    """Return data.yaml, else the YAML files that have names, else the labels/ beside images/.

    Raises:
        DataError: a folder cannot be read.
    """
    here = list_folder(top)
    files = [file for file in here.files if file.suffix.lower() in (".yaml", ".yml")]
    plain = [file for file in files if file.stem.lower() == "data"]
    named = plain[:1] or [file for file in files if _has_names(file)]
    if named:
        return named
    for folder in (top, *(inner for inner in here.folders if split_of(inner.name))):
        labels = folder / "labels"
        if (folder / "images").is_dir() and labels.is_dir() and _files_below(labels, {".txt"}):
            return [labels]
    return []


def _has_names(file: Path) -> bool:
    try:
        return _NAMES.search(read_bounded(file, limit_bytes=_YAML_BYTES)) is not None
    except (OSError, ValueError):
        return False


def read_yolo(files: Sequence[Path], *, top: Path) -> FoundAnnotations:
    """Read YOLO labels; the classes are the names in data.yaml.

    Folders that data.yaml names are looked for below it, whatever stands before them
    (`../train/images`, as Roboflow writes, or a path of another machine); else folders called as
    splits are taken. The labels of images/a.jpg are labels/a.txt, else a.txt beside it.

    Args:
        files: from `find_yolo`.
        top: the folder of the data.

    Raises:
        DataError: there is no data.yaml, or it is not understood.
    """
    if len(files) > 1 or files[0].is_dir():
        found = ", ".join(place_in(top, file) for file in files)
        raise DataError(
            f"{top} has {found} but no data.yaml: the names of the classes are unknown",
            allowed="one data.yaml with `names` and the folders of train, val and test",
            hint="name the YAML file that counts, or write data.yaml",
        )
    try:
        plain = read_yaml(files[0])
    except RecordError as error:
        raise DataError(error.message) from error
    if not isinstance(plain, dict):
        raise DataError(
            f"{files[0]} is not YOLO: it has no keys", allowed="names, train, val, test"
        )
    names = _class_names(plain, path=files[0])
    problems: list[Problem] = []
    classes = order_classes(names, where=place_in(top, files[0]), problems=problems)
    folders = _split_folders(plain, path=files[0], top=top, problems=problems)
    images = {
        split: list(dict.fromkeys(f for one in inner for f in _files_below(one, IMAGE_SUFFIXES)))
        for split, inner in folders.items()
    }
    keypoints = "kpt_shape" in plain
    pictures = _marked(images, names=names, top=top, keypoints=keypoints, problems=problems)
    return FoundAnnotations(tuple(classes), list(pictures), problems)


def _class_names(plain: Mapping[object, object], *, path: Path) -> dict[int, str]:
    """Return {id: class} of a list or a mapping."""
    names = plain.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(
            f"{path} has no names of classes", allowed="`names`, a list or a mapping from ids"
        )
    found: dict[int, str] = {}
    for key, name in names.items():
        number = to_number(key)
        # YAML reads no, off and 1.0 as what they are not: a class of that name needs quotes.
        text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not (isinstance(text, str) and text.strip()) or not (number >= 0 and number % 1 == 0):
            raise DataError(
                f"{path}: the class {key!r} is called {name!r}",
                allowed="ids from 0, and names as text (in quotes where YAML reads them otherwise)",
            )
        found[int(number)] = class_text(text)
    count = plain.get("nc", len(found))
    if count != len(found):
        raise DataError(f"{path} has nc: {count!r} but {len(found)} names", hint="correct one")
    return found


def _split_folders(
    plain: Mapping[object, object], *, path: Path, top: Path, problems: list[Problem]
) -> dict[str, list[Path]]:
    """Return the folders of each split; where data.yaml names none, those called as splits."""
    where, usual = place_in(top, path), _usual_folders(top)
    base = plain.get("path") or "."
    found: dict[str, list[Path]] = {}
    for split, keys in _SPLIT_KEYS.items():
        given = next((plain[key] for key in keys if plain.get(key)), [])
        for entry in given if isinstance(given, list) else [given]:
            if not isinstance(entry, str) or not isinstance(base, str):
                raise DataError(
                    f"{path}: {split} is {entry!r}", allowed="a folder, or a list of them"
                )
            folder = _folder_named(entry, base=base, top=top)
            if folder is None and split in usual:
                folder = usual[split]
            if folder is None:
                text = f"{split}: {entry} is not there"
                if entry.lower().endswith(".txt"):
                    raise DataError(
                        f"{path}: {text}", allowed="folders; lists of files are not read"
                    )
                problems.append(
                    Problem(kind="missing_split", where=where, text=text, left_out=False)
                )
                continue
            found.setdefault(split, []).append(folder)
            if path_inside(entry) is None:
                text = f"{entry} is not in the data: {place_in(top, folder)} is taken for {split}"
                problems.append(Problem(kind="path", where=where, text=text, left_out=False))
    found = found or {split: [folder] for split, folder in usual.items()}
    for split, other in (("test", "train"), ("val", "train"), ("val", "test")):
        if split in found and found[split] == found.get(other):
            text = f"{split} and {other} are the same folder: it is taken as {other} only"
            problems.append(Problem(kind="missing_split", where=where, text=text, left_out=False))
            del found[split]
    return found


def _folder_named(entry: str, *, base: str, top: Path) -> Path | None:
    """Return the folder below `top` that an entry of data.yaml means; None where there is none."""
    for text in (f"{base}/{entry}", entry):
        inside = path_inside(text)
        if inside is not None and _is_folder(top / inside):
            return top / inside
    parts = [part for part in re.split(r"[/\\]", entry) if part not in ("", ".", "..")]
    # The last part alone could be a folder of another split: images of a valid/ that is gone.
    for start in range(max(1, len(parts) - 1)):
        path = top.joinpath(*parts[start:])
        if _is_folder(path):
            return path
    return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no folder can have
        return False


def _usual_folders(top: Path) -> dict[str, Path]:
    """Return train/images or images/train of each split, or images/ as "all"."""
    images = top / "images"
    found: dict[str, Path] = {}
    for outer in (top, images):
        for folder in list_folder(outer).folders if outer.is_dir() else []:
            split, inner = split_of(folder.name), folder / "images"
            if split is not None:
                found.setdefault(split, inner if inner.is_dir() else folder)
    return found or ({"all": images} if images.is_dir() else {})


def _files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the files with such endings in a folder and in all below it, each folder once."""
    found: list[Path] = []
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        status = here.stat()
        key = (status.st_dev, status.st_ino)
        if key not in seen:  # links may lead in a circle
            seen.add(key)
            listing = list_folder(here)
            found += [file for file in listing.files if file.suffix.lower() in suffixes]
            waiting += reversed(listing.folders)
    return found


def _marked(
    images: Mapping[str, Sequence[Path]],
    *,
    names: Mapping[int, str],
    top: Path,
    keypoints: bool,
    problems: list[Problem],
) -> Iterator[MarkedPicture]:
    """Yield pictures with the boxes of their label files; what lacks the other is listed."""
    polygons, bare = [], []
    folders: dict[Path, set[str]] = {}
    for split, image in ((split, image) for split, inner in images.items() for image in inner):
        name, label = place_in(top, image), _label_file(image, top=top)
        folders.setdefault(label.parent, set()).add(label.name)
        if not label.is_file():
            bare.append(name)
            yield MarkedPicture(image, name, split, name, (), in_shares=True)
            continue
        where, lines = place_in(top, label), _label_lines(label)
        marks = [_mark(words, names=names, keypoints=keypoints) for words in lines]
        if not keypoints and any(len(words) > 5 for words in lines):
            polygons.append(where)
        yield MarkedPicture(image, name, split, where, marks, in_shares=True)

    def note(kind: str, where: str, text: str, *, left_out: bool = False) -> None:
        problems.append(Problem(kind=kind, where=where, text=text, left_out=left_out))

    if polygons:
        note("polygon", polygons[0], f"{len(polygons)} files have polygons: their bounds are taken")
    if bare:
        note("missing_annotation", bare[0], f"{len(bare)} pictures without label file: no boxes")
    for folder, known in folders.items():
        orphans = _orphans(folder, known=known)
        if orphans:
            text = f"{len(orphans)} label files without a picture, first {orphans[0]}: left out"
            note("missing_picture", place_in(top, folder), text, left_out=True)


def _label_file(image: Path, *, top: Path) -> Path:
    """Return labels/a.txt of images/a.jpg, else a.txt beside it."""
    parts = list(image.relative_to(top).parts[:-1])
    for number in range(len(parts) - 1, -1, -1):
        if parts[number].lower() == "images":
            parts[number] = "labels"
            label = top.joinpath(*parts, f"{image.stem}.txt")
            if label.parent.is_dir():
                return label
            break
    return image.with_suffix(".txt")


def _label_lines(path: Path) -> list[list[str]]:
    try:
        text = read_annotation_file(path, limit_bytes=_LABEL_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: {error}") from error
    return [words for line in text.splitlines() if (words := line.split())]


def _mark(words: Sequence[str], *, names: Mapping[int, str], keypoints: bool) -> Mark:
    """Return the box of a line; NaN where the line is neither a box nor a polygon."""
    number, *values = map(to_number, words)
    label: str | int = repr(words[0])
    if number % 1 == 0:  # some tools write 0.0
        label = names.get(int(number), int(number))
    if len(values) == 4 or (keypoints and len(values) > 4):
        x, y, width, height = values[:4]
        return Mark((x - width / 2, y - height / 2, x + width / 2, y + height / 2), label)
    box: Box = (math.nan,) * 4
    if len(values) >= 6 and len(values) % 2 == 0 and not any(map(math.isnan, values)):
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    return Mark(box, label)


def _orphans(folder: Path, *, known: Collection[str]) -> list[str]:
    """Return the label files of no picture; beside pictures any text may lie."""
    if "labels" not in {part.lower() for part in folder.parts} or not folder.is_dir():
        return []
    files = [file for file in list_folder(folder).files if file.suffix.lower() == ".txt"]
    return [f.name for f in files if f.name not in known and f.stem.lower() not in _NO_LABELS]
