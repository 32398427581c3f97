"""Which picture trains, chooses and tests: stratified, seeded, exact duplicates together."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from featherweight.data.dataset import SPLITS
from featherweight.errors import DataError

__all__ = ["HELD_OUT_SHARE", "MIN_PICTURES", "arrange_splits", "cut_stratified"]

HELD_OUT_SHARE = 0.1
"""Share of the pictures cut off for each of val and test when the data has none."""

MIN_PICTURES = 3
"""A class needs one picture each to train on, to choose by and to test on."""


def arrange_splits(
    labels: Sequence[str], *, given: Sequence[str], digests: Sequence[str], seed: int
) -> list[str]:
    """Return the split of every picture.

    {train,val,test}: as given. {train,test}: val = 10 % of train. {train,val}: val becomes test
    and val is cut from train. One folder, or train alone: 80/10/10.

    Args:
        labels: class name of each picture.
        given: the split each was found in: one of "train", "val", "test", or "all".
        digests: content digest of each picture; equal ones stay together where we cut.
        seed: other seeds draw other pictures; the result does not depend on order or file names.

    Returns:
        "train", "val" or "test" for each picture.

    Raises:
        DataError: one class only, a class too small to split, or absent from train.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        names = ", ".join(map(repr, counts)) or "none"
        raise DataError(
            f"the data has one class only ({names})",
            allowed="two classes or more",
            hint="give the folder that holds one folder per class",
        )
    for label, count in sorted(counts.items()):
        if count < MIN_PICTURES:
            raise _too_few(label, detail=f"{count} usable picture{'s' * (count != 1)}")
    present = set(given)
    if present <= {"all", "train"}:
        alone = cut_stratified(
            labels,
            digests=digests,
            shares={"test": HELD_OUT_SHARE, "val": HELD_OUT_SHARE},
            seed=seed,
        )
        _check_trained(labels, given=alone)
        return alone
    if "train" not in present:
        raise DataError(
            f"the data has {' and '.join(sorted(present))} but no train split",
            allowed="train alone, or with val, test or both",
        )
    _check_trained(labels, given=given)
    if present == set(SPLITS):
        return list(given)
    result = ["test" if split == "val" else split for split in given]
    inside = [i for i, split in enumerate(given) if split == "train"]
    cut = cut_stratified(
        [labels[i] for i in inside],
        digests=[digests[i] for i in inside],
        shares={"val": HELD_OUT_SHARE},
        seed=seed,
    )
    for i, split in zip(inside, cut, strict=True):
        result[i] = split
    _check_trained(labels, given=result)
    return result


def cut_stratified(
    labels: Sequence[str],
    *,
    digests: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Cut the named splits off each class; the rest is "train".

    Pictures of equal digest go to one split, also when they carry different labels. Every split
    gets at least one picture of every class, except of a class that shares its pictures with
    another one.

    Raises:
        DataError: a class has fewer different pictures than there are splits.
    """
    ranks = {digest: _rank(digest, seed=seed) for digest in digests}
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for label, digest in zip(labels, digests, strict=True):
        groups[label][digest] += 1
    counts = Counter(labels)
    assigned: dict[str, str] = {}
    for label in sorted(groups):
        if len(groups[label]) <= len(shares):
            raise _too_few(label, detail=f"{len(groups[label])} different pictures to split")
        free = sorted((g for g in groups[label] if g not in assigned), key=ranks.__getitem__)
        sizes = groups[label]
        waiting = len(shares)
        for split, share in shares.items():
            taken = sum(sizes[group] for group in groups[label] if assigned.get(group) == split)
            quota = max(1, round(share * counts[label])) - taken
            for group in _take(free, sizes=sizes, quota=quota, leave=waiting):
                assigned[group] = split
            free = [group for group in free if group not in assigned]
            waiting -= 1
        assigned.update(dict.fromkeys(free, "train"))
    return [assigned[digest] for digest in digests]


def _take(free: Sequence[str], *, sizes: Mapping[str, int], quota: int, leave: int) -> list[str]:
    """Pick groups up to `quota` pictures, in order, leaving `leave` groups for the other splits.

    When every group is larger than the quota the smallest is taken, so that no split stays empty.
    """
    taken: list[str] = []
    left = quota
    for group in free:
        if left <= 0 or len(free) - len(taken) <= leave:
            break
        if sizes[group] <= left:
            taken.append(group)
            left -= sizes[group]
    if not taken and quota > 0 and len(free) > leave:
        taken = [min(free, key=sizes.__getitem__)]
    return taken


def _rank(digest: str, *, seed: int) -> str:
    """Order pictures by a hash of content and seed: adding a picture moves hardly any other."""
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()


def _check_trained(labels: Sequence[str], *, given: Sequence[str]) -> None:
    trained = {label for label, split in zip(labels, given, strict=True) if split == "train"}
    for label, split in zip(labels, given, strict=True):
        if label not in trained:
            raise DataError(
                f"class {label!r} is in {split} but not in train",
                allowed=f"the classes of train: {_some(sorted(trained))}",
                hint=f"add pictures of {label!r} to train, or remove them from {split}",
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _too_few(label: str, *, detail: str) -> DataError:
    return DataError(
        f"class {label!r} has {detail}",
        allowed=f"at least {MIN_PICTURES} different pictures for each class",
        hint="add pictures, or remove the class",
    )
