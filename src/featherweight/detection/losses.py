"""How wrong a detector answers: which anchors and regions are which objects, and the losses.

Source: Ren et al., Faster R-CNN, arXiv 1506.01497, section 3.1.2 (proposals: 256 anchors of a
picture, half of them objects at most); Girshick, Fast R-CNN, arXiv 1504.08083, section 2.3;
Shrivastava et al., OHEM, arXiv 1604.03540 (the second stage learns from the regions with the
largest losses); Liu et al., SSD, arXiv 1512.02325, section 2.2 (three backgrounds to an object).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_area, box_iou

from featherweight.detection.answering import BOX_WEIGHTS
from featherweight.detection.network import DetectorNetwork, Raw, encode_boxes
from featherweight.nn.network import Apply

__all__ = ["Assigned", "Objects", "assign", "detection_loss"]

_OBJECT, _BACKGROUND, _NEITHER = 1, 0, -1
_PROPOSAL_IOU, _IOU = 0.3, 0.5
_BEST = 8
"""Anchors of an object."""
_LEAST_BEST_IOU = 0.15
_SAMPLED = 256
_SAMPLED_OBJECTS = 0.5
_TRAINED_REGIONS = 256
"""Proposals of a picture in training, objects themselves included; ours: 2,000 of
them take twice the multiply-adds of SNet146."""
_HARD_REGIONS = 64
"""Of them, those whose loss counts; ours, a quarter."""
_BACKGROUNDS = 3
"""To an object, in SSDLite's loss."""
_CROWD_SHARE = 0.5
"""Of a box inside a crowd from which on it is no background; ours."""
_SMOOTH = 1.0 / 9.0
"""From which error on the loss of offsets grows on a straight line (Faster R-CNN's sigma of 3)."""


