"""The torch module of a detector: what its parts compute, and the boxes in a picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

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
from featherweight.detection.average_precision import MOST, Detections
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
from featherweight.detection.pooling import pool_regions
from featherweight.detection.table import ANSWER_COLUMNS, NO_OBJECT
from featherweight.nn.network import Apply, Network, build_network

__all__ = [
    "BOX_WEIGHTS",
    "DetectorNetwork",
    "Raw",
    "build_detector",
    "decode_boxes",
    "encode_boxes",
]

_FIRST_BACKGROUND = 0.99


class Raw(NamedTuple):
    """What the dense part says of every anchor.

    Attributes:
        logits: (N, K, 2) of ThunderNet (background, object); of SSDLite (N, K, classes + 1).
        deltas: offsets from the anchors, (N, K, 4).
        features: what regions are cut from, (N, C, H, W); `None` = nothing is.
    """

    logits: Tensor
    deltas: Tensor
    features: Tensor | None


class DetectorNetwork(nn.Module):
    """A detector that computes exactly its parts' layers.

    Weights are named `dense.*` and `boxes.*`, each after the layers of its part.

    Args:
        detector: what to build.

    Attributes:
        architecture: what was built.
        dense, boxes: the parts; `boxes` is `None` where there is none.
        anchors: float32 (K, 4), in pixels of the input.
    """

    anchors: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.architecture = detector
        self.dense = Network(dense_part(detector))
        head = box_head(detector)
        self.boxes = None if head is None else Network(head)
        anchors = torch.from_numpy(np.concatenate(anchors_of(detector)))
        self.register_buffer("anchors", anchors, persistent=False)

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """What offsets from the anchors are multiplied by."""
        return ANCHOR_WEIGHTS if self.boxes is not None else BOX_WEIGHTS

    def raw(self, images: Tensor, apply: Apply | None = None) -> Raw:
        """Return what the dense part answers to normalised pictures (N, C, H, W).

        Args:
            images: of the detector's own size.
            apply: computes every layer; `None` = its module does.
        """
        found = self.dense.forward_outputs(images, apply)
        levels = [name.removeprefix(SCORES) for name in found if name.startswith(SCORES)]
        logits = [
            _of_anchors(found[SCORES + level], found[DELTAS + level].shape[1] // 4)
            for level in levels
        ]
        deltas = [
            _of_anchors(found[DELTAS + level], found[DELTAS + level].shape[1] // 4)
            for level in levels
        ]
        return Raw(torch.cat(logits, 1), torch.cat(deltas, 1), found.get(FEATURES))

    def proposals(self, raw: Raw, *, most: int) -> list[Tensor]:
        """Return the boxes of each picture that are likely objects, best first, (R, 4) each.

        Args:
            raw: of the pictures; no gradient passes.
            most: boxes that are kept of a picture.
        """
        scores = (raw.logits[..., 1] - raw.logits[..., 0]).detach()
        boxes = decode_boxes(raw.deltas.detach(), self.anchors, weights=self.weights)
        kept = []
        for own_scores, own_boxes in zip(scores, boxes, strict=True):
            best, order = own_scores.topk(min(PROPOSED, len(own_scores)))
            chosen = clip_boxes_to_image(own_boxes[order], self.architecture.input_shape[1:])
            large = remove_small_boxes(chosen, LEAST_SIDE)
            chosen, best = chosen[large], best[large]
            one = torch.zeros(len(best), dtype=torch.int64, device=best.device)
            kept.append(chosen[batched_nms(chosen, best, one, PROPOSAL_IOU)[:most]])
        return kept

    def of_regions(self, features: Tensor, regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (R, classes + 1) and offsets (R, 4) of the regions of all pictures.

        Args:
            features: (N, C, H, W).
            regions: boxes of each picture, (R_n, 4).
        """
        assert self.boxes is not None
        head = self.architecture.head
        assert isinstance(head, ThunderNet)
        counts = [len(one) for one in regions]
        padded = features.new_zeros(len(regions), max(1, *counts), 4)
        for row, one in enumerate(regions):
            padded[row, : len(one)] = one
        pooled = pool_regions(
            features,
            padded,
            bins=head.bins,
            stride=self.architecture.resolution // features.shape[2],
        )
        mine = torch.cat([pooled[row, :count] for row, count in enumerate(counts)])
        found = self.boxes.forward_outputs(mine)
        return found[BOX_SCORES].flatten(1), found[BOX_DELTAS].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return `detections` (N, 100, 6) of normalised pictures (N, C, H, W); see `answers`."""
        return self.forward_by(images)

    @torch.no_grad()
    def forward_by(self, images: Tensor, apply: Apply | None = None) -> Tensor:
        """Return `detections` with every layer computed by `apply`.

        Rows are x1, y1, x2, y2 in shares of the picture's sides, the score and the class, the
        surest first; rows that are not needed are 0 and have the class -1.

        Args:
            images: of the detector's own size, (N, C, H, W).
            apply: computes every layer; `None` = its module does.
        """
        found = self.answers(images, apply=apply)
        table = images.new_zeros(len(found), MOST, ANSWER_COLUMNS, dtype=torch.float32)
        table[..., 5] = NO_OBJECT
        height, width = self.architecture.input_shape[1:]
        sides = table.new_tensor([width, height, width, height])
        for row, (boxes, scores, labels) in zip(table, found, strict=True):
            row[: len(boxes), :4] = boxes / sides
            row[: len(boxes), 4], row[: len(boxes), 5] = scores, labels.float()
        return table

    @torch.no_grad()
    def detect(self, images: Tensor, *, least_score: float = LEAST_SCORE) -> list[Detections]:
        """Return the boxes in normalised pictures (N, C, H, W), in pixels of the input.

        Args:
            images: of the detector's own size.
            least_score: what is less sure is left out, in 0..1.
        """
        return [
            Detections(*(values.cpu().numpy() for values in one))
            for one in self.answers(images, least_score=least_score)
        ]

    def answers(
        self, images: Tensor, *, apply: Apply | None = None, least_score: float = LEAST_SCORE
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return boxes (D, 4) in pixels, scores (D,) and classes (D,) of each picture."""
        raw = self.raw(images, apply)
        raw = Raw(raw.logits.float(), raw.deltas.float(), raw.features)
        if self.boxes is None:
            scores = raw.logits.softmax(2)[..., 1:]
            boxes = decode_boxes(raw.deltas, self.anchors, weights=self.weights)
            return [
                self._answer(own, of_classes, least_score)
                for own, of_classes in zip(boxes, scores, strict=True)
            ]
        head = self.architecture.head
        assert isinstance(head, ThunderNet)
        assert raw.features is not None
        regions = self.proposals(raw, most=head.regions)
        logits, deltas = self.of_regions(raw.features, regions)
        boxes = decode_boxes(deltas.float(), torch.cat(regions), weights=BOX_WEIGHTS)
        scores = logits.float().softmax(1)[:, 1:]
        counts = [len(one) for one in regions]
        return [
            self._answer(own, of_classes, least_score)
            for own, of_classes in zip(
                torch.split(boxes, counts), torch.split(scores, counts), strict=True
            )
        ]

    def _answer(
        self, boxes: Tensor, scores: Tensor, least_score: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best boxes of each class that are no duplicates; boxes serve all classes."""
        places, labels = torch.nonzero(scores > least_score, as_tuple=True)
        sure, order = scores[places, labels].sort(descending=True, stable=True)
        places, labels, sure = places[order[:COMPARED]], labels[order[:COMPARED]], sure[:COMPARED]
        own = clip_boxes_to_image(boxes[places], self.architecture.input_shape[1:])
        kept = batched_nms(own, sure, labels, IOU)[:MOST]
        return own[kept], sure[kept], labels[kept]


def build_detector(
    detector: Detector, *, seed: int, backbone: dict[str, Tensor] | None = None
) -> DetectorNetwork:
    """Build a detector with freshly drawn weights, or with those of a trained backbone.

    Convolutions of a backbone that is not given are He-normal; context maps Xavier-uniform, what
    predicts scores and offsets N(0, 0.01), as the authors' code has them.

    Args:
        detector: what to build.
        seed: of what is drawn.
        backbone: weights of a network with these blocks, named after its layers.
    """
    network = DetectorNetwork(detector)
    for part in (network.dense, network.boxes):
        if part is not None:
            part.load_state_dict(build_network(part.architecture, seed=seed).state_dict())
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and "context" in name:
            nn.init.xavier_uniform_(module.weight, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
        elif isinstance(module, nn.Linear) and "connected" in name:
            nn.init.kaiming_uniform_(module.weight, a=1.0, generator=generator)
    if network.boxes is None:
        _expect_background(network)
    if backbone is not None:
        own = network.dense.state_dict()
        blocks = {name: value for name, value in backbone.items() if name in own}
        network.dense.load_state_dict({**own, **blocks})
    return network


def _expect_background(network: DetectorNetwork) -> None:
    """Let every anchor begin as background with a probability of 0.99 (arXiv 1708.02002, 3.3)."""
    labels = network.architecture.num_classes + 1
    for name, module in network.dense.named_modules():
        if isinstance(module, nn.Conv2d) and SCORES in name and module.bias is not None:
            with torch.no_grad():
                surplus = math.log(_FIRST_BACKGROUND / (1.0 - _FIRST_BACKGROUND) * (labels - 1))
                module.bias.view(-1, labels)[:, 0] = surplus


def encode_boxes(
    boxes: Tensor, anchors: Tensor, *, weights: tuple[float, float, float, float]
) -> Tensor:
    """Return the offsets that make each anchor its box, (..., 4); `detection.boxes.encode`."""
    centres, sides = _centres_and_sides(boxes)
    own_centres, own_sides = _centres_and_sides(anchors)
    shift, growth = (centres - own_centres) / own_sides, torch.log(sides / own_sides)
    return torch.cat([shift, growth], -1) * boxes.new_tensor(weights)


def decode_boxes(
    deltas: Tensor, anchors: Tensor, *, weights: tuple[float, float, float, float]
) -> Tensor:
    """Return the boxes that offsets make of anchors, (..., 4); `detection.boxes.decode`."""
    centres, sides = _centres_and_sides(anchors)
    deltas = deltas / deltas.new_tensor(weights)
    middle = centres + deltas[..., :2] * sides
    half = 0.5 * sides * torch.exp(deltas[..., 2:].clamp(max=LARGEST_GROWTH))
    return torch.cat([middle - half, middle + half], -1)


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def _of_anchors(maps: Tensor, anchors: int) -> Tensor:
    """Return (N, H W A, values) of (N, A values, H, W)."""
    count, channels, rows, columns = maps.shape
    apart = maps.reshape(count, anchors, channels // anchors, rows, columns)
    return apart.permute(0, 3, 4, 1, 2).reshape(count, -1, channels // anchors)
