"""What the labels of Parquet rows mean: class names that files declare, or the labels alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from featherweight.data.dataset import Problem
from featherweight.errors import DataError

__all__ = ["Label", "class_of", "declared_names", "ordered_classes", "told_apart"]

Label = int | str | bool
"""What a row says: a number (into the declared names where there are some), or a text."""


def declared_names(of_files: Mapping[Path, tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the class names that files declare; they hold for files that declare none, too.

    Raises:
        DataError: two files declare different ones.
    """
    declared = {file: names for file, names in of_files.items() if names is not None}
    if not declared:
        return None
    first, names = next(iter(declared.items()))
    for file, others in declared.items():
        if others != names:
            raise DataError(
                f"{file} and {first} declare different class names",
                allowed=f"in each file {_some(names)}",
                hint="write them with the same names, in the same order",
            )
    return names


def told_apart(names: Sequence[str], *, path: str, problems: list[Problem]) -> tuple[str, ...]:
    """Return a name of its own for every label number: "crane (134)" and "crane (517)".

    Two numbers with one name are two classes: ImageNet has two cranes, a bird and a machine.

    Args:
        names: as declared.
        path: of the data, for messages.
        problems: gets a line for each name that is there twice.

    Raises:
        DataError: the numbers do not tell the names apart.
    """
    counts = Counter(names)
    classes = tuple(
        name if counts[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)
    )
    for name in [name for name, count in counts.items() if count > 1]:
        numbers = [str(number) for number, other in enumerate(names) if other == name]
        detail = (
            f"the labels {' and '.join(numbers)} carry the name {name!r}: they stay "
            f"{len(numbers)} classes, '{name} ({numbers[0]})' and so on"
        )
        problems.append(Problem(kind="renamed", path=path, detail=detail))
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} declares the class name {twice[0]!r} beside labels that become it",
            allowed="a name of its own for each label",
        )
    return classes


def class_of(label: Label, *, names: Sequence[str], classes: Sequence[str], where: str) -> str:
    """Return the class of a row where files declare names.

    Args:
        label: of the row.
        names: as declared.
        classes: from `told_apart`.
        where: file and row, for the message.

    Raises:
        DataError: a number outside the names (-1 marks unlabelled rows), or another text.
    """
    if isinstance(label, str):
        if label in classes:
            return label
        raise DataError(
            f"row {where} has label {label!r}", allowed=f"the declared names: {_some(classes)}"
        )
    if not 0 <= label < len(names):
        hint = "unlabelled rows cannot be tested on: leave the file out" if label < 0 else None
        raise DataError(
            f"row {where} has label {label}",
            allowed=f"0 to {len(names) - 1} ({_some(names)})",
            hint=hint,
        )
    return classes[label]


def ordered_classes(labels: Iterable[tuple[str, Label]]) -> tuple[str, ...]:
    """Return the classes where no file declares names, plain numbers by value.

    Args:
        labels: where each is (file and row), and what it says.

    Raises:
        DataError: numbers in one file and texts in another: nothing says which are the same.
    """
    texts: set[str] = set()
    first: dict[type, tuple[str, Label]] = {}
    for where, label in labels:
        texts.add(str(label))
        first.setdefault(type(label), (where, label))
    numbers = all(text.removeprefix("-").isdecimal() for text in texts)
    if len(first) > 1 and not numbers:
        (where, label), (there, other) = list(first.values())[:2]
        raise DataError(
            f"row {where} has label {label!r} and row {there} {other!r}",
            allowed="labels of one kind, or class names declared for the numbers",
        )
    return tuple(sorted(texts, key=int) if numbers else sorted(texts))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
