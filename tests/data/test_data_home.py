"""Where decoded pictures are kept: as the user says, and one line where nobody knows."""

from pathlib import Path

import pytest

from featherweight.data.home import cache_directory
from featherweight.errors import UsageError


def test_the_folder_of_the_user_counts(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FEATHERWEIGHT_HOME", "~/pictures")
    assert cache_directory() == tmp_path / "pictures" / "pixels"
    monkeypatch.delenv("FEATHERWEIGHT_HOME")
    assert cache_directory() == tmp_path / ".cache" / "featherweight" / "pixels"


@pytest.mark.parametrize("home", ["~nosuchuser/pictures", None])
def test_without_a_home_the_variable_is_named(monkeypatch, home):
    def nobody(_path=None):
        raise RuntimeError("Could not determine home directory.")

    if home is None:
        monkeypatch.delenv("FEATHERWEIGHT_HOME", raising=False)
        monkeypatch.setattr(Path, "home", nobody)
    else:
        monkeypatch.setenv("FEATHERWEIGHT_HOME", home)
    with pytest.raises(UsageError) as caught:
        cache_directory()
    assert "FEATHERWEIGHT_HOME" in str(caught.value)
    assert "\n" not in str(caught.value)
