import hashlib
import json
import shutil

import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of

from featherweight.errors import RecordError, UsageError
from featherweight.runtimes.artifact import check_files, read_artifact
from featherweight.runtimes.runtime import RUNTIMES, ExportOptions

SMALL = ARCHITECTURES[4]


@pytest.fixture
def artifact(tmp_path):
    return RUNTIMES["onnxruntime"].export(
        SMALL,
        None,
        tmp_path / "first",
        ExportOptions(
            precision="fp32",
            preprocessing=IMAGENET,
            labels=labels_of(SMALL),
        ),
    )


def test_a_moved_artifact_is_found_where_it_is_read(artifact, tmp_path) -> None:
    assert read_artifact(tmp_path / "first") == artifact
    shutil.move(tmp_path / "first", tmp_path / "second")
    moved = read_artifact(tmp_path / "second" / "artifact.json")
    assert moved == artifact.model_copy(update={"directory": str(tmp_path / "second")})
    content = moved.paths[0].read_bytes()
    assert moved.sha256 == hashlib.sha256(content).hexdigest()
    assert moved.size_bytes == len(content)
    assert str(tmp_path) not in (tmp_path / "second" / "artifact.json").read_text()


def test_a_classifier_has_one_output_for_each_label(artifact, tmp_path) -> None:
    described = tmp_path / "first" / "artifact.json"
    plain = json.loads(described.read_text())
    described.write_text(json.dumps({**plain, "labels": plain["labels"][1:]}))
    with pytest.raises(RecordError, match="outputs that are not logits of 6 labels"):
        read_artifact(tmp_path / "first")


def test_changed_and_absent_files_are_refused(artifact, tmp_path) -> None:
    path = artifact.paths[0]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UsageError, match="changed after the export"):
        read_artifact(tmp_path / "first")
    path.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        check_files(artifact)
    with pytest.raises(RecordError):
        read_artifact(tmp_path / "elsewhere")
