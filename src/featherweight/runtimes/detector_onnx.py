"""Write a detector as one ONNX graph: picture in, boxes out, with both suppressions inside.

Regions are pooled by RoiAlign one bin at a time: the map of C = alpha bins^2 channels is read as
bins^2 pictures of alpha channels, and every region as bins^2 small ones, each in the picture of its
bin. That is exact, and no work is done for channels that a bin does not read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featherweight.architecture import Architecture
from featherweight.detection.anchors import anchors_of
from featherweight.detection.answering import (
    ANCHOR_WEIGHTS,
    BOX_WEIGHTS,
    COMPARED,
    IOU,
    LARGEST_GROWTH,
    LEAST_SCORE,
    LEAST_SIDE,
    PROPOSAL_IOU,
    PROPOSED,
)
from featherweight.detection.average_precision import MOST
from featherweight.detection.detector import Detector, ThunderNet
from featherweight.detection.parts import (
    BOX_DELTAS,
    BOX_SCORES,
    DELTAS,
    FEATURES,
    SCORES,
    box_head,
    dense_part,
)
from featherweight.detection.table import ANSWER_COLUMNS, DETECTIONS, NO_OBJECT
from featherweight.errors import UsageError
from featherweight.layers import graph
from featherweight.networks.preprocessing import Preprocessing
from featherweight.records import to_plain
from featherweight.runtimes.onnx_writer import (
    IMAGE,
    OnnxGraph,
    wrap_graph,
    write_layers,
    write_onnx,
)
from featherweight.runtimes.weights import random_weights

__all__ = ["write_detector_onnx"]

_DENSE, _BOXES = "dense.", "boxes."
"""Prefixes of the parts' weights in a detector's state dict."""

Quantise = Callable[[onnx.ModelProto, Architecture], onnx.ModelProto]


def write_detector_onnx(
    detector: Detector,
    weights: Mapping[str, np.ndarray] | None,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    quantise: Quantise | None = None,
) -> onnx.ModelProto:
    """Return a model with one input `image`, uint8 (1, H, W, 3), and one output `detections`.

    That is float32 (1, 100, 6), as detection/table.py has it: box in shares of the picture's sides,
    score, class; the surest first.

    Args:
        detector: what is written.
        weights: arrays named as in torch's state dict; `None` draws seeded ones (for timing).
        preprocessing: its mean and std become part of the graph.
        labels: class names, without the background.
        quantise: float model of the dense part and its architecture -> its int8 form; `None` = all
            is float32.

    Raises:
        UsageError: weights or labels of another detector.
    """
    if len(labels) != detector.num_classes:
        raise UsageError(f"{len(labels)} labels for {detector.num_classes} classes")
    dense, head = dense_part(detector), box_head(detector)
    model = write_onnx(dense, _of_part(weights, _DENSE), preprocessing=preprocessing, labels=labels)
    if quantise is not None:
        model = quantise(model, dense)
    writer = _Writer(detector, model)
    candidates, scores = writer.anchors()
    if head is not None:
        own = _of_part(weights, _BOXES)
        regions = writer.regions(candidates, scores)
        pooled = writer.pooled(regions)
        write_layers(
            writer.model,
            head,
            random_weights(head, seed=0) if own is None else own,
            preprocessing=None,
            source=pooled,
        )
        candidates, scores = writer.refined(regions)
    writer.answers(candidates, scores)
    return _finished(detector, writer.model, preprocessing, labels)


def _of_part(weights: Mapping[str, np.ndarray] | None, prefix: str) -> dict[str, np.ndarray] | None:
    if weights is None:
        return None
    return {
        name.removeprefix(prefix): values
        for name, values in weights.items()
        if name.startswith(prefix)
    }


class _Writer:
    """Adds what lies between and behind the parts."""

    def __init__(self, detector: Detector, dense: onnx.ModelProto) -> None:
        self.detector = detector
        self.model = OnnxGraph()
        self.model.nodes.extend(dense.graph.node)
        for value in dense.graph.initializer:
            self.model.constant(value.name, numpy_helper.to_array(value))
        self._count = itertools.count()

    def anchors(self) -> tuple[str, str]:
        """Return the boxes (K, 4) and logits (K, L) of all anchors."""
        outputs = {one.name: one.shape for one in graph(dense_part(self.detector)).outputs}
        levels = [name.removeprefix(SCORES) for name in outputs if name.startswith(SCORES)]
        parts: dict[str, list[str]] = {SCORES: [], DELTAS: []}
        for level in levels:
            anchors = outputs[DELTAS + level][0] // 4
            for kind, found in parts.items():
                channels, rows, columns = outputs[kind + level]
                shape = (anchors, channels // anchors, rows, columns)
                apart = self._reshape(kind + level, shape)
                turned = self._node("Transpose", [apart], perm=[2, 3, 0, 1])
                found.append(self._reshape(turned, (-1, channels // anchors)))
        deltas, scores = (
            found[0] if len(found) == 1 else self._node("Concat", found, axis=0)
            for found in (parts[DELTAS], parts[SCORES])
        )
        weights = ANCHOR_WEIGHTS if isinstance(self.detector.head, ThunderNet) else BOX_WEIGHTS
        starts = self._constant(np.concatenate(anchors_of(self.detector)))
        return self._decoded(deltas, starts, weights), scores

    def regions(self, boxes: str, logits: str) -> str:
        """Return the proposals that are no duplicates, (R, 4)."""
        head = self.detector.head
        assert isinstance(head, ThunderNet)
        objects, background = (self._slice(logits, place, place + 1, axis=1) for place in (1, 0))
        surplus = self._reshape(self._node("Sub", [objects, background]), (-1,))
        cells = sum(len(own) for own in anchors_of(self.detector))
        most = self._constant(np.array([min(PROPOSED, cells)], dtype=np.int64))
        best, places = (self._name(), self._name())
        node = helper.make_node("TopK", [surplus, most], [best, places], axis=0)
        self.model.nodes.append(node)
        chosen = self._node("Gather", [boxes, places], axis=0)
        ends, starts = (self._slice(chosen, place, place + 2, axis=1) for place in (2, 0))
        shorter = self._node("ReduceMin", [self._node("Sub", [ends, starts])], axes=[1], keepdims=0)
        large = self._node(
            "GreaterOrEqual", [shorter, self._constant(np.array(LEAST_SIDE, dtype=np.float32))]
        )
        nothing = self._constant(np.array(-1.0, dtype=np.float32))
        scores = self._node("Where", [large, self._node("Sigmoid", [best]), nothing])
        kept = self._suppressed(
            self._reshape(chosen, (1, -1, 4)),
            self._reshape(scores, (1, 1, -1)),
            most=head.regions,
            iou=PROPOSAL_IOU,
            least=-0.5,
        )
        rows = self._reshape(self._slice(kept, 2, 3, axis=1), (-1,))
        return self._node("Gather", [chosen, rows], axis=0)

    def pooled(self, regions: str) -> str:
        """Return what the regions hold, (R, alpha bins^2), as the box head reads it."""
        head = self.detector.head
        assert isinstance(head, ThunderNet)
        bins, alpha = head.bins, head.position_channels
        shape = {one.name: one.shape for one in graph(dense_part(self.detector)).outputs}[FEATURES]
        apart = self._reshape(FEATURES, (alpha, bins * bins, *shape[1:]))
        maps = self._node("Transpose", [apart], perm=[1, 0, 2, 3])
        rows, columns = (one.ravel() for one in np.mgrid[:bins, :bins])
        steps = []
        for x, y in ((columns, rows), (columns + 1, rows + 1)):
            steps += [x / bins, y / bins]
        share = self._constant(np.stack(steps, axis=1).astype(np.float32)[None])  # (1, 49, 4)
        low = self._slice(regions, 0, 2, axis=1)
        sides = self._node("Sub", [self._slice(regions, 2, 4, axis=1), low])
        starts, lengths = (
            self._reshape(self._node("Concat", [one, one], axis=1), (-1, 1, 4))
            for one in (low, sides)
        )
        small = self._node("Add", [starts, self._node("Mul", [lengths, share])])
        numbers = self._constant(np.arange(bins * bins, dtype=np.int64)[None])
        count = self._node("Shape", [self._node("Gather", [regions, self._integer(0)], axis=1)])
        wanted = self._node("Concat", [count, self._integers([bins * bins])], axis=0)
        every = self._reshape(self._node("Expand", [numbers, wanted]), (-1,))
        seen = self._node(
            "RoiAlign",
            [maps, self._reshape(small, (-1, 4)), every],
            mode="avg",
            output_height=1,
            output_width=1,
            sampling_ratio=2,
            spatial_scale=shape[1] / self.detector.resolution,
            coordinate_transformation_mode="half_pixel",
        )
        turned = self._node(
            "Transpose", [self._reshape(seen, (-1, bins * bins, alpha))], perm=[0, 2, 1]
        )
        return self._reshape(turned, (-1, alpha * bins * bins))

    def refined(self, regions: str) -> tuple[str, str]:
        """Return the boxes (R, 4) and logits (R, classes + 1) of the second stage."""
        return self._decoded(BOX_DELTAS, regions, BOX_WEIGHTS), BOX_SCORES

    def answers(self, boxes: str, logits: str) -> None:
        """Suppress duplicates class by class and name what is left, the surest first."""
        sure = self._node("Softmax", [logits], axis=1)
        of_classes = self._slice(sure, 1, 1 + self.detector.num_classes, axis=1)
        own_boxes, by_class = self._surest(boxes, of_classes)
        kept = self._suppressed(
            self._reshape(own_boxes, (1, -1, 4)),
            self._reshape(by_class, (1, self.detector.num_classes, -1)),
            most=MOST,
            iou=IOU,
            least=LEAST_SCORE,
        )
        pairs = self._slice(kept, 1, 3, axis=1)
        found = self._node("GatherND", [by_class, pairs])
        count = self._node("Shape", [found])
        limit = self._node("Min", [count, self._integers([MOST])])
        best_scores, order = self._name(), self._name()
        self.model.nodes.append(
            helper.make_node("TopK", [found, limit], [best_scores, order], axis=0)
        )
        best = self._node("Gather", [pairs, order], axis=0)
        classes, places = (self._slice(best, place, place + 1, axis=1) for place in (0, 1))
        chosen = self._node("Gather", [own_boxes, self._reshape(places, (-1,))], axis=0)
        height, width = self.detector.input_shape[1:]
        sides = self._constant(np.array([[width, height] * 2], dtype=np.float32))
        shares = self._node("Div", [chosen, sides])
        scores = self._reshape(best_scores, (-1, 1))
        numbers = self._node("Cast", [classes], to=TensorProto.FLOAT)
        rows = self._node("Concat", [shares, scores, numbers], axis=1)
        nothing = np.zeros((MOST, ANSWER_COLUMNS), dtype=np.float32)
        nothing[:, 5] = NO_OBJECT
        filled = self._node("Concat", [rows, self._constant(nothing)], axis=0)
        first = self._slice(filled, 0, MOST, axis=0)
        self.model.node("Reshape", [first, self._integers([1, MOST, ANSWER_COLUMNS])], DETECTIONS)

    def _surest(self, boxes: str, scores: str) -> tuple[str, str]:
        """Return the boxes (M, 4) of the surest answers, and (classes, M): their score, or 0.

        Args:
            boxes: (K, 4).
            scores: (K, classes).
        """
        is_sure = self._node("Greater", [scores, self._scalar(LEAST_SCORE)])
        pairs = self._node("Transpose", [self._node("NonZero", [is_sure])], perm=[1, 0])
        sure = self._node("GatherND", [scores, pairs])
        limit = self._node("Min", [self._node("Shape", [sure]), self._integers([COMPARED])])
        best, order = self._name(), self._name()
        self.model.nodes.append(helper.make_node("TopK", [sure, limit], [best, order], axis=0))
        chosen = self._node("Gather", [pairs, order], axis=0)
        places, labels = (self._slice(chosen, place, place + 1, axis=1) for place in (0, 1))
        found = self._node("Gather", [boxes, self._reshape(places, (-1,))], axis=0)
        numbers = np.arange(self.detector.num_classes, dtype=np.int64)[:, None]
        is_own = self._node("Equal", [self._reshape(labels, (1, -1)), self._constant(numbers)])
        return found, self._node("Where", [is_own, best, self._scalar(0.0)])

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, dtype=np.float32))

    def _decoded(self, deltas: str, starts: str, weights: tuple[float, float, float, float]) -> str:
        """Return the boxes that offsets make, inside the picture, (K, 4)."""
        plain = self._node("Div", [deltas, self._constant(np.array([weights], dtype=np.float32))])
        low, high = (self._slice(starts, place, place + 2, axis=1) for place in (0, 2))
        half = self._scalar(0.5)
        sides = self._node("Sub", [high, low])
        middle = self._node("Add", [low, self._node("Mul", [sides, half])])
        shift = self._node("Mul", [self._slice(plain, 0, 2, axis=1), sides])
        growth = self._node(
            "Min",
            [
                self._slice(plain, 2, 4, axis=1),
                self._constant(np.array(LARGEST_GROWTH, dtype=np.float32)),
            ],
        )
        reach = self._node("Mul", [self._node("Mul", [self._node("Exp", [growth]), sides]), half])
        centre = self._node("Add", [middle, shift])
        ends = [self._node(op, [centre, reach]) for op in ("Sub", "Add")]
        whole = self._node("Concat", ends, axis=1)
        height, width = self.detector.input_shape[1:]
        limits = self._constant(np.array([[width, height] * 2], dtype=np.float32))
        inside = self._node("Min", [whole, limits])
        return self._node("Max", [inside, self._constant(np.array(0.0, dtype=np.float32))])

    def _suppressed(self, boxes: str, scores: str, *, most: int, iou: float, least: float) -> str:
        """Return rows of picture, class and box, (n, 3)."""
        numbers = [
            self._integers([most]),
            self._constant(np.array([iou], dtype=np.float32)),
            self._constant(np.array([least], dtype=np.float32)),
        ]
        return self._node("NonMaxSuppression", [boxes, scores, *numbers])

    def _slice(self, source: str, first: int, end: int, *, axis: int) -> str:
        bounds = [self._integers([value]) for value in (first, end, axis)]
        return self._node("Slice", [source, *bounds])

    def _reshape(self, source: str, shape: Sequence[int]) -> str:
        return self._node("Reshape", [source, self._integers(list(shape))])

    def _integers(self, values: list[int]) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def _integer(self, value: int) -> str:
        return self._constant(np.array(value, dtype=np.int64))

    def _constant(self, value: np.ndarray) -> str:
        return self.model.constant(self._name(), value)

    def _node(self, op: str, inputs: list[str], **attributes: object) -> str:
        return self.model.node(op, inputs, self._name(), attributes)

    def _name(self) -> str:
        return f"detect.{next(self._count)}"


def _finished(
    detector: Detector, model: OnnxGraph, preprocessing: Preprocessing, labels: tuple[str, ...]
) -> onnx.ModelProto:
    height, width = detector.input_shape[1:]
    image = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [1, height, width, 3])
    answer = helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, [1, MOST, ANSWER_COLUMNS])
    return wrap_graph(
        model,
        name=detector.name,
        inputs=[image],
        outputs=[answer],
        notes={
            "labels": labels,
            "preprocessing": to_plain(preprocessing),
            "detector": to_plain(detector),
        },
        digest=detector.digest,
    )
