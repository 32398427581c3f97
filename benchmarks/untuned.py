"""Lay out the photographs that nobody tuned to as class folders, and check that they are whole.

    git clone https://github.com/marcusklasson/GroceryStoreDataset
    python benchmarks/untuned.py --checkout GroceryStoreDataset --out untuned/grocery

The Grocery Store Dataset (M. Klasson, C. Zhang, H. Kjellström, WACV 2019; MIT licence, see
LICENSE of the checkout), commit fc80ba90f803d79d0383df52c5a4ac5de99ff6fc: photographs of fruit,
vegetables and cartons, taken with a telephone in shops, mostly 348 x 348; 81 classes of which the
lists name 2,640 photographs to train, 296 to validate (of 60 of the classes) and 2,485 to test,
the last from other shops. The split is the one given (train.txt, val.txt and test.txt); a class is
called as in classes.csv. The drawn and "iconic" pictures beside them are left out. No photograph is
part of this repository.

Every file is copied to OUT/{train,val,test}/CLASS/NAME and decoded; a list that names another
number of pictures, a class without pictures to train, a picture that does not decode or a file that
two splits share is an error. Prints one JSON: counts and the digest of all files.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

COUNTS = {"train": 2640, "val": 296, "test": 2485}
CLASSES = 81


def class_names(dataset: Path) -> list[str]:
    """Return the names of the classes in the order of their numbers."""
    with (dataset / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    named = {int(row["Class ID (int)"]): row["Class Name (str)"].strip() for row in rows}
    names = [named[number] for number in range(len(named))]
    if len(set(names)) != CLASSES:
        raise SystemExit(f"classes.csv names {len(set(names))} classes, not {CLASSES}")
    return names


def listed(dataset: Path, split: str) -> Iterator[tuple[Path, int]]:
    """Yield each picture of a split with its class number."""
    for line in (dataset / f"{split}.txt").read_text(encoding="utf-8").splitlines():
        path, label, _ = (part.strip() for part in line.split(","))
        yield dataset / path, int(label)


def lay_out(checkout: Path, out: Path) -> dict[str, Any]:
    """Copy and check all pictures; return what there is."""
    dataset = checkout / "dataset"
    names = class_names(dataset)
    digests: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    found: dict[str, Any] = {"splits": {}}
    for split, expected in COUNTS.items():
        pictures = list(listed(dataset, split))
        if len(pictures) != expected:
            raise SystemExit(f"{split}.txt names {len(pictures)} pictures, not {expected}")
        for source, label in pictures:
            target = out / split / names[label] / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            if digests.setdefault(digest, split) != split:
                raise SystemExit(f"{source} is in {digests[digest]} as well")
            with Image.open(source) as picture:
                picture.convert("RGB").load()
                sizes["{} x {}".format(*picture.size)] += 1
            shutil.copyfile(source, target)
        labels = Counter(label for _, label in pictures)
        found["splits"][split] = {
            "pictures": len(list((out / split).glob("*/*"))),
            "classes": len(labels),
            "least_of_a_class": min(labels.values()),
            "most_of_a_class": max(labels.values()),
        }
        if found["splits"][split]["pictures"] != expected:
            raise SystemExit(f"{out / split} has other files too: give an empty folder")
    if found["splits"]["train"]["classes"] != CLASSES:
        raise SystemExit("a class has no picture to train on")
    together = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return found | {
        "different_files": len(digests),
        "sizes": sizes.most_common(4),
        "sha256": together,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, required=True, help="of GroceryStoreDataset")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    print(json.dumps(lay_out(options.checkout, options.out), indent=1))


if __name__ == "__main__":
    main()
