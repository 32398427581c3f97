"""Classifiers and detectors where either may come: what they answer, and their files."""

from __future__ import annotations

from pathlib import Path

from featherweight.architecture import Architecture
from featherweight.arguments import to_path
from featherweight.detection.average_precision import MOST
from featherweight.detection.detector import Detector
from featherweight.detection.table import ANSWER_COLUMNS, DETECTIONS
from featherweight.layers import Output, graph
from featherweight.records import parse_record, read_json, to_plain, write_json

__all__ = ["AnyArchitecture", "outputs_of", "read_any_architecture", "write_any_architecture"]

AnyArchitecture = Architecture | Detector


def outputs_of(architecture: AnyArchitecture) -> tuple[Output, ...]:
    """Return names and shapes of the answers: `logits` of a classifier, `detections` of a detector.

    A detector's answer is that of no layer: suppressing duplicates comes after the last one.
    """
    if isinstance(architecture, Detector):
        return (Output(DETECTIONS, "", (MOST, ANSWER_COLUMNS)),)
    return graph(architecture).outputs


def read_any_architecture(path: str | Path) -> AnyArchitecture:
    """Read an architecture.json; `kind` of a detector's is "detector".

    Raises:
        RecordError: the file describes neither; names the key path.
    """
    path = to_path(path, name="path")
    plain = read_json(path)
    if isinstance(plain, dict) and plain.get("kind") == "detector":
        return parse_record(Detector, plain, source=str(path))
    return parse_record(Architecture, plain, source=str(path))


def write_any_architecture(architecture: AnyArchitecture, path: Path) -> None:
    """Write an architecture.json."""
    write_json(path, to_plain(architecture))
