"""What can be opened, how it is limited, and what is said about the rest."""

from featherweight.data import pictures


def test_heic_is_readable_where_its_library_is_and_named_where_not(monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert ".heic" not in pictures.readable_suffixes()
    assert pictures.missing_libraries()[".heic"] == "pillow-heif"
    monkeypatch.setattr(pictures, "find_spec", lambda name: object())
    assert {".heic", ".heif", ".jpg", ".png"} <= pictures.readable_suffixes()
    assert ".heic" not in pictures.missing_libraries()
