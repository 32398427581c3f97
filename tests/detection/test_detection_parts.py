"""Detectors as graphs: published sizes, shapes, and answers of the parts in every runtime."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from featherweight.detection.anchors import anchors_of
from featherweight.detection.detector import Detector, SsdLite, ThunderNet, backbone_of
from featherweight.detection.parts import box_head, dense_part
from featherweight.layers import graph
from featherweight.networks.resolve import create_architecture
from featherweight.profiling.profile import profile

COCO = 80


def detector_of(backbone: str, head: ThunderNet | SsdLite, *, resolution: int = 320) -> Detector:
    whole = create_architecture(backbone, resolution=resolution, form="standard")
    return Detector(
        name=f"{head.kind}_{backbone}", backbone=backbone_of(whole), head=head, num_classes=COCO
    )


def parts_of_macs(detector: Detector) -> dict[str, float]:
    """Return millions of multiply-adds of backbone, context, proposals and attention."""
    found = dict.fromkeys(("blocks", "context", "proposal", "attention"), 0.0)
    for row in profile(dense_part(detector)).layers:
        found[row.name.split(".")[0]] += (row.macs or 0) / 1e6
    return found


@pytest.mark.parametrize(
    ("backbone", "blocks", "context", "total", "published"),
    [
        ("snet49", 103.5, 24.4, 263.5, 262),
        ("snet146", 327.8, 38.9, 502.3, 473),
        ("snet146_126", 301.9, 37.2, 474.6, 473),
        ("snet535", 1090.5, 73.2, 1299.3, 1300),
    ],
)
def test_thundernet_has_the_published_multiply_adds(
    backbone: str, blocks: float | None, context: float | None, total: float, published: float
) -> None:
    """Reference: the paper's table at 320 pixels, 81 classes, 200 regions."""
    detector = detector_of(backbone, ThunderNet())
    found = parts_of_macs(detector)
    boxes = box_head(detector)
    assert boxes is not None
    second = 200 * (profile(boxes).macs or 0) / 1e6
    assert found["proposal"] == pytest.approx(42.9, abs=0.05)
    assert found["attention"] == pytest.approx(25.1, abs=0.05)
    assert second == pytest.approx(67.6, abs=0.05)
    assert found["blocks"] == pytest.approx(blocks, abs=0.05)
    assert found["context"] == pytest.approx(context, abs=0.05)
    assert sum(found.values()) + second == pytest.approx(total, abs=0.1)
    assert abs(total / published - 1.0) < 0.07


@pytest.mark.parametrize(
    ("backbone", "millions"), [("snet49", 1.154), ("snet146", 1.879), ("snet535", 4.661)]
)
def test_thundernet_has_the_parameters_of_the_reference(backbone: str, millions: float) -> None:
    detector = detector_of(backbone, ThunderNet())
    boxes = box_head(detector)
    assert boxes is not None
    params = (profile(dense_part(detector)).params or 0) + (profile(boxes).params or 0)
    assert params / 1e6 == pytest.approx(millions, abs=0.002)


def test_the_parts_answer_maps_of_the_cells() -> None:
    detector = detector_of("snet49", ThunderNet(), resolution=224)
    shapes = {one.name: one.shape for one in graph(dense_part(detector)).outputs}
    assert shapes == {
        "anchor_scores": (50, 14, 14),
        "anchor_deltas": (100, 14, 14),
        "features": (245, 14, 14),
    }
    boxes = box_head(detector)
    assert boxes is not None
    assert {one.name: one.shape for one in graph(boxes).outputs} == {
        "box_scores": (81,),
        "box_deltas": (4,),
    }


def test_ssdlite_predicts_on_six_maps() -> None:
    detector = detector_of("efficientnet_lite0", SsdLite())
    found = graph(dense_part(detector)).outputs
    assert [one.name for one in found[:2]] == ["anchor_scores.0", "anchor_deltas.0"]
    sizes = [one.shape[1] for one in found[::2]]
    assert sizes == [20, 10, 5, 3, 2, 1]
    assert {one.shape[0] for one in found[::2]} == {6 * (COCO + 1)}
    assert {one.shape[0] for one in found[1::2]} == {24}
    assert box_head(detector) is None


def test_small_objects_have_cells_of_their_own() -> None:
    small = ((0.05, 0.1), (0.08, 0.08))
    fine = detector_of("efficientnet_lite0", SsdLite(fine_anchors=small, fine_channels=64))
    found = graph(dense_part(fine)).outputs
    assert [one.shape for one in found[:2]] == [(2 * (COCO + 1), 40, 40), (8, 40, 40)]
    first, second = anchors_of(fine)[:2]
    assert (len(first), len(second)) == (2 * 40 * 40, 6 * 20 * 20)
    assert first[0].tolist() == pytest.approx([-4.0, -12.0, 12.0, 20.0])  # 16 x 32 around (4, 4)
    coarse = detector_of("efficientnet_lite0", SsdLite(fine_anchors=small))
    assert graph(dense_part(coarse)).outputs[0].shape == (8 * (COCO + 1), 20, 20)
    assert len(anchors_of(coarse)[0]) == 8 * 20 * 20
    with pytest.raises(ValidationError, match="a fine map needs fine anchors"):
        SsdLite(fine_channels=64)


def test_same_padding_survives_another_size() -> None:
    """The padding of a part follows from the size, as that of its backbone does."""
    for resolution in (96, 128):
        detector = detector_of("efficientnet_lite0", ThunderNet(), resolution=320)
        part = dense_part(detector).at_resolution(resolution)
        assert graph(part) == graph(dense_part(detector.at_resolution(resolution)))


def test_the_digest_knows_everything_but_names() -> None:
    one = detector_of("snet49", ThunderNet())
    renamed = one.changed(name="other")
    assert renamed.digest == one.digest
    others = [
        one.changed(num_classes=3),
        one.at_resolution(224),
        one.changed(head=ThunderNet(bins=6)),
        one.changed(head=SsdLite()),
        detector_of("snet146", ThunderNet()),
    ]
    assert len({other.digest for other in (one, *others)}) == 1 + len(others)
    assert Detector.model_validate_json(one.model_dump_json()) == one


def test_what_is_no_detector_is_refused() -> None:
    whole = create_architecture("snet49", resolution=320, form="standard")
    with pytest.raises(ValueError, match="blocks alone"):
        Detector(name="x", backbone=whole, head=ThunderNet(), num_classes=3)
    with pytest.raises(ValueError, match="multiples of 32"):
        detector_of("snet49", ThunderNet(), resolution=300)
