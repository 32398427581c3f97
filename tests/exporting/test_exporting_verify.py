import numpy as np
import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of, pictures, trained_like

from featherweight.data.metrics import accuracy_interval
from featherweight.errors import UsageError
from featherweight.exporting.export import export_network
from featherweight.exporting.verify import network_answers, verify_artifact

ARCHITECTURE = ARCHITECTURES[0]
NETWORK = trained_like(ARCHITECTURE)
IMAGES = pictures(ARCHITECTURE, 40, seed=1)
ANSWERS = network_answers(NETWORK, IMAGES, preprocessing=IMAGENET)["logits"].argmax(axis=1)


def export(out, *, precision="fp32", preprocessing=IMAGENET, network=NETWORK, calibration=None):
    return export_network(
        network,
        runtime="onnxruntime",
        precision=precision,
        out=out,
        calibration=calibration,
        preprocessing=preprocessing,
        labels=labels_of(ARCHITECTURE),
    )


def test_a_good_file_passes_with_its_accuracy(tmp_path) -> None:
    labels = ANSWERS.copy()
    labels[:10] = (labels[:10] + 1) % 7
    found = verify_artifact(export(tmp_path), NETWORK, images=IMAGES, targets=labels, split="test")
    assert found.passed
    assert found.relative_error < 1e-5
    assert found.top1_agreement == 1.0
    assert (found.accuracy, found.n, found.split) == (0.75, 40, "test")
    assert found.interval == accuracy_interval(30, 40)
    assert found.platform == "local/onnxruntime:threads=1,precision=fp32"


def test_the_network_may_answer_a_part_and_the_file_answers_all(tmp_path) -> None:
    labels = ANSWERS.copy()
    labels[1] = (labels[1] + 1) % 7
    artifact = export(tmp_path)
    whole = verify_artifact(artifact, NETWORK, images=IMAGES, targets=labels, split="test")
    assert (whole.compared, whole.network_accuracy) == (40, 39 / 40)
    part = verify_artifact(
        artifact, NETWORK, images=IMAGES, targets=labels, split="test", most_compared=14
    )
    assert (part.compared, part.n, part.accuracy) == (14, 40, 39 / 40)
    assert part.network_accuracy is None, "of 14 pictures it would not be that of the split"
    assert part.passed
    with pytest.raises(UsageError, match="cannot compare 0 pictures"):
        verify_artifact(
            artifact, NETWORK, images=IMAGES, targets=labels, split="test", most_compared=0
        )
    other = export(tmp_path / "other", network=trained_like(ARCHITECTURE, seed=5))
    assert not verify_artifact(
        other, NETWORK, images=IMAGES, targets=labels, split="test", most_compared=14
    ).passed


def test_a_wrong_file_fails(tmp_path) -> None:
    """Weights of another seed: the file is intact and still not this network."""
    other = export(tmp_path, network=trained_like(ARCHITECTURE, seed=5))
    found = verify_artifact(other, NETWORK, images=IMAGES, targets=ANSWERS, split="val")
    assert not found.passed
    assert found.relative_error > 0.1


def test_int8_passes_by_agreement(tmp_path) -> None:
    artifact = export(tmp_path, precision="int8", calibration=pictures(ARCHITECTURE, 16))
    found = verify_artifact(artifact, NETWORK, images=IMAGES, targets=ANSWERS, split="test")
    assert found.passed
    assert found.top1_agreement >= 0.9
    assert 1e-4 < found.relative_error < 0.1
    strict = verify_artifact(
        artifact, NETWORK, images=IMAGES, targets=ANSWERS, split="test", smallest_agreement=1.01
    )
    assert not strict.passed


def test_training_mode_is_left_as_it_was(tmp_path) -> None:
    network = trained_like(ARCHITECTURE).train()
    before = network.get_buffer("blocks.0.main.norm.running_mean").clone()
    verify_artifact(export(tmp_path), network, images=IMAGES[:2], targets=ANSWERS[:2], split="val")
    assert network.training
    assert network.get_buffer("blocks.0.main.norm.running_mean").equal(before)


def test_what_does_not_belong_together_is_refused(tmp_path) -> None:
    artifact = export(tmp_path)
    with pytest.raises(UsageError, match="another architecture"):
        verify_artifact(
            artifact, trained_like(ARCHITECTURES[1]), images=IMAGES, targets=ANSWERS, split="test"
        )
    with pytest.raises(UsageError, match="pictures are"):
        verify_artifact(artifact, NETWORK, images=IMAGES[:0], targets=ANSWERS[:0], split="test")
    with pytest.raises(UsageError, match="3 targets"):
        verify_artifact(artifact, NETWORK, images=IMAGES, targets=ANSWERS[:3], split="test")
    with pytest.raises(UsageError, match="without calibration"):
        export(tmp_path, precision="int8")


def test_diverged_weights_are_refused(tmp_path) -> None:
    network = trained_like(ARCHITECTURE)
    network.get_parameter("classifier.weight").data[0, 0] = np.nan
    with pytest.raises(UsageError, match=r"'classifier\.weight' hold values"):
        export(tmp_path, network=network)
