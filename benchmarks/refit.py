"""What a classifier fitted again is worth, by how far a network ships from its training's size.

    python benchmarks/refit.py runs/fit-clothing-...

Every network that the fit trained (the longest training of each) is taken at shares of the
resolution it was trained at, with the classifier of its training and with one fitted to the
features that its float32 file emits for 1,500 training pictures (`fitting.refit`, which keeps the
old one where val is no better with the new). Accuracy is on the whole test split, with Wilson's
interval. Writes results/refit.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from photographs import about

from featherweight.data.images import load_images
from featherweight.data.metrics import accuracy_interval
from featherweight.fitting.earlier import TrainedNetwork, read_earlier
from featherweight.fitting.families import families
from featherweight.fitting.look import look
from featherweight.fitting.race import Entry, Trainer, open_trainer
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network, resized
from featherweight.reporting.run import Candidate
from featherweight.training.classify import evaluate_network

RESULT = Path(__file__).parent / "results" / "refit.json"
SHARES = (0.4, 0.55, 0.7, 0.85, 1.0, 1.15)
ON = "local/onnxruntime:threads=1,precision=fp32"


def entry_at(network: TrainedNetwork, value: float) -> Entry:
    """Return a network at a resolution, as a candidate that was never timed."""
    candidate = Candidate(
        name=network.name, architecture_digest=network.family.build(network.value).digest,
        family=network.family.name, resolution=int(network.value), precision="fp32",
        runtime="onnxruntime", status="kept", stage="shop",
    )  # fmt: skip
    return Entry(candidate, network.family, network.value).at(value)


def answers(network: Network, entry: Entry, trainer: Trainer) -> dict[str, Any]:
    """Return the accuracy on test."""
    preprocessing = entry.family.preprocessing
    test = trainer.store.held_out("test", entry.candidate.resolution, preprocessing)
    right = evaluate_network(network, images=test, preprocessing=preprocessing).accuracy
    return {
        "accuracy": right,
        "interval": accuracy_interval(round(right * len(test)), len(test)),
    }


def compare(network: TrainedNetwork, share: float, trainer: Trainer) -> dict[str, Any]:
    """Return one network at one size, with the old and the new classifier."""
    value = max(32.0, round(share * network.value / 8) * 8.0)
    entry = entry_at(network, value)
    sized = resized(load_network(network.folder).network, int(value))
    started = time.monotonic()
    fitted = with_fitted_classifier(entry, sized, trainer=trainer, name="refit")
    return {
        "network": network.name,
        "phase": network.phase,
        "images_seen": network.images_seen,
        "resolution": int(value),
        "share": value / network.value,
        "as_trained": answers(sized, entry, trainer),
        "fitted": answers(fitted or sized, entry, trainer),
        "kept_the_old": fitted is None,
        "fitting_s": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of a fit")
    options = parser.parse_args()
    earlier = read_earlier(options.run)
    images = load_images(earlier.settings.data, seed=earlier.settings.seed)
    networks = earlier.networks(families(look(images, earlier.settings), earlier.settings))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = earlier.settings.model_copy(update={"platform": ON})
        trainer = replace(open_trainer(images, settings, folder=Path(folder)), device="cpu")
        for network in networks:
            for share in SHARES:
                rows.append(compare(network, share, trainer))
                print(json.dumps(rows[-1]), flush=True)
    RESULT.write_text(json.dumps({**about(ON), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
