"""Names to objects, with a suggestion for a name that does not exist."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from featherweight.errors import UsageError

__all__ = ["Registry", "unknown_name"]

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name nobody registered, with the nearest spelling."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else None
    return UsageError(f"no {kind} named {name!r}", allowed=", ".join(names), hint=hint)


class Registry(Generic[T]):
    """A table of named objects that its plug-in package fills.

    Args:
        kind: what the objects are, for messages ("network", "runtime").
        plugins: package whose import registers the objects; imported at the first look-up, so
            that a registry can live below the plug-ins it finds.
    """

    def __init__(self, kind: str, *, plugins: str) -> None:
        self.kind = kind
        self._plugins = plugins
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register `item`; a name given twice is a programming error."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        """Return the object called `name`.

        Raises:
            UsageError: nobody registered that name; the nearest one is suggested.
        """
        importlib.import_module(self._plugins)
        if name not in self._items:
            raise unknown_name(self.kind, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        importlib.import_module(self._plugins)
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order in which they were registered."""
        importlib.import_module(self._plugins)
        return iter(tuple(self._items))

    def __len__(self) -> int:
        importlib.import_module(self._plugins)
        return len(self._items)
