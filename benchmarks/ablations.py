"""What the choices of a fit on photographs are worth, one at a time, at equal pictures seen.

    python benchmarks/ablations.py --data ../shared/data/clothing --latency 2.5 --seeds 3

The base is EfficientNet-Lite0 with ImageNet weights as int8 at the largest resolution that
measures within the budget, fine-tuned with `default_recipe` and no teacher. Against it:

- precision last: the resolution is chosen by the float32 time, then the file is quantised;
- width first: 224 pixels, and the width (sliced weights) by the int8 time;
- taught: learns from itself at 1.75 times the resolution, trained on the same pictures before;
- scratch: no ImageNet weights.

Each seed draws another part of the train split; accuracy is that of the exported file on the
whole test split. Differences are paired by seed. Writes results/ablations.json.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from photographs import about, fine_tune, largest, paired_difference, part_of

from featherweight.architecture import Architecture
from featherweight.data.images import load_images
from featherweight.exporting.platforms import parse_platform
from featherweight.networks.pretrained import load_pretrained, read_pretrained
from featherweight.networks.resolve import create_architecture
from featherweight.nn.network import Network, build_network
from featherweight.training.pixels import PixelStore, open_store
from featherweight.training.recipe import Recipe, default_recipe

RESULT = Path(__file__).parent / "results" / "ablations.json"
NETWORK = "efficientnet_lite0"
ARMS = ("base", "precision last", "width first", "taught", "scratch")
SIDES = range(64, 232, 8)
WIDTHS = tuple(step / 16 for step in range(4, 17))
FULL_SIDE = 224
TEACHER_GROWTH = 1.75


def draw(*, resolution: float, width: float = 1.0, classes: int = 10) -> Architecture:
    return create_architecture(NETWORK, resolution=int(resolution), width=width, classes=classes)


def choose(budget_ms: float, *, on: str) -> dict[str, Any]:
    """Return the sizes of the arms and everything that was timed for them."""
    fp32 = str(parse_platform(on).with_precision("fp32"))
    side, by_int8 = largest(lambda v: draw(resolution=v), SIDES, budget_ms=budget_ms, on=on)
    last, by_fp32 = largest(lambda v: draw(resolution=v), SIDES, budget_ms=budget_ms, on=fp32)
    width, by_width = largest(
        lambda v: draw(resolution=FULL_SIDE, width=v), WIDTHS, budget_ms=budget_ms, on=on
    )
    return {
        "resolution": int(side),
        "resolution_by_fp32": int(last),
        "width": width,
        "int8_ms": by_int8,
        "fp32_ms": by_fp32,
        "width_int8_ms": by_width,
    }


class Arms:
    """Trains the arms of one seed on one part of the data."""

    def __init__(
        self, store: PixelStore, sizes: dict[str, Any], *, epochs: int, seed: int, on: str
    ) -> None:
        self.store, self.sizes, self.epochs, self.seed, self.on = store, sizes, epochs, seed, on
        self.classes = len(store.data.classes)
        own = draw(resolution=sizes["resolution"], classes=self.classes)
        found = read_pretrained(own, source="auto", seed=0).preprocessing
        self.preprocessing = found.model_copy(update={"crop_fraction": 1.0})

    def recipe(
        self, resolution: int, *, pretrained: bool = True, taught: bool = False, whole: bool = True
    ) -> Recipe:
        """Return the recipe of an arm; all see equally many pictures."""
        return default_recipe(
            pretrained=pretrained,
            resolution=resolution,
            epochs=self.epochs,
            seed=self.seed,
            images=len(self.store.data.splits["train"]),
            distillation=taught,
            whole=whole,
        )

    def tune(
        self,
        resolution: float,
        *,
        width: float = 1.0,
        pretrained: bool = True,
        teacher: Network | None = None,
    ) -> tuple[Network, dict[str, Any]]:
        """Train the network at a size; return it and what its file came to."""
        architecture = draw(resolution=resolution, width=width, classes=self.classes)
        start = (
            load_pretrained(architecture, source="auto", seed=self.seed)
            if pretrained
            else build_network(architecture, seed=self.seed)
        )
        done = fine_tune(
            start,
            store=self.store,
            preprocessing=self.preprocessing,
            on=self.on,
            teacher=teacher,
            recipe=self.recipe(  # norms of sliced weights take their statistics anew, as in a fit
                int(resolution),
                pretrained=pretrained,
                taught=teacher is not None,
                whole=width == 1.0,
            ),
        )
        return done.network, done.found

    def run(self, name: str) -> dict[str, Any]:
        """Train one arm."""
        side = self.sizes["resolution"]
        if name == "taught":
            teacher, taught_by = self.tune(round(TEACHER_GROWTH * side / 8) * 8)
            return {**self.tune(side, teacher=teacher)[1], "teacher": taught_by}
        if name == "precision last":
            side = self.sizes["resolution_by_fp32"]
        if name == "width first":
            return self.tune(FULL_SIDE, width=self.sizes["width"])[1]
        return self.tune(side, pretrained=name != "scratch")[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of photographs")
    parser.add_argument("--latency", type=float, required=True, help="budget in ms")
    parser.add_argument("--on", default="local/onnxruntime:threads=1,precision=int8")
    parser.add_argument("--share", type=float, default=0.25, help="of the train split")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=ARMS,
        default=ARMS,
        help="redo these; sizes and the other arms are those of the result file (same task)",
    )
    options = parser.parse_args()
    images = load_images(options.data, seed=0)
    task = {
        "budget_ms": options.latency,
        "share_of_train": options.share,
        "epochs": options.epochs,
        "network": NETWORK,
    }
    sizes, runs = kept(task) if len(options.only) < len(ARMS) else (None, {})
    sizes = sizes or choose(options.latency, on=options.on)
    print(json.dumps({key: sizes[key] for key in ("resolution", "resolution_by_fp32", "width")}))
    runs = {name: [] if name in options.only else runs[name] for name in ARMS}
    for seed in range(options.seeds):
        store = open_store(part_of(images, share=options.share, seed=seed))
        arms = Arms(store, sizes, epochs=options.epochs, seed=seed, on=options.on)
        for name in options.only:
            runs[name].append({**arms.run(name), "collected": now()})
            print(seed, name, f"{runs[name][-1]['test_accuracy_of_the_file']:.3f}", flush=True)
    found = {
        **about(options.on),
        **task,
        "sizes": sizes,
        "base_minus": {
            name: paired_difference(runs["base"], runs[name]) for name in ARMS if name != "base"
        },
        "runs": runs,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def kept(task: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return sizes and runs of the result file; they go by epochs, so that no clock matters."""
    before = json.loads(RESULT.read_text())
    if any(before[key] != value for key, value in task.items()):
        raise SystemExit(f"{RESULT.name} is of another task: {[before[key] for key in task]}")
    runs = {
        name: [{"collected": before["collected"], **one} for one in arm]
        for name, arm in before["runs"].items()
    }
    return before["sizes"], runs


if __name__ == "__main__":
    main()
