import numpy as np
import pytest
from artifact_networks import ARCHITECTURES, IMAGENET, labels_of

from featherweight.errors import UsageError
from featherweight.runtimes import onnxruntime as module
from featherweight.runtimes.onnxruntime import OnnxRuntime, is_saturation_safe, open_session
from featherweight.runtimes.runtime import ExportOptions

SMALL = ARCHITECTURES[4]


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "flags : avx2 fma", True),
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("AMD64", "flags : avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", "Features : asimd", False),
    ],
)
def test_saturating_cpus_are_recognised(monkeypatch, tmp_path, machine, flags, saturates) -> None:
    facts = tmp_path / "cpuinfo"
    if flags is not None:
        facts.write_text(flags)
    monkeypatch.setattr(module.platform, "machine", lambda: machine)
    monkeypatch.setattr(module, "_CPU_FACTS", facts)
    assert is_saturation_safe(None) is saturates
    assert is_saturation_safe(True) is True, "what is known of the device counts"
    assert is_saturation_safe(False) is False


def test_int8_artifact_records_what_runs(tmp_path) -> None:
    artifact = OnnxRuntime().export(
        SMALL,
        None,
        tmp_path,
        ExportOptions(
            precision="int8",
            preprocessing=IMAGENET,
            labels=labels_of(SMALL),
        ),
    )
    assert artifact.int8_operators is not None
    assert artifact.int8_operators["Conv"] == "int8 2/2"
    assert artifact.saturation_safe is is_saturation_safe(None)


def test_calibration_of_another_size_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="calibration pictures are uint8"):
        OnnxRuntime().export(
            SMALL,
            None,
            tmp_path,
            ExportOptions(
                precision="int8",
                calibration=np.zeros((2, 8, 8, 3), np.uint8),
                preprocessing=IMAGENET,
                labels=labels_of(SMALL),
            ),
        )


def test_threads_are_set_explicitly() -> None:
    options = module._session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    with pytest.raises(UsageError, match="0 threads"):
        open_session(b"", num_threads=0)
