"""Lay out photographs that nobody tuned to as class folders, and check that they are whole.

    git clone https://github.com/serizba/vision
    python benchmarks/untuned.py birds100 --checkout vision --out untuned/birds100
    git clone https://github.com/marcusklasson/GroceryStoreDataset
    python benchmarks/untuned.py grocery --checkout GroceryStoreDataset --out untuned/grocery
    git clone https://github.com/hybchow/gems
    python benchmarks/untuned.py gems68 --checkout gems --out untuned/gems68

birds100: ex03/task2/bird_dataset of commit 16a8a47ea88abb31d9b61b81dbbe09347bf72385, photographs of
100 of the 200 species of Caltech-UCSD Birds-200-2011 (C. Wah, S. Branson, P. Welinder, P. Perona,
S. Belongie, CNS-TR-2011-001), cropped near the bird and made 227 x 227 for a university exercise.
The terms are those of CUB: for non-commercial research and education; the photographs belong to
those who took them. The split is the one given: 2,999 to train (29 or 30 of each species), 2,903 to
test (15 to 30 of each). train_test_split.txt says 0 for the former, though README.txt calls the
column "is training": its own numbers, and CUB's 30 of each species to train, tell which is which.
None are given to validate: three of each species are drawn from those to train, by the least
SHA-256 of "0 PATH". A few of CUB's photographs are known to be in ImageNet as well.

grocery: the Grocery Store Dataset (M. Klasson, C. Zhang, H. Kjellström, WACV 2019; MIT licence, see
LICENSE of the checkout), commit fc80ba90f803d79d0383df52c5a4ac5de99ff6fc: photographs of fruit,
vegetables and cartons, taken with a telephone in shops, mostly 348 x 348; 81 classes of which the
lists name 2,640 photographs to train, 296 to validate (of 60 of the classes) and 2,485 to test,
the last from other shops. The split is the one given. The drawn and "iconic" pictures beside them
are left out. Accuracies on its test split were seen while `fit` was changed: it is no longer
untouched.

gems68: train_selected and test_selected of commit 2e88c4f696ef609c31f4a17806310abfb6074e5c, the
photographs of B. H. Y. Chow and C. C. Reyes-Aldasoro, "Automatic Gemstone Classification Using
Computer Vision", Minerals 12(1), 60, 2022: 68 kinds, 2,042 to train (23 to 44 of each) and 284 to
test (4 or 5 of each), mostly 225 to 401 pixels square, on plain grounds. The authors' best network
had 69.4 % of the 284, gemmologists 42.6 to 66.9. They were chosen from the Kaggle set "Gemstones
Images" (lsind18), whose maker gathered them from shops and says not to own them: there is no
licence, so for research alone. The split is the authors'. Pictures to train that are, pixel for
pixel, one to test (7) or an earlier one to train (21) are left out. None are given to validate: a
tenth of each kind, at least two, is drawn from those to train, by the least SHA-256 of "0 PATH".

Every file is copied to OUT/{train,val,test}/CLASS/NAME and decoded; a list that names another
number of pictures, a class without pictures to train, a picture that does not decode or a file that
two splits share is an error. Prints one JSON: counts and the digest of all files. No photograph is
part of this repository.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

SPLITS = ("train", "val", "test")
Listed = list[tuple[str, Path, str]]  # split, file, class


class DataSet(NamedTuple):
    """What is known of a set: pictures of each split, classes, and how its lists are read."""

    counts: tuple[int, int, int]
    classes: int
    read: Callable[[Path], Listed]


def read_birds(checkout: Path) -> Listed:
    """Return the photographs of birds with their splits and species."""
    dataset = checkout / "ex03" / "task2" / "bird_dataset"

    def column(name: str) -> dict[int, str]:
        lines = (dataset / name).read_text(encoding="utf-8").splitlines()
        rows = [line.split(", ", 1) for line in lines if line.strip()]
        return {int(number): value.strip() for number, value in rows}

    names, paths = column("classes.txt"), column("images.txt")
    labels, flags = column("image_class_labels.txt"), column("train_test_split.txt")
    if not paths.keys() == labels.keys() == flags.keys():
        raise SystemExit("the lists do not fit together")
    found: Listed = []
    to_train: defaultdict[str, list[str]] = defaultdict(list)
    for number, path in sorted(paths.items()):
        name = names[int(labels[number])]
        if flags[number] == "1":
            found.append(("test", dataset / "images" / path, name))
        else:
            to_train[name].append(path)
    for name, members in to_train.items():
        by_digest = sorted(members, key=lambda path: hashlib.sha256(f"0 {path}".encode()).digest())
        found += [
            ("val" if path in by_digest[:3] else "train", dataset / "images" / path, name)
            for path in members
        ]
    return found


def read_groceries(checkout: Path) -> Listed:
    """Return the photographs of groceries with their splits and classes."""
    dataset = checkout / "dataset"
    with (dataset / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {int(row["Class ID (int)"]): row["Class Name (str)"].strip() for row in rows}
    found: Listed = []
    for split in SPLITS:
        for line in (dataset / f"{split}.txt").read_text(encoding="utf-8").splitlines():
            path, label, _ = (part.strip() for part in line.split(","))
            found.append((split, dataset / path, names[int(label)]))
    return found


def read_gems(checkout: Path) -> Listed:
    """Return the photographs of gems with their splits and kinds."""
    found: Listed = []
    seen: set[str] = set()
    to_train: defaultdict[str, list[Path]] = defaultdict(list)
    for split in ("test", "train"):  # what is to test is not to train as well
        for source in sorted((checkout / f"{split}_selected").glob("*/*.*")):
            with Image.open(source) as picture:
                size = "{} x {}".format(*picture.size)
                pixels = size.encode() + picture.convert("RGB").tobytes()
            digest = hashlib.sha256(pixels).hexdigest()
            if split == "test":
                found.append((split, source, source.parent.name))
            elif digest not in seen:
                to_train[source.parent.name].append(source)
            seen.add(digest)

    def rank(source: Path) -> str:
        path = source.relative_to(checkout).as_posix()
        return hashlib.sha256(f"0 {path}".encode()).hexdigest()

    for name, members in to_train.items():
        held_out = set(sorted(members, key=rank)[: max(2, round(len(members) / 10))])
        found += [("val" if one in held_out else "train", one, name) for one in members]
    return found


SETS = {
    "birds100": DataSet((2699, 300, 2903), 100, read_birds),
    "gems68": DataSet((1815, 199, 284), 68, read_gems),
    "grocery": DataSet((2640, 296, 2485), 81, read_groceries),
}


def lay_out(known: DataSet, checkout: Path, out: Path) -> dict[str, Any]:
    """Copy and check all pictures; return what there is."""
    listed = known.read(checkout)
    digests: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    found: dict[str, Any] = {"splits": {}}
    for split, expected in zip(SPLITS, known.counts, strict=True):
        pictures = [(source, name) for of, source, name in listed if of == split]
        if len(pictures) != expected:
            raise SystemExit(f"the lists name {len(pictures)} pictures to {split}, not {expected}")
        for source, name in pictures:
            target = out / split / name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            if digests.setdefault(digest, split) != split:
                raise SystemExit(f"{source} is in {digests[digest]} as well")
            with Image.open(source) as picture:
                picture.convert("RGB").load()
                sizes["{} x {}".format(*picture.size)] += 1
            shutil.copyfile(source, target)
        of_class = Counter(name for _, name in pictures)
        found["splits"][split] = {
            "pictures": len(list((out / split).glob("*/*"))),
            "classes": len(of_class),
            "least_of_a_class": min(of_class.values()),
            "most_of_a_class": max(of_class.values()),
        }
        if found["splits"][split]["pictures"] != expected:
            raise SystemExit(f"{out / split} has other files too: give an empty folder")
    if found["splits"]["train"]["classes"] != known.classes:
        raise SystemExit("a class has no picture to train on")
    together = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return found | {
        "different_files": len(digests),
        "sizes": sizes.most_common(4),
        "sha256": together,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--checkout", type=Path, required=True, help="of its repository")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    print(json.dumps(lay_out(SETS[options.name], options.checkout, options.out), indent=1))


if __name__ == "__main__":
    main()
