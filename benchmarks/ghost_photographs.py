"""Ghost modules beside `adapt` and beside fewer pixels, at equal milliseconds, on photographs.

    python benchmarks/ghost_photographs.py ../shared/data/clothing --work ../ghost-photographs

EfficientNet-Lite0 with ImageNet weights is fine-tuned once on a quarter of train. Ghost modules of
both forms are made where the platform is surely faster with them, and if it is nowhere, in the
place of every layer that can be one. The fastest of these says the milliseconds; the knapsack and
lower resolution of `adapt` come to the same. Each is trained on 3,000 pictures (four passes),
taught by the network it came from. Accuracy is that of the file on test and half of the pictures
that the quarter leaves; differences are paired, with 95 % intervals over pictures. One seed. Goes
on where it was cut; writes results/ghost_photographs.json.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from lite0_parent import NETWORK, parent_of, photographs
from photographs import about
from smaller import (
    Ground,
    Made,
    as_row,
    clock_files,
    opened,
    paired,
    read_rows,
    smaller,
    trained_row,
)

from featherweight.adapting.ghost import GhostForm
from featherweight.fitting.parent import Parent
from featherweight.fitting.stages.ghosts import Ghosts, choose_ghosts
from featherweight.networks.storage import load_network

RESULT = Path(__file__).parent / "results" / "ghost_photographs.json"
ON = "local/onnxruntime:threads=1"
FORMS = (GhostForm(), GhostForm(form="rep"))
PATH_S = 200.0


def made_of(ground: Ground, form: GhostForm) -> tuple[Made, dict[str, Any]]:
    """Make ghost modules where they are faster, or everywhere; say what they came to."""
    chosen = choose_ghosts(ground.context, ground.first, form, everywhere=False)
    everywhere = chosen.folder is None
    if everywhere:
        chosen = choose_ghosts(ground.context, ground.first, form, everywhere=True)
    folder = ground.context.trainer.folder / str(chosen.folder)
    assert chosen.ratio is not None
    start_ms = ground.first.measured.latency.median_ms
    made = Made(f"modules, {form.form}", str(folder), start_ms * chosen.ratio)
    return made, told_of(chosen, everywhere=everywhere)


def told_of(chosen: Ghosts, *, everywhere: bool) -> dict[str, Any]:
    return {
        "everywhere": everywhere,
        "layers": sum(len(one.layers) for one in chosen.trials if one.kept),
        "surely_faster": sum(
            one.interval is not None and one.interval[1] < 1 for one in chosen.trials
        ),
        "shapes": len(chosen.trials),
        "theoretical_speed_up": 1 / chosen.macs_ratio,
        "measured_speed_up": chosen.ratio and 1 / chosen.ratio,
        "trials": [one.model_dump(mode="json") for one in chosen.trials],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pixels", type=int, default=160)
    parser.add_argument("--passes", type=int, default=4)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    images = photographs(options.data)
    row = parent_of(images, options.work, pixels=options.pixels, passes=options.passes)
    parent = Parent(load_network(options.work / "parent"), NETWORK, "once")
    found: dict[str, Any] = {**about(ON), "pixels": options.pixels, "parent": row, "forms": {}}
    path, files = options.work / "rows.jsonl", options.work / "files"
    rows = read_rows(path)

    def learn(ground: Ground, made: Made) -> None:
        if not any(one["way"] == made.way for one in rows):
            rows.append(
                as_row(path, trained_row(ground, made, seed=0, epochs=options.passes, files=files))
            )

    with opened(options.work, images, parent, on=ON, share=1.0, epochs=options.passes) as ground:
        modules = []
        for form in FORMS:
            made, found["forms"][form.form] = made_of(ground, form)
            modules.append(made)
            learn(ground, made)
        start_ms = ground.first.measured.latency.median_ms
        file = ground.context.trainer.export(
            ground.parent, ground.first.candidate, out=options.work / "parent-file"
        )
    share = round(min(one.latency_ms for one in modules) / start_ms, 2)
    found["share"] = share
    if share < 1:
        with opened(
            options.work, images, parent, on=ON, share=share, epochs=options.passes
        ) as ground:
            for made in smaller(ground, ["knapsack", "resolution"], path_s=PATH_S):
                learn(ground, made)
    found["accuracy"] = {one["way"]: one["accuracy"] for one in rows}
    found["latency"] = clock_files(rows, file, on=ON, samples=200)
    found["minus_resolution"] = {
        one["way"]: paired(rows, one["way"], "resolution") for one in rows if share < 1
    }
    found["rows"] = [{key: one[key] for key in one if key != "file"} for one in rows]
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: found[key] for key in ("accuracy", "latency")}, indent=1))


if __name__ == "__main__":
    main()
