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
from featherweight.fitting.candidate import Candidate
from featherweight.fitting.families import families
from featherweight.fitting.previous_run import PreviousNetwork, read_previous_run
from featherweight.fitting.refit import with_fitted_classifier
from featherweight.fitting.stages.look import look
from featherweight.fitting.trainer import Trainer, open_trainer
from featherweight.networks.storage import load_network
from featherweight.nn.network import Network, resized
from featherweight.training.evaluate import evaluate_network

RESULT = Path(__file__).parent / "results" / "refit.json"
SHARES = (0.4, 0.55, 0.7, 0.85, 1.0, 1.15)
ON = "local/onnxruntime:threads=1,precision=fp32"


def answers(network: Network, candidate: Candidate, trainer: Trainer) -> dict[str, Any]:
    """Return the accuracy on test."""
    preprocessing = candidate.family.preprocessing
    test = trainer.store.held_out("test", candidate.resolution, preprocessing)
    right = evaluate_network(network, images=test, preprocessing=preprocessing).accuracy
    return {
        "accuracy": right,
        "interval": accuracy_interval(round(right * len(test)), len(test)),
    }


def compare(network: PreviousNetwork, share: float, trainer: Trainer) -> dict[str, Any]:
    """Return one network at one size, with the old and the new classifier."""
    trained = network.candidate
    size = max(32.0, round(share * trained.size / 8) * 8.0)
    candidate = Candidate(trained.family, size, "fp32")
    sized = resized(load_network(network.folder).network, int(size))
    started = time.monotonic()
    fitted = with_fitted_classifier(candidate, sized, trainer=trainer, name="refit")
    return {
        "network": trained.label,
        "phase": str(network.record.phase),
        "images_seen": network.record.images_seen,
        "resolution": int(size),
        "share": size / trained.size,
        "as_trained": answers(sized, candidate, trainer),
        "fitted": answers(fitted or sized, candidate, trainer),
        "kept_the_old": fitted is None,
        "fitting_s": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of a fit")
    options = parser.parse_args()
    previous = read_previous_run(options.run)
    images = load_images(previous.settings.data, seed=previous.settings.seed)
    networks = previous.networks(families(look(images, previous.settings), previous.settings))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = previous.settings.model_copy(update={"platform": ON})
        trainer = replace(open_trainer(images, settings, folder=Path(folder)), device="cpu")
        for network in networks:
            for share in SHARES:
                rows.append(compare(network, share, trainer))
                print(json.dumps(rows[-1]), flush=True)
    RESULT.write_text(json.dumps({**about(ON), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
