"""What a user should know about a data set before anything is trained on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from featherweight.data.annotated_images import load_annotated_images
from featherweight.data.annotations import recognises_annotations
from featherweight.data.dataset import SPLITS, ImageData, Problem
from featherweight.data.images import load_images
from featherweight.errors import DataError, UsageError
from featherweight.readable import plain_text
from featherweight.records import Record

__all__ = ["ERROR_KINDS", "DataReport", "check_data"]

ERROR_KINDS = frozenset({"error"})
"""Kinds of problems that make a data set unusable; all others are warnings."""

IMBALANCE_RATIO = 10
TINY_SIDE = 8
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})


class DataReport(Record):
    """The finding of `check_data`.

    Attributes:
        ok: the data can be used; warnings do not change it.
        classes: class names in label order; empty when the data cannot be used.
        images: usable pictures in all splits.
        per_class: pictures of each class in each split; of pictures with boxes, boxes.
        problems: errors and warnings, see `Problem.kind`.
    """

    ok: bool
    classes: tuple[str, ...]
    images: int
    per_class: dict[str, dict[str, int]]
    problems: tuple[Problem, ...]


def check_data(source: str | Path, *, seed: int = 0) -> DataReport:
    """Load a data set as the other commands do and report everything worth knowing.

    Of pictures with boxes: whatever `load_annotations` and a decode of every picture find. Of
    others: broken, unread and ignored files and the classes they belong to, exact duplicates,
    duplicates across splits (leaks), one picture with two labels. Of both: uneven or missing
    classes, tiny pictures, grey mixed with colour.

    Args:
        source: as for `load_images` or `load_annotations`.
        seed: draws the splits that the data does not have.

    Returns:
        The report; data that cannot be used is reported (kind "error"), not raised.
    """
    try:
        has_boxes = _has_boxes(source)
        if has_boxes:
            data = load_annotated_images(source, seed=seed, quiet=True)
        else:
            data = load_images(source, seed=seed, quiet=True)
    except DataError as error:
        problem = Problem(kind="error", path=plain_text(str(source)), detail=str(error))
        return DataReport(ok=False, classes=(), images=0, per_class={}, problems=(problem,))
    per_class = _boxes_per_class(data) if has_boxes else _per_class(data)
    problems = (
        *data.skipped,
        *(() if has_boxes else _duplicates(data)),
        *_imbalance(data, per_class=per_class, what="boxes" if has_boxes else "pictures"),
        *_appearance(data),
    )
    return DataReport(
        ok=not any(problem.kind in ERROR_KINDS for problem in problems),
        classes=data.classes,
        images=sum(len(split) for split in data.splits.values()),
        per_class=per_class,
        problems=problems,
    )


def _has_boxes(source: str | Path) -> bool:
    """Whether annotations of boxes are there; what is no path is said where it is loaded."""
    try:
        return recognises_annotations(source)
    except (UsageError, ValueError):  # an array compares with a text element by element
        return False


def _per_class(data: ImageData) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {name: {} for name in data.classes}
    for split in SPLITS:
        found = Counter(data.splits[split].targets.tolist())
        for label, name in enumerate(data.classes):
            counts[name][split] = found[label]
    return counts


def _boxes_per_class(data: ImageData) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {name: {} for name in data.classes}
    for split in SPLITS:
        labels = data.splits[split].targets[..., 4]
        for label, name in enumerate(data.classes):
            counts[name][split] = int((labels == label).sum())
    return counts


def _duplicates(data: ImageData) -> list[Problem]:
    """Return one problem for each picture content that occurs more than once."""
    groups: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for split in SPLITS:
        part = data.splits[split]
        for name, label, seen in zip(part.names, part.targets, part.inspections, strict=True):
            groups[seen.digest].append((split, name, int(label)))
    problems = []
    for members in groups.values():
        if len(members) == 1:
            continue
        splits = [split for split in SPLITS if any(member[0] == split for member in members)]
        labels = sorted({label for _, _, label in members})
        first, others = members[0][1], ", ".join(name for _, name, _ in members[1:4])
        more = f" and {len(members) - 4} more" if len(members) > 4 else ""
        detail = f"same content as {others}{more}"
        if len(labels) > 1:
            named = ", ".join(data.classes[label] for label in labels)
            text = f"{detail}, labelled {named}"
            problems.append(Problem(kind="label_conflict", path=first, detail=text))
        if len(splits) > 1:
            text = f"{detail}: in {' and '.join(splits)}"
            problems.append(Problem(kind="leak", path=first, detail=text))
        elif len(labels) == 1:
            problems.append(Problem(kind="duplicate", path=first, detail=detail))
    return problems


def _imbalance(
    data: ImageData, *, per_class: dict[str, dict[str, int]], what: str
) -> list[Problem]:
    problems = []
    train = {name: counts["train"] for name, counts in per_class.items()}
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    if train[most] >= IMBALANCE_RATIO * train[least]:
        detail = f"{train[least]} training {what} against {train[most]} of {most!r}"
        problems.append(Problem(kind="imbalance", path=least, detail=detail))
    for split in ("val", "test"):
        for name in data.classes:
            if per_class[name][split] == 0:
                detail = f"no {what} in {split}: its accuracy is not measured there"
                problems.append(Problem(kind="missing_class", path=name, detail=detail))
    return problems


def _appearance(data: ImageData) -> list[Problem]:
    """Report pictures that are tiny beside the rest, and grey ones among coloured ones."""
    everything = [
        (name, seen)
        for part in data.splits.values()
        for name, seen in zip(part.names, part.inspections, strict=True)
    ]
    problems = []
    # A fixed limit would call every picture of a small-image data set tiny.
    limit = min(TINY_SIDE, data.typical_size) if data.typical_size < 64 else data.typical_size // 4
    tiny = [(name, seen) for name, seen in everything if min(seen.width, seen.height) < limit]
    if tiny:
        name, seen = tiny[0]
        detail = f"{seen.width}x{seen.height} pixels; {len(tiny)} pictures have a side < {limit}"
        problems.append(Problem(kind="tiny", path=name, detail=detail))
    modes = Counter(seen.mode for _, seen in everything)
    if any(mode in GREY_MODES for mode in modes) and any(mode not in GREY_MODES for mode in modes):
        counts = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
        detail = f"grey and colour are mixed ({counts}); every picture is used as RGB"
        problems.append(Problem(kind="mixed_modes", path=data.name, detail=detail))
    return problems
