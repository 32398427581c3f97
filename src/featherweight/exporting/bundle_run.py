"""Answer pictures with the network in this folder.

    python run.py picture.jpg [more.png ...]     the best answers for each picture
    python run.py picture.jpg --draw FOLDER      of a detector: also the picture with its boxes
    python run.py --self-test                    check that this machine computes what was exported

Needs onnxruntime, numpy and Pillow; nothing else.
"""

from __future__ import annotations

import argparse
import json
import stat
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from featherweight.data.drawing import draw_objects, drawing_places, upright
from featherweight.data.pictures import read_picture_file, square_pixels

FOLDER = Path(__file__).resolve().parent
TOLERANCE = {"fp32": 1e-3}
"""Largest difference relative to the largest logit. Another CPU may round int8 differently."""
TOLERANCE_INT8 = 0.1
SURE = 0.3
"""Score of an object from which on it is told."""
LARGEST_TEXT_BYTES = 16 << 20


def beside(name: str) -> Path:
    """Return the path of a file of the bundle.

    Raises:
        OSError: it is absent, or no regular file (a pipe or a device may never end).
    """
    if not stat.S_ISREG((FOLDER / name).stat().st_mode):
        raise OSError(f"{name} is not a regular file")
    return FOLDER / name


def read_text(name: str, errors: str = "strict") -> str:
    """Return the content of a small file of the bundle."""
    if beside(name).stat().st_size > LARGEST_TEXT_BYTES:
        raise OSError(f"{name} is larger than {LARGEST_TEXT_BYTES >> 20} MB")
    return beside(name).read_text(encoding="utf-8", errors=errors)


def read_square(path: str, settings: dict[str, Any]) -> np.ndarray:
    """Return a picture file as the network takes it: uint8 (1, H, W, 3), not normalised.

    Raises:
        OSError, ValueError: the file cannot be read, or is no picture.
    """
    return square_pixels(
        read_picture_file(path),
        size=settings["input_shape"][0],
        interpolation=settings["interpolation"],
        crop_fraction=settings["crop_fraction"],
        stretch=settings.get("stretch", False),
    )[None]


