from __future__ import annotations

import sys
from pathlib import Path

import pytest

from featherweight.errors import UsageError
from featherweight.registry import Registry, unknown_name


@pytest.fixture
def registry() -> Registry[int]:
    made: Registry[int] = Registry("number", plugins="featherweight.operators")
    made.add("two", 2)
    made.add("one", 1)
    return made


def test_names_are_found_in_the_order_of_registration(registry: Registry[int]) -> None:
    assert registry["one"] == 1
    assert list(registry) == ["two", "one"]
    assert len(registry) == 2
    assert "two" in registry
    assert "three" not in registry
    assert 2 not in registry


def test_adding_returns_the_object_and_refuses_a_second(registry: Registry[int]) -> None:
    assert registry.add("three", 3) == 3
    with pytest.raises(ValueError, match="number 'three' is registered twice"):
        registry.add("three", 4)
    assert registry["three"] == 3


def test_an_unknown_name_suggests_the_nearest(registry: Registry[int]) -> None:
    with pytest.raises(UsageError) as caught:
        registry["tow"]
    assert str(caught.value) == "no number named 'tow'; allowed: one, two; did you mean 'two'?"
    assert caught.value.exit_code == 2
    assert unknown_name("number", "zzz", ["one"]).hint is None


def test_plugins_are_imported_at_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry_plugin.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    looks = (
        lambda made: "a" in made,
        list,
        len,
        lambda made: made["a"],
    )
    for look in looks:
        made: Registry[int] = Registry("number", plugins="registry_plugin")
        made.add("a", 1)
        assert "registry_plugin" not in sys.modules
        look(made)
        assert "registry_plugin" in sys.modules
        monkeypatch.delitem(sys.modules, "registry_plugin")


def test_iterating_while_adding_sees_the_names_of_the_start(registry: Registry[int]) -> None:
    seen = []
    for name in registry:
        seen.append(name)
        registry.add(f"{name}_more", 0)
    assert seen == ["two", "one"]
