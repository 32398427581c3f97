"""Pascal VOC: one XML file for each picture, splits in ImageSets/Main.

Source: Everingham and Winn, The PASCAL Visual Object Classes Challenge 2012 Development Kit:
bndbox has the first and the last pixel of an object, and the top left pixel is (1, 1); its
VOCevaldet.m takes xmax - xmin + 1 as the width. As edges, measured from 0: xmin - 1 to xmax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree as ET
from xml.parsers import expat

from featherweight.data.annotations_check import (
    FoundAnnotations,
    Mark,
    MarkedPicture,
    Problem,
    class_text,
    place_in,
    read_annotation_file,
    split_of,
    to_number,
)
from featherweight.data.decode import IMAGE_SUFFIXES
from featherweight.data.listing import Listing, list_folder
from featherweight.errors import DataError

__all__ = ["VocFolder", "find_voc", "read_voc"]

_XML_BYTES = 4 << 20
_XML_DEPTH = 32
_LIST_BYTES = 64 << 20
_PICTURE_FOLDERS = ("jpegimages", "images")
_FLAG = re.compile(r"\s+-?[01]$")
"""Lists of one class have -1, 0 or 1 behind each name."""


class VocFolder(NamedTuple):
    """A folder of XML files, the folder of their pictures, and their split or "all"."""

    annotations: Path
    pictures: Path
    split: str


def find_voc(top: Path) -> list[VocFolder]:
    """Return where a folder has VOC annotations; empty when it has none.

    Annotations/ beside JPEGImages/ or images/, or XML beside pictures; in the folder itself, or in
    each of its split folders.

    Raises:
        DataError: a folder cannot be read.
    """
    here = list_folder(top)
    found = _pair(top, here=here, split="all")
    if found is not None:
        return [found]
    inner = [(folder, split) for folder in here.folders if (split := split_of(folder.name))]
    pairs = [_pair(folder, here=list_folder(folder), split=split) for folder, split in inner]
    return [pair for pair in pairs if pair is not None]


def _pair(folder: Path, *, here: Listing, split: str) -> VocFolder | None:
    named = {inner.name.lower(): inner for inner in here.folders}
    if "annotations" in named and _xml_files(list_folder(named["annotations"])):
        pictures = next((named[name] for name in _PICTURE_FOLDERS if name in named), folder)
        return VocFolder(named["annotations"], pictures, split)
    pictured = {file.stem for file in here.files if file.suffix.lower() in IMAGE_SUFFIXES}
    if pictured & _xml_files(here).keys():
        return VocFolder(folder, folder, split)
    return None


def _xml_files(here: Listing) -> dict[str, Path]:
    return {file.stem: file for file in here.files if file.suffix.lower() == ".xml"}


def read_voc(folders: Sequence[VocFolder], *, top: Path) -> FoundAnnotations:
    """Read VOC annotations; the classes are the names that occur, sorted.

    The picture of an XML file has its name, else the one that it says. Where ImageSets/Main has
    lists, what they do not name is not part of the data; trainval is train, val or both where the
    lists of these are not there.

    Args:
        folders: from `find_voc`.
        top: the folder of the data.

    Raises:
        DataError: an XML file or a list that cannot be read.
    """
    pictures: list[MarkedPicture] = []
    problems: list[Problem] = []
    lists = _split_lists(top) if [folder.split for folder in folders] == ["all"] else {}
    for folder in folders:
        found = _files_of(folder, top=top)
        here = sorted({*found.xml, *found.pictures})
        named = lists or {folder.split: here}
        pictures += _marked(found, lists=named, top=top, problems=problems)
        listed = {stem for stems in named.values() for stem in stems}
        if rest := [stem for stem in here if stem not in listed]:
            text = f"{len(rest)} are in no list of ImageSets/Main, first {rest[0]}: left out"
            problem = Problem(kind="ignored", where=found.where, text=text, left_out=True)
            problems.append(problem)
    names = {str(mark.label) for picture in pictures for mark in picture.marks} - {""}
    return FoundAnnotations(tuple(sorted(names)), pictures, problems)


class _Files(NamedTuple):
    """The XML files and the pictures of a folder, by name without ending.

    Attributes:
        where: the folder of the XML files, in the data.
        by_name: the pictures by their whole name.
    """

    where: str
    xml: dict[str, Path]
    pictures: dict[str, Path]
    by_name: dict[str, Path]


def _files_of(folder: VocFolder, *, top: Path) -> _Files:
    files = list_folder(folder.pictures).files
    by_name = {file.name: file for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
    pictures = {file.stem: file for file in reversed(by_name.values())}
    xml = _xml_files(list_folder(folder.annotations))
    return _Files(place_in(top, folder.annotations), xml, pictures, by_name)


def _marked(
    found: _Files, *, lists: Mapping[str, Sequence[str]], top: Path, problems: list[Problem]
) -> Iterator[MarkedPicture]:
    """Yield the pictures of all splits; what lacks its picture or its XML file is listed."""
    missing, bare, taken = [], [], set()
    for split, stems in lists.items():
        # An XML file may name a picture that is called otherwise: it has no second file.
        for stem in sorted(stems, key=lambda name: name not in found.xml):
            xml, picture = found.xml.get(stem), found.pictures.get(stem)
            root = None if xml is None else _parse(xml)
            if picture is None and root is not None:
                said = PurePosixPath((root.findtext("filename") or "").replace("\\", "/")).name
                picture = found.by_name.get(said)
            if picture is None:
                missing.append(stem)
            elif root is None or xml is None:
                if picture not in taken:
                    bare.append(stem)
                    name = place_in(top, picture)
                    # In shares: it has no size to miss.
                    yield MarkedPicture(picture, name, split, name, (), in_shares=True)
            else:
                taken.add(picture)
                name, where = place_in(top, picture), place_in(top, xml)
                yield MarkedPicture(picture, name, split, where, _marks(root), _size(root))
    if missing:
        text = f"{len(missing)} are without a picture, first {missing[0]}: left out"
        problem = Problem(kind="missing_picture", where=found.where, text=text, left_out=True)
        problems.append(problem)
    if bare:
        text = f"{len(bare)} pictures have no XML file, first {bare[0]}: taken as without boxes"
        problem = Problem(kind="missing_annotation", where=found.where, text=text, left_out=False)
        problems.append(problem)


def _split_lists(top: Path) -> dict[str, list[str]]:
    """Return the names in ImageSets/Main by split; empty where there are no lists."""
    main = top / "ImageSets" / "Main"
    if not main.is_dir():
        return {}
    lists: dict[str, list[str]] = {}
    for file in list_folder(main).files:
        split = "trainval" if file.stem.lower() == "trainval" else split_of(file.stem)
        if split is None or file.suffix.lower() != ".txt":
            continue
        if split in lists:
            raise DataError(f"{main} has two lists of the split {split!r}", hint="keep one of them")
        try:
            text = read_annotation_file(file, limit_bytes=_LIST_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not text: {error}") from error
        names = [_FLAG.sub("", line.strip()) for line in text.splitlines() if line.strip()]
        lists[split] = [_without_suffix(name) for name in names]
    both = lists.pop("trainval", None)
    missing = [split for split in ("train", "val") if split not in lists]
    if both is not None and missing:
        known = {name for split in ("train", "val") for name in lists.get(split, ())}
        lists[missing[0]] = [name for name in both if name not in known]
    return {split: lists[split] for split in ("train", "val", "test") if split in lists}


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else path.name


def _size(root: ET.Element) -> tuple[float, float] | None:
    if root.find("size") is None:
        return None
    return to_number(root.findtext("size/width")), to_number(root.findtext("size/height"))


def _marks(root: ET.Element) -> list[Mark]:
    """Return the boxes as edges measured from 0, see the source above."""
    marks = []
    for entry in root.iterfind("object"):
        sides = ("xmin", "ymin", "xmax", "ymax")
        left, top, right, bottom = (to_number(entry.findtext(f"bndbox/{side}")) for side in sides)
        label = class_text(entry.findtext("name") or "")
        difficult = (entry.findtext("difficult") or "").strip() == "1"
        marks.append(Mark((left - 1, top - 1, right, bottom), label, difficult=difficult))
    return marks


def _parse(path: Path) -> ET.Element:
    """Return the root of an XML file; entities can be defined nowhere in it.

    A document type is refused at its first byte: it is what defines entities that grow a thousand
    fold, or that name other files.

    Raises:
        DataError: it is not XML, not VOC, or has a document type.
    """
    content = read_annotation_file(path, limit_bytes=_XML_BYTES)
    builder, depth = ET.TreeBuilder(), 0
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _XML_DEPTH:
            raise DataError(f"{path}: elements are nested more than {_XML_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path} has a document type (<!DOCTYPE ...>), which may define entities",
            allowed="plain elements, as annotation tools write them",
            hint="remove that line if you trust the file",
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(content, True)  # noqa: FBT003
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not XML: {error}") from error
    root = builder.close()
    if root.tag != "annotation":
        raise DataError(f"{path} is not Pascal VOC: its root is <{root.tag}>, not <annotation>")
    return root
