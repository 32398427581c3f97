"""Where pictures with their boxes go: never over what was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight.data.drawing import drawing_places


def test_each_file_has_a_place_of_its_own(tmp_path: Path) -> None:
    files = [Path("a.jpg"), Path("b.png"), Path("c.AVI"), Path("a.jpg")]
    assert drawing_places(files, tmp_path, films={".avi"}) == {
        Path("a.jpg"): tmp_path / "a.png",
        Path("b.png"): tmp_path / "b.png",
        Path("c.AVI"): tmp_path / "c.mp4",
    }


def test_nothing_is_drawn_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x/a.jpg and y/a.png would both be drawn to .*a.png"):
        drawing_places([Path("x/a.jpg"), Path("y/a.png")], tmp_path)
    with pytest.raises(ValueError, match="is one of the files given"):
        drawing_places([tmp_path / "a.png"], tmp_path)
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ValueError, match="is one of the files given"):
        drawing_places([tmp_path / "film.mp4"], linked, films={".mp4"})
