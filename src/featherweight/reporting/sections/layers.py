"""The layers of the network that ships."""

from __future__ import annotations

from typing import Any, NamedTuple

from featherweight.errors import FeatherweightError
from featherweight.networks.kinds import AnyArchitecture
from featherweight.profiling.profile import LayerProfile, Profile, profile
from featherweight.reporting.language import Translate
from featherweight.reporting.reading import FitRun
from featherweight.reporting.section import SECTIONS, Section

__all__ = ["LayerRow", "LayerTable", "layer_table"]


class LayerRow(NamedTuple):
    """A layer and its share of the network's multiply-adds and parameters, in [0, 1]."""

    layer: LayerProfile
    macs_share: float
    params_share: float


class LayerTable(NamedTuple):
    """The profile of the network that ships; `problem` says why there is none."""

    profile: Profile | None
    rows: tuple[LayerRow, ...]
    problem: str = ""


def layer_table(architecture: AnyArchitecture | None) -> LayerTable:
    """Return the layers of the network with their shares."""
    if architecture is None:
        return LayerTable(None, (), "architecture.json is not there")
    try:
        counted = profile(architecture)
    except FeatherweightError as error:
        return LayerTable(None, (), str(error))
    rows = tuple(
        LayerRow(
            layer,
            macs_share=(layer.macs or 0) / (counted.macs or 1),
            params_share=(layer.params or 0) / (counted.params or 1),
        )
        for layer in counted.layers
    )
    return LayerTable(counted, rows)


def _values(run: FitRun, _: Translate) -> dict[str, Any]:
    return {"layers": layer_table(run.architecture)}


SECTIONS.add("layers", Section(_values))
