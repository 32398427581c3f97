"""The folder of locks and sockets in the temporary folder, where everybody can write."""

import tempfile

import pytest

from featherweight.devices import holding
from featherweight.errors import DeviceError


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_planted_link_is_not_the_folder_of_locks(temporary):
    name = holding.own_folder().name
    (temporary / name).rmdir()
    (temporary / "elsewhere").mkdir()
    (temporary / name).symlink_to(temporary / "elsewhere")
    with pytest.raises(DeviceError, match="is a link") as caught:
        holding.own_folder()
    assert "TMPDIR" in str(caught.value.hint)


def test_a_file_in_its_place_is_one_line(temporary):
    name = holding.own_folder().name
    (temporary / name).rmdir()
    (temporary / name).write_text("x")
    with pytest.raises(DeviceError, match="is no folder"):
        holding.own_folder()


def test_the_lock_of_a_device_empties_nothing(temporary):
    lock = holding.own_folder() / f"{holding.device_key('ssh://board')}.lock"
    (temporary / "precious").write_text("mine")
    lock.symlink_to(temporary / "precious")
    with pytest.raises(DeviceError, match="is a link"), holding.held("ssh://board"):
        pass
    assert (temporary / "precious").read_text() == "mine"


def test_a_device_is_held_and_let_go(temporary):
    with holding.held("ssh://board"):
        assert [path.suffix for path in (temporary / holding.own_folder().name).iterdir()] == [
            ".lock"
        ]
    with holding.held("ssh://board"):
        pass
