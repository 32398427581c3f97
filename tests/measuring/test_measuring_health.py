"""doctor on a machine without an optional runtime."""

from __future__ import annotations

import sys

import pytest

from featherweight.errors import MissingDependencyError
from featherweight.measuring.health import examine
from featherweight.runtimes.runtime import RUNTIMES


def test_an_absent_runtime_is_said_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = examine()
    assert found["ok"]
    assert "featherweight[openvino]" in found["runtimes"]["openvino"]
    assert found["runtimes"]["onnxruntime"][0].isdigit()
    with pytest.raises(MissingDependencyError, match="not installed"):
        RUNTIMES["openvino"].version()
