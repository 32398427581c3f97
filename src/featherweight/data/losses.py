"""What of a data set is not used, told class by class: in its report and in the log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from featherweight.data.dataset import Candidate, Found, Problem
from featherweight.readable import readable

__all__ = ["ClassLoss", "class_losses", "loss_problems", "say_losses"]

logger = logging.getLogger(__name__)

_MOST_LINES = 10
_OWN_LINES = frozenset({"empty_class", "unreadable", "nested", "renamed", "merged"})


class ClassLoss(NamedTuple):
    """The pictures of one class that are not used.

    Attributes:
        label: the class.
        pictures: all that were found of it.
        unread: reason -> count of those that the reader could not use.
        broken: count of those that do not decode.
    """

    label: str
    pictures: int
    unread: Mapping[str, int]
    broken: int

    @property
    def lost(self) -> int:
        """How many are not used."""
        return self.broken + sum(self.unread.values())

    @property
    def reasons(self) -> str:
        """Why, with counts."""
        reasons = {"broken": self.broken, **self.unread}
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)


def class_losses(found: Found, *, broken: Sequence[Candidate]) -> tuple[ClassLoss, ...]:
    """Return every class that lost pictures, in the order of the classes.

    Args:
        found: what the reader handed over.
        broken: those of its candidates that do not decode.
    """
    candidates = Counter(candidate.label for candidate in found.candidates)
    undecoded = Counter(candidate.label for candidate in broken)
    losses = []
    for label in found.classes:
        unread = found.lost.get(label, {})
        total = candidates[label] + sum(unread.values())
        losses.append(ClassLoss(label, total, unread, undecoded[label]))
    return tuple(loss for loss in losses if loss.lost)


def loss_problems(
    classes: Sequence[str], *, used: Iterable[str], losses: Sequence[ClassLoss]
) -> list[Problem]:
    """Return a problem for each class that is gone and each that lost pictures unread.

    Broken pictures have problems of their own.

    Args:
        classes: the declared classes.
        used: those that kept pictures.
        losses: from `class_losses`.
    """
    lost = {loss.label: loss for loss in losses}
    kept = set(used)
    problems = []
    for label in classes:
        loss = lost.get(label)
        if label not in kept:
            why = f": {loss.reasons}" if loss else ""
            detail = f"a declared class without usable pictures{why}"
            problems.append(Problem(kind="empty_class", path=label, detail=detail))
        elif loss is not None and loss.unread:
            detail = f"{loss.lost} of {loss.pictures} pictures are not used: {loss.reasons}"
            problems.append(Problem(kind="lost", path=label, detail=detail))
    return problems


def say_losses(losses: Sequence[ClassLoss], *, problems: Sequence[Problem]) -> None:
    """Warn of every class that lost pictures and of what else is not used, in few lines.

    Args:
        losses: from `class_losses`.
        problems: of the reader.
    """
    # Classes that are gone come first.
    ordered = sorted(losses, key=lambda loss: loss.lost < loss.pictures)
    lines = [_line(loss) for loss in ordered[:_MOST_LINES]]
    rest = ordered[_MOST_LINES:]
    if rest:
        named = ", ".join(f"{loss.label!r} {loss.lost} of {loss.pictures}" for loss in rest)
        lines.append(f"{len(rest)} more classes lost pictures: {named}")
    own = [f"{p.path}: {p.detail}" for p in problems if p.kind in _OWN_LINES]
    lines += own[:_MOST_LINES]
    if len(own) > _MOST_LINES:
        lines.append(f"{len(own) - _MOST_LINES} more folders like these: see data check")
    others = [p for p in problems if p.kind == "ignored"]
    if others:
        more = f"; {len(others) - 1} more like this: see data check" if len(others) > 1 else ""
        lines.append(f"not used: {others[0].path}: {others[0].detail}{more}")
    for line in lines:
        logger.warning("%s", readable(line))


def _line(loss: ClassLoss) -> str:
    if loss.lost == loss.pictures:
        return (
            f"class {loss.label!r} lost all its {loss.pictures} pictures and is left out: "
            f"{loss.reasons}"
        )
    return f"class {loss.label!r} lost {loss.lost} of {loss.pictures} pictures: {loss.reasons}"
