"""Extensions: a map from type to instance, filled while the daemon is built, then frozen.

The core looks up what it needs by type and knows nothing about who put it there. That is
how persistence comes in, and how anyone can add a part of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from recordd_protocol.errors import RecorddError

__all__ = ["ExtensionError", "Extensions", "Housekeeper", "StartHook"]

T = TypeVar("T")
StartHook = Callable[[], Awaitable[None]]
Housekeeper = Callable[[bool], Awaitable[bool]]
"""Does one slice of work, told whether the writer idles; returns whether more is due now."""


class ExtensionError(RecorddError):
    """An extension was added twice, or after the map was frozen."""


class Extensions:
    """A typed map; `insert` and `on_start` until `freeze`, `get` at any time."""

    def __init__(self) -> None:
        self._instances: Final[dict[type[Any], Any]] = {}
        self._start_hooks: Final[list[StartHook]] = []
        self._frozen = False

    def insert(self, key: type[T], instance: T) -> None:
        """Register `instance` under the type by which it will be looked up.

        Raises:
            ExtensionError: when the type is taken, or the map is frozen.
        """
        self._check_open()
        if key in self._instances:
            raise ExtensionError(f"an extension for {key.__name__} is there already")
        self._instances[key] = instance

    def on_start(self, hook: StartHook) -> None:
        """Have `hook` run as a task in the daemon's nursery, from before the sockets accept.

        Raises:
            ExtensionError: when the map is frozen.
        """
        self._check_open()
        self._start_hooks.append(hook)

    def get(self, key: type[T]) -> T | None:
        """Return the instance registered under `key`, or None."""
        instance: T | None = self._instances.get(key)
        return instance

    def freeze(self) -> tuple[StartHook, ...]:
        """Close the map to changes and return the hooks, in the order they were added."""
        self._frozen = True
        return tuple(self._start_hooks)

    def _check_open(self) -> None:
        if self._frozen:
            raise ExtensionError("extensions are frozen once the daemon is built")
