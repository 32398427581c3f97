"""The page that puts the papers' figures beside ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from featherweight.zoo.model import MODELS

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_network_page.py"


def test_the_page_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("write_network_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}" in text for name in MODELS)
    assert text == script.network_page(), "run: python scripts/write_network_page.py"
