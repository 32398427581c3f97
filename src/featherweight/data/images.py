"""Read a labelled picture data set from a folder, Parquet files or the built-in demo."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import statistics
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featherweight.data.dataset import (
    SPLITS,
    Candidate,
    Found,
    ImageData,
    ImageSplit,
    Inspection,
    Problem,
)
from featherweight.data.decode import inspect_pictures
from featherweight.data.demo import find_demo_pictures
from featherweight.data.folders import ALLOWED_LAYOUTS, find_folder_pictures
from featherweight.data.listing import kind_of_file
from featherweight.data.losses import ClassLoss, class_losses, loss_problems, say_losses
from featherweight.data.parquet import find_parquet_pictures, parquet_files
from featherweight.data.splits import arrange_splits
from featherweight.errors import DataError
from featherweight.readable import readable

__all__ = ["MAX_BROKEN_SHARE", "ImageData", "ImageSplit", "Problem", "load_images"]

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.5
"""Beyond this share of broken pictures something else is wrong: an error, not a warning."""


def load_images(source: str | Path, *, seed: int = 0, quiet: bool = False) -> ImageData:
    """Read a data set: find the pictures, decode each one once to see that it can be, split them.

    Args:
        source: "demo" (8x8 digits; write ./demo for a folder of that name), a folder of class
            folders, with or without train/val/test above them, a .parquet file, or a folder of
            train*/val*/test*.parquet.
        seed: draws the splits that the data does not have.
        quiet: do not warn of what is not used; it is in `skipped` all the same.

    Returns:
        The data; what was left out is listed in `skipped` and, class by class, in the log.

    Raises:
        DataError: the source is absent, holds no labelled pictures, or cannot be split.
    """
    found = _one_form(_find(source))
    inspections = list(inspect_pictures([candidate.source for candidate in found.candidates]))
    pairs = list(zip(found.candidates, inspections, strict=True))
    broken = [
        Problem(kind="broken", path=candidate.name, detail=inspection.error)
        for candidate, inspection in pairs
        if inspection.error is not None
    ]
    if len(broken) > MAX_BROKEN_SHARE * len(inspections):
        raise DataError(
            f"{len(broken)} of {len(inspections)} pictures are broken, "
            f"first {broken[0].path}: {broken[0].detail}",
            allowed=f"up to {MAX_BROKEN_SHARE:.0%}",
            hint="copy or download the data again",
        )
    losses = class_losses(found, broken=[c for c, seen in pairs if seen.error is not None])
    if not quiet:
        if broken:
            first = readable(f"{broken[0].path}: {broken[0].detail}")
            logger.warning("%d broken pictures are skipped, first %s", len(broken), first)
        say_losses(losses, problems=found.problems)
    good = [(candidate, seen) for candidate, seen in pairs if seen.error is None]
    try:
        return _assemble(found, good=good, broken=broken, losses=losses, seed=seed)
    except DataError as error:
        if not losses:
            raise
        lost = ", ".join(f"{loss.label!r}: {loss.reasons}" for loss in losses[:5])
        hint = f"{error.hint}; not used are {lost}{' and more' * (len(losses) > 5)}"
        raise DataError(error.message, allowed=error.allowed, hint=hint) from error


def _one_form(found: Found) -> Found:
    """Write class names in one Unicode form, whichever reader they come from."""
    if all(unicodedata.is_normalized("NFC", name) for name in found.classes):
        return found

    def composed(name: str) -> str:
        return unicodedata.normalize("NFC", name)

    classes = tuple(dict.fromkeys(map(composed, found.classes)))
    candidates = [c._replace(label=composed(c.label)) for c in found.candidates]
    lost = {composed(name): counts for name, counts in found.lost.items()}
    problems = list(found.problems)
    if len(classes) < len(found.classes):
        counts = Counter(map(composed, found.classes))
        detail = "two names that differ in their Unicode form only: one class"
        problems += [
            Problem(kind="merged", path=name, detail=detail) for name in classes if counts[name] > 1
        ]
    return Found(found.name, classes, candidates, problems, lost)


def _find(source: str | Path) -> Found:
    """Choose the reader that understands `source`."""
    path = _place(source)
    if source == "demo":
        return find_demo_pictures()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"no such file or folder: {path}", allowed=ALLOWED_LAYOUTS) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {why}", allowed=ALLOWED_LAYOUTS) from error
    if stat.S_ISDIR(mode):
        files = parquet_files(path)
        return find_parquet_pictures(path, files=files) if files else find_folder_pictures(path)
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is {kind_of_file(path)}", allowed=ALLOWED_LAYOUTS)
    if path.suffix.lower() != ".parquet":
        raise DataError(f"{path} is a file but not Parquet", allowed=ALLOWED_LAYOUTS)
    return find_parquet_pictures(path, files={path: "all"})


def _place(source: object) -> Path:
    """Return what the user gave as a path, with `~` and `~user` replaced."""
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise DataError(f"cannot read data from a value of type {kind}", allowed=ALLOWED_LAYOUTS)
    text = os.fsdecode(source)
    if not text.strip():
        raise DataError("the name of the data is empty", allowed=ALLOWED_LAYOUTS)
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError as error:
        who = path.parts[0]
        why = "no such user" if len(who) > 1 else "the home folder is not known"
        raise DataError(f"{path}: {why}", allowed=ALLOWED_LAYOUTS) from error


def _assemble(
    found: Found,
    *,
    good: Sequence[tuple[Candidate, Inspection]],
    broken: Sequence[Problem],
    losses: Sequence[ClassLoss],
    seed: int,
) -> ImageData:
    """Split the good pictures and freeze everything."""
    labels = [candidate.label for candidate, _ in good]
    splits = arrange_splits(
        labels,
        given=[candidate.split for candidate, _ in good],
        digests=[inspection.digest for _, inspection in good],
        seed=seed,
    )
    used = set(labels)
    classes = tuple(name for name in found.classes if name in used)
    gone = loss_problems(found.classes, used=used, losses=losses)
    index = {name: position for position, name in enumerate(classes)}
    parts: dict[str, ImageSplit] = {}
    for split in SPLITS:
        members = [item for item, name in zip(good, splits, strict=True) if name == split]
        numbers = np.array([index[candidate.label] for candidate, _ in members], dtype=np.int64)
        numbers.flags.writeable = False
        parts[split] = ImageSplit(
            paths_or_bytes=tuple(candidate.source for candidate, _ in members),
            targets=numbers,
            names=tuple(candidate.name for candidate, _ in members),
            inspections=tuple(inspection for _, inspection in members),
        )
    sides = [min(inspection.width, inspection.height) for _, inspection in good]
    return ImageData(
        name=found.name,
        classes=classes,
        splits=parts,
        channels=3,
        fingerprint=_fingerprint(classes, parts),
        skipped=(*broken, *found.problems, *gone),
        typical_size=int(statistics.median(sides)),
    )


def _fingerprint(classes: Sequence[str], splits: dict[str, ImageSplit]) -> str:
    """Digest what a run depends on; where the folder lies does not count."""
    digest = hashlib.sha256(repr(tuple(classes)).encode("utf-8", "surrogateescape"))
    for name, split in splits.items():
        for path, label, seen in zip(split.names, split.targets, split.inspections, strict=True):
            line = f"{name}\0{path}\0{label}\0{seen.digest}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
