"""Classify pictures with the network in this folder.

    python run.py picture.jpg [more.png ...]     the best answers for each picture
    python run.py --self-test                    check that this machine computes what was exported

Needs onnxruntime, numpy and Pillow; nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent
TOLERANCE = {"fp32": 1e-3}
"""Largest difference relative to the largest logit. Another CPU may round int8 differently."""
TOLERANCE_INT8 = 0.1
MAX_ASPECT = 8
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_picture(path: str, settings: dict[str, Any]) -> np.ndarray:
    """Return a picture as the network takes it: uint8 (1, H, W, 3).

    The shorter side is resized to round(side / crop_fraction), the centre is cut out.
    Normalisation is inside the model.
    """
    side = settings["input_shape"][0]
    short = max(side, round(side / settings["crop_fraction"]))
    with Image.open(path) as opened:
        scale = 2 * short / min(opened.size)
        if scale < 1:  # lets a JPEG decode at a fraction of its size
            opened.draft(
                None, (max(1, int(opened.width * scale)), max(1, int(opened.height * scale)))
            )
        image = cut_ends(to_rgb(opened))
    width, height = image.size
    if width <= height:
        target = (short, int(short * height / width))
    else:
        target = (int(short * width / height), short)
    if target != image.size:
        image = image.resize(target, FILTERS[settings["interpolation"]])
    left, top = round((target[0] - side) / 2), round((target[1] - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))[None]


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture upright in 8-bit RGB; transparency is laid over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


def cut_ends(image: Image.Image) -> Image.Image:
    """Cut the ends off a picture that is extremely long: they are outside the crop anyway."""
    limit = MAX_ASPECT * min(image.size)
    width, height = min(image.width, limit), min(image.height, limit)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def open_model(settings: dict[str, Any], threads: int) -> Any:
    """Return a function uint8 (1, H, W, 3) -> float32 (1, classes) logits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(FOLDER / settings["model"]), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def self_test(settings: dict[str, Any], threads: int) -> int:
    """Compare with the logits stored at the export; return the exit code."""
    stored = np.load(FOLDER / "selftest.npz", allow_pickle=False)
    predict = open_model(settings, threads)
    logits = predict(stored["sample"])
    error = float(np.abs(logits - stored["expected"]).max() / np.abs(stored["expected"]).max())
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


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pictures", nargs="*", help="picture files")
    parser.add_argument("--self-test", action="store_true", help="check this machine")
    parser.add_argument("--top", type=int, default=3, help="answers for each picture")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON list on standard output")
    given = parser.parse_args()
    settings = json.loads((FOLDER / "preprocessing.json").read_text(encoding="utf-8"))
    if given.self_test:
        return self_test(settings, given.threads)
    if not given.pictures:
        parser.error("give picture files or --self-test")
    labels = (FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines()
    predict = open_model(settings, given.threads)
    answers = []
    for path in given.pictures:
        try:
            image = read_picture(path, settings)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{path}: cannot be read as a picture: {error}\n")
            return 2
        logits = predict(image)[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        for index in np.argsort(-shares)[: given.top]:
            answers.append({"image": path, "label": labels[index], "score": float(shares[index])})
    if given.json:
        sys.stdout.write(json.dumps(answers) + "\n")
    else:
        for answer in answers:
            sys.stdout.write(f"{answer['image']}\t{answer['label']}\t{answer['score']:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