class Objects(NamedTuple):
    """What is in one picture, in pixels of the input.

    Attributes:
        boxes: (M, 4).
        labels: (M,).
        crowd: (M,) bool: such a box holds several objects, and teaches nothing.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor


class Assigned(NamedTuple):
    """What candidates should be.

    Attributes:
        state: 1 = an object, 0 = background, -1 = neither, (K,).
        place: of the object among those that are no crowd, (K,); 0 where there is none.
    """

    state: Tensor
    place: Tensor


def assign(candidates: Tensor, objects: Objects, *, least: float, best: int | None) -> Assigned:
    """Say which candidates are which objects.

    Args:
        candidates: boxes (K, 4).
        objects: of the picture.
        least: IoU with all objects below which a candidate is background.
        best: so many candidates that overlap an object most are it, the first however little, the
            others from an IoU of 0.15 on; what else overlaps one by `least` is neither. Every
            object then has about as many, be it large or small, among many or alone (uniform
            matching, Chen et al. 2021, arXiv 2103.09460, section 4.2). `None` = all from `least` on
            are objects.
    """
    own = objects.boxes[~objects.crowd]
    state = torch.full((len(candidates),), _BACKGROUND, device=candidates.device)
    place = torch.zeros_like(state)
    if len(own):
        overlaps = box_iou(candidates, own)
        largest, place = overlaps.max(1)
        state[largest >= least] = _OBJECT if best is None else _NEITHER
        if best is not None:
            most, rows = overlaps.topk(min(best, len(candidates)), dim=0)  # (best, M)
            columns = torch.arange(len(own), device=rows.device).expand_as(rows)
            needed = torch.full_like(most, _LEAST_BEST_IOU)
            needed[0] = 0.0
            # The best of an object comes last, so that no other object takes it.
            chosen = (most > needed).flip(0)
            rows, columns = rows.flip(0)[chosen], columns.flip(0)[chosen]
            state[rows], place[rows] = _OBJECT, columns
    if objects.crowd.any():
        inside = _share_inside(candidates, objects.boxes[objects.crowd])
        state[(inside > _CROWD_SHARE) & (state == _BACKGROUND)] = _NEITHER
    return Assigned(state, place)


def _share_inside(boxes: Tensor, crowds: Tensor) -> Tensor:
    """Return the largest share of each box that is inside one of the crowds, (K,)."""
    low = torch.maximum(boxes[:, None, :2], crowds[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    shares: Tensor = (common / box_area(boxes).clamp(min=1e-6)[:, None]).amax(1)
    return shares


def detection_loss(
    network: DetectorNetwork,
    images: Tensor,
    objects: Sequence[Objects],
    *,
    generator: torch.Generator,
    apply: Apply | None = None,
) -> dict[str, Tensor]:
    """Return the losses of a batch by name, scalars; their sum is what is learnt.

    Args:
        network: in train mode.
        images: normalised, (N, C, H, W).
        objects: of each picture.
        generator: chooses anchors.
        apply: computes every layer; `None` = its module does.
    """
    raw = network.raw(images, apply)
    raw = Raw(raw.logits.float(), raw.deltas.float(), raw.features)
    if network.boxes is None:
        return _one_stage(network, raw, objects)
    first = _proposal_losses(network, raw, objects, generator=generator)
    return first | _region_losses(network, raw, objects)


def _proposal_losses(
    network: DetectorNetwork, raw: Raw, objects: Sequence[Objects], *, generator: torch.Generator
) -> dict[str, Tensor]:
    scores, offsets, counted = [], [], 0
    for logits, deltas, own in zip(raw.logits, raw.deltas, objects, strict=True):
        assigned = assign(network.anchors, own, least=_PROPOSAL_IOU, best=_BEST)
        positive = _drawn(
            assigned.state == _OBJECT, int(_SAMPLED_OBJECTS * _SAMPLED), generator=generator
        )
        negative = _drawn(
            assigned.state == _BACKGROUND, _SAMPLED - len(positive), generator=generator
        )
        chosen = torch.cat([positive, negative])
        counted += len(chosen)
        right = (assigned.state[chosen] == _OBJECT).long()
        scores.append(functional.cross_entropy(logits[chosen], right, reduction="sum"))
        offsets.append(
            _offset_losses(
                deltas[positive],
                network.anchors[positive],
                own,
                assigned.place[positive],
                weights=network.weights,
            ).sum()
        )
    count = max(1, counted)
    return {
        "proposal_scores": torch.stack(scores).sum() / count,
        "proposal_boxes": torch.stack(offsets).sum() / count,
    }


def _region_losses(
    network: DetectorNetwork, raw: Raw, objects: Sequence[Objects]
) -> dict[str, Tensor]:
    assert raw.features is not None
    proposals = network.proposals(raw, most=_TRAINED_REGIONS)
    regions = [
        torch.cat([own.boxes[~own.crowd], found])[:_TRAINED_REGIONS]
        for own, found in zip(objects, proposals, strict=True)
    ]
    logits, deltas = (one.float() for one in network.of_regions(raw.features, regions))
    losses: dict[str, list[Tensor]] = {"scores": [], "boxes": []}
    counts = [len(one) for one in regions]
    for own, boxes, of_classes, offsets in zip(
        objects, regions, torch.split(logits, counts), torch.split(deltas, counts), strict=True
    ):
        assigned = assign(boxes, own, least=_IOU, best=None)
        is_object = assigned.state == _OBJECT
        right = torch.zeros_like(assigned.place)
        right[is_object] = own.labels[~own.crowd][assigned.place[is_object]] + 1
        each = functional.cross_entropy(of_classes, right, reduction="none")
        each = torch.where(assigned.state == _NEITHER, 0.0, each)
        places = torch.zeros_like(each)
        places[is_object] = _offset_losses(
            offsets[is_object],
            boxes[is_object],
            own,
            assigned.place[is_object],
            weights=BOX_WEIGHTS,
        )
        hard = (each + places).detach().topk(min(_HARD_REGIONS, len(each))).indices
        losses["scores"].append(each[hard].sum() / _HARD_REGIONS)
        losses["boxes"].append(places[hard].sum() / _HARD_REGIONS)
    return {f"region_{name}": torch.stack(parts).mean() for name, parts in losses.items()}


def _one_stage(network: DetectorNetwork, raw: Raw, objects: Sequence[Objects]) -> dict[str, Tensor]:
    scores, offsets, counted = [], [], 0
    for logits, deltas, own in zip(raw.logits, raw.deltas, objects, strict=True):
        assigned = assign(network.anchors, own, least=_IOU, best=_BEST)
        is_object = assigned.state == _OBJECT
        right = torch.zeros_like(assigned.place)
        right[is_object] = own.labels[~own.crowd][assigned.place[is_object]] + 1
        each = functional.cross_entropy(logits, right, reduction="none")
        count = int(is_object.sum())
        counted += count
        background = torch.where(assigned.state == _BACKGROUND, each.detach(), -1.0)
        wanted = min(max(1, _BACKGROUNDS * count), int((assigned.state == _BACKGROUND).sum()))
        hard = background.topk(wanted).indices
        scores.append(each[is_object].sum() + each[hard].sum())
        offsets.append(
            _offset_losses(
                deltas[is_object],
                network.anchors[is_object],
                own,
                assigned.place[is_object],
                weights=network.weights,
            ).sum()
        )
    count = max(1, counted)
    return {
        "scores": torch.stack(scores).sum() / count,
        "boxes": torch.stack(offsets).sum() / count,
    }


def _offset_losses(
    deltas: Tensor,
    starts: Tensor,
    objects: Objects,
    index: Tensor,
    *,
    weights: tuple[float, float, float, float],
) -> Tensor:
    """Return the loss of each of the offsets (K, 4), (K,)."""
    if not len(deltas):
        return deltas.sum(1)
    wanted = encode_boxes(objects.boxes[~objects.crowd][index], starts, weights=weights)
    each = functional.smooth_l1_loss(deltas, wanted, beta=_SMOOTH, reduction="none")
    return each.sum(1)


def _drawn(mask: Tensor, most: int, *, generator: torch.Generator) -> Tensor:
    """Return at most so many of the places where a mask holds, drawn."""
    places = torch.nonzero(mask).flatten()
    if len(places) <= most:
        return places
    order = torch.randperm(len(places), generator=generator)[:most]
    return places[order.to(places.device)]