def open_model(settings: dict[str, Any], threads: int) -> Any:
    """Return a function uint8 (1, H, W, 3) -> {output: float32 (1, ...)}."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(beside(settings["model"])), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    outputs = [one.name for one in session.get_outputs()]
    return lambda image: dict(zip(outputs, session.run(outputs, {name: image}), strict=True))


def difference(values: np.ndarray, expected: np.ndarray, output: str) -> float:
    """Return the largest difference of answers, relative to the largest answer."""
    if output == "detections":
        return difference_of_objects(values[0], expected[0])
    scale = max(np.abs(expected).max(initial=0.0), 1e-30)
    return float(np.abs(values - expected).max(initial=0.0) / scale)


def difference_of_objects(found: np.ndarray, expected: np.ndarray) -> float:
    """Return how far sure objects, or the surest one, are from the nearest of their class.

    Rows are box (shares of the sides), score and class (-1 = none). Rounding changes the places of
    rows, and what is less sure comes and goes.
    """
    present = expected[expected[:, 5] >= 0]
    sure = present[present[:, 4] >= SURE + 0.05]
    farthest = 0.0
    for row in sure if len(sure) else present[:1]:
        same = found[found[:, 5] == row[5], :5]
        away = np.abs(same - row[:5]).max(axis=1)
        farthest = max(farthest, float(away.min(initial=1.0)))
    return farthest


def self_test(settings: dict[str, Any], threads: int) -> int:
    """Compare with the answers stored at the export; return the exit code."""
    stored = np.load(beside("selftest.npz"), allow_pickle=False)
    predict = open_model(settings, threads)
    errors = []
    for output, values in predict(stored["sample"]).items():
        expected = stored[f"expected.{output}"]
        errors.append(difference(values, expected, output))
    error = float(np.max(errors))  # not max(): it may pass over NaN
    ok = error <= TOLERANCE.get(settings["precision"], TOLERANCE_INT8)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        predict(stored["sample"])
        times.append((time.perf_counter() - start) * 1e3)
    verdict = "ok" if ok else "FAILED"
    sys.stdout.write(
        f"self-test {verdict}: relative error {error:.2g}, {np.median(times):.2f} ms a picture "
        f"({threads} threads, onnxruntime {onnxruntime.__version__})\n"
    )
    return 0 if ok else 1


def answer_pictures(
    paths: list[str], settings: dict[str, Any], given: argparse.Namespace, drawn: dict[Path, Path]
) -> int:
    """Write the answers for each picture; return 2 if one of them could not be read."""
    # Names need not be UTF-8, nor printable: as bytes they come back, as text they are escaped.
    labels = read_text("labels.txt", errors="surrogateescape").splitlines()
    predict = open_model(settings, given.threads)
    answers, unread = [], 0
    for path in paths:
        try:
            image = read_square(path, settings)
        except (OSError, ValueError) as error:
            unread += 1
            reason = getattr(error, "strerror", None) or error
            sys.stderr.write(f"{printable(path)}: cannot be read as a picture: {reason}\n")
            continue
        found = predict(image)
        if settings["task"] == "classification":
            answers += named(path, found["logits"][0], labels, given.top)
        elif settings["task"] == "detection":
            answers.append(located(path, found["detections"][0], labels, drawn.get(Path(path))))
        else:  # what another task's numbers mean is not known here
            answers.append({"image": path, **{name: a[0].tolist() for name, a in found.items()}})
    if given.json or settings["task"] not in ("classification", "detection"):
        sys.stdout.write(json.dumps(answers) + "\n")
    elif settings["task"] == "detection":
        for answer in answers:
            for one in answer["objects"]:
                box = " ".join(f"{value:.0f}" for value in one["box"])
                names = f"{printable(answer['image'])}\t{printable(one['label'])}"
                sys.stdout.write(f"{names}\t{one['score']:.3f}\t{box}\n")
    else:
        for answer in answers:
            names = f"{printable(answer['image'])}\t{printable(answer['label'])}"
            sys.stdout.write(f"{names}\t{answer['score']:.3f}\n")
    return 2 if unread else 0


def named(path: str, logits: np.ndarray, labels: list[str], top: int) -> list[dict[str, Any]]:
    """Return the best classes of one picture with their shares."""
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    best = np.argsort(-shares)[:top]
    return [{"image": path, "label": labels[k], "score": float(shares[k])} for k in best]


def located(path: str, table: np.ndarray, labels: list[str], drawn: Path | None) -> dict[str, Any]:
    """Return the objects in one picture, boxes in its pixels; draw them where a file is given."""
    image = upright(read_picture_file(path))
    sure = table[(table[:, 5] >= 0) & (table[:, 4] >= SURE)].astype(np.float64)
    objects = [
        {
            "label": labels[int(row[5])],
            "score": float(row[4]),
            "box": (row[:4] * [*image.size, *image.size]).tolist(),
        }
        for row in sure
    ]
    if drawn is not None:
        drawn.parent.mkdir(parents=True, exist_ok=True)
        draw_objects(image, objects, labels).save(drawn)
    return {"image": path, "objects": objects}


def printable(text: str) -> str:
    """Return a text without what a terminal would act on."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def positive(text: str) -> int:
    """Return a number of 1 or more; argparse says what else was given."""
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 4 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 1 to 9999")
    return int(text)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pictures", nargs="*", help="picture files")
    parser.add_argument("--self-test", action="store_true", help="check this machine")
    parser.add_argument("--top", type=positive, default=3, help="answers for each picture")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--draw", type=Path, help="folder for pictures with boxes (detectors)")
    parser.add_argument("--json", action="store_true", help="one JSON list on standard output")
    given = parser.parse_args()
    if not given.pictures and not given.self_test:
        parser.error("give picture files or --self-test")
    try:
        drawn = drawing_places(list(map(Path, given.pictures)), given.draw) if given.draw else {}
    except ValueError as error:
        parser.error(printable(str(error)))
    # What Pillow thinks of odd metadata changes no answer.
    warnings.filterwarnings("ignore", module="PIL")
    # The encoding of a terminal need not have the letters of a class.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        settings = json.loads(read_text("preprocessing.json"))
        if given.self_test:
            return self_test(settings, given.threads)
        return answer_pictures(given.pictures, settings, given, drawn)
    except Exception as error:  # noqa: BLE001 - what JSON, numpy and onnxruntime say of damaged files
        said = (str(error).splitlines() or [""])[0]
        sys.stderr.write(
            f"run.py: a file beside it is damaged or absent ({type(error).__name__}: "
            f"{printable(said)}): copy the bundle again\n"
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
