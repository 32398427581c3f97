"""Use a trained network on pictures: the verbs `evaluate` and `predict`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from featherweight.arguments import check_seed, optional_path, to_data, to_path
from featherweight.data.augmentation import normalise_batch
from featherweight.data.decode import decode_square, read_picture
from featherweight.data.drawing import draw_objects, drawing_places, upright
from featherweight.data.picture_size import shown_size
from featherweight.data.pictures import FILTERS, readable_suffixes
from featherweight.detection.table import DETECTION
from featherweight.errors import DataError, UsageError
from featherweight.networks.kinds import outputs_of
from featherweight.networks.storage import StoredNetwork, load_network, recorded_seed
from featherweight.records import write_bytes
from featherweight.tasks.task import TASKS, check_same_task, load_data
from featherweight.training.compute import choose_device
from featherweight.training.evaluate import evaluate_network
from featherweight.training.pixels import open_store
from featherweight.training.video import VIDEO_SUFFIXES, answer_video

__all__ = ["evaluate", "predict"]


def evaluate(
    network: str | Path,
    *,
    data: str | Path,
    split: str = "test",
    seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """State how well a trained network answers one split.

    The splits are cut with `seed`, by default the training's, so that test is what it was then.

    Returns:
        `split, interval, n` and the metric and details of the task: of a classification
        `accuracy` and `top5`.

    Raises:
        UsageError: no trained network there, an unknown split, other classes than trained on, or
            a device that this machine does not have.
    """
    network, source = to_path(network, name="network"), to_data(data)
    choose_device(device)  # refused before anything is read
    seed = recorded_seed(network) if seed is None else check_seed(seed)
    stored = load_network(network)
    images = load_data(source, seed=seed)
    check_same_task(images, task=stored.task, classes=stored.classes)
    if split not in images.splits:
        raise UsageError(f"no split named {split!r}", allowed=", ".join(images.splits))
    held_out = open_store(images).held_out(
        split, stored.network.architecture.resolution, stored.preprocessing
    )
    result = evaluate_network(
        stored.network, images=held_out, preprocessing=stored.preprocessing, device=device
    )
    task = TASKS[images.task]
    details = {name: value for name, value in result.details.items() if name != "balanced_accuracy"}
    if "per_class" in details:
        details["per_class"] = dict(zip(stored.classes, details["per_class"], strict=True))
    return {
        "split": split,
        task.metric: result.accuracy,
        "interval": list(result.interval or ()),
        "n": result.n,
        **details,
    }


def predict(
    network: str | Path,
    *,
    pictures: str | Path | Sequence[str | Path],
    draw: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Say what is on picture files.

    Args:
        network: run directory of a trained network.
        pictures: files, or one file; of a folder all pictures right in it. A detector also takes
            films (`training.video`).
        draw: of a detector, a folder for the pictures with their boxes, as PNG, and for films;
            created.

    Returns:
        For each picture `image`, what the task says of it, and `error`: of a classification
        `label` and `score`, the softmax of the best class. Of a picture that cannot be read
        these are None, and `error` says why.

    Raises:
        DataError: none of the files is a picture.
        UsageError: no trained network there, something that is no path, or `draw` with a
            classifier.
    """
    if isinstance(pictures, str | Path):
        pictures = [pictures]
    files = [
        file for picture in pictures for file in _pictures_in(to_path(picture, name="a picture"))
    ]
    stored, folder = load_network(network), optional_path(draw, name="draw")
    if folder is not None and stored.task != DETECTION:
        raise UsageError(
            f"{network} answers no boxes that could be drawn", allowed="a trained detector"
        )
    drawn = {} if folder is None else _drawn_files(files, folder)
    found = []
    for file in files:
        if stored.task == DETECTION and file.suffix.lower() in VIDEO_SUFFIXES:
            found.append(_predict_video(stored, file, drawn.get(file)))
            continue
        found.append(_predict_one(stored, file))
        if file in drawn and found[-1]["error"] is None:
            _draw(stored, file, found[-1]["objects"], drawn[file])
    if found and all(one["error"] and "frames" not in one for one in found):
        raise DataError(
            f"cannot read the picture {found[0]['image']}: {found[0]['error']}",
            hint="give JPEG, PNG or similar files",
        )
    return found


def _pictures_in(path: Path) -> list[Path]:
    """Return a file, or the pictures of a folder by name.

    Raises:
        DataError: a folder without pictures.
    """
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.suffix.lower() in readable_suffixes())
    if not found:
        raise DataError(f"no pictures in {path}", allowed=", ".join(sorted(readable_suffixes())))
    return found


def _drawn_files(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return where each picture and film is drawn to; UsageError where that would lose one."""
    try:
        return drawing_places(files, folder, films=VIDEO_SUFFIXES)
    except ValueError as error:
        raise UsageError(
            str(error), allowed="another folder, and files of different names without their endings"
        ) from error


def _draw(
    stored: StoredNetwork, file: Path, objects: Sequence[dict[str, Any]], place: Path
) -> None:
    drawn = draw_objects(upright(read_picture(file)), objects, stored.classes)
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    write_bytes(place, stream.getvalue())


def _predict_one(stored: StoredNetwork, picture: Path) -> dict[str, Any]:
    size = stored.network.architecture.resolution
    try:
        square = decode_square(read_picture(picture), size=size, preprocessing=stored.preprocessing)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        (output,) = outputs_of(stored.network.architecture)
        nothing = dict.fromkeys(_describe(stored, np.zeros((1, *output.shape)), size=(1, 1)))
        return {"image": str(picture), **nothing, "error": reason}
    shown, _ = shown_size(picture)
    said = _describe(stored, _answer(stored, np.array(square)), size=shown)
    return {"image": str(picture), **said, "error": None}


def _answer(stored: StoredNetwork, square: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the network's answer (1, ...) to one picture (R, R, 3)."""
    with torch.inference_mode():
        pixels = normalise_batch(
            torch.from_numpy(square)[None],
            mean=stored.preprocessing.mean,
            std=stored.preprocessing.std,
        )
        answered: NDArray[Any] = stored.network.eval()(pixels).numpy()
    return answered


def _predict_video(stored: StoredNetwork, film: Path, drawn: Path | None) -> dict[str, Any]:
    side = stored.network.architecture.resolution
    how = FILTERS[stored.preprocessing.interpolation]

    def answer(frame: Image.Image) -> list[dict[str, Any]]:
        square = np.asarray(frame.resize((side, side), how))
        said = _describe(stored, _answer(stored, square.copy()), size=frame.size)
        objects: list[dict[str, Any]] = said["objects"]
        return objects

    return answer_video(film, answer, classes=stored.classes, drawn=drawn)


def _describe(
    stored: StoredNetwork, answer: NDArray[Any], *, size: tuple[int, int]
) -> dict[str, Any]:
    """Return what the task says of one answer, (1, ...), to a picture of this width and height."""
    (output,) = outputs_of(stored.network.architecture)
    (said,) = TASKS[stored.task].describe({output.name: answer}, stored.classes, sizes=[size])
    return said
