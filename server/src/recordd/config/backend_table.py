"""The options of the backend, as they were stated: `[backend]`, variables, flags.

What they mean only the backend knows, which is given them as they are. Here it is settled where
each comes from: a flag before a variable before the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = ["MOVED_OPTIONS", "BackendTable", "is_backend_variable", "part_backend_table"]

MOVED_OPTIONS: Final = ("database", "reserve_bytes", "synchronous", "readers", "tail_rows")
"""Options that were settings before there was a table; they may still be stated as these were.

The list is closed: an option that a backend has now is stated in its table, or by a variable.
"""

_PREFIX: Final = "RECORDD_BACKEND_"


class BackendTable(msgspec.Struct, frozen=True):
    """What is stated for the backend: values by option, as they are.

    `sources` say which flag, variable or file each came from; `places` are what to call the
    option in an error. Those of `as_settings` were stated without a word of the backend, so one
    that has no such option does without them.
    """

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    places: dict[str, str] = {}
    as_settings: frozenset[str] = frozenset()


def part_backend_table(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    table: Mapping[str, Any],
    *,
    file: str,
    default: str,
) -> tuple[dict[str, Any], BackendTable]:
    """Return the settings of a file, with the name alone of its backend, and the options.

    A table is for the backend that it names, `default` where it names none: where a flag or a
    variable chooses another, its options do not hold.

    Raises:
        ValueError: an option is stated twice in the same place, or the name is none.
    """
    settings = dict(table)
    name, options = _read_name(settings.pop("backend", None), file, default)
    if name is not None:
        settings["backend"] = name
    if flags.get("backend", environment.get("RECORDD_BACKEND", name)) != name:
        options = {}
    found = _Found()
    for key, value in options.items():
        if key in settings and key in MOVED_OPTIONS:
            raise ValueError(f"{file}: {key}: stated in [backend] too; leave it there alone")
        found.add(key, value, source=file, place=f"{file}: [backend] {key}")
    for key in MOVED_OPTIONS:
        if key in settings:
            place = f"{file}: {key}"
            found.add(key, settings.pop(key), source=file, place=place, as_setting=True)
    _take_variables(environment, found)
    for key in MOVED_OPTIONS:
        if key in flags:
            found.add(key, flags[key], source=f"--{key.replace('_', '-')}", as_setting=True)
    return settings, found.as_table()


def _read_name(stated: Any, file: str, default: str) -> tuple[Any, dict[str, Any]]:
    """Return the name of a table, or of a name alone, and the options beside it."""
    if not isinstance(stated, dict):
        return stated, {}
    options = dict(stated)
    name = options.pop("name", default)
    if not isinstance(name, str):
        raise ValueError(f"{file}: [backend] name: must be a text")
    return name, options


def is_backend_variable(name: str) -> bool:
    """Tell whether a variable of the environment states an option of the backend."""
    return name.startswith(_PREFIX) or name in _MOVED_VARIABLES


def _take_variables(environment: Mapping[str, str], found: _Found) -> None:
    for variable, key in _MOVED_VARIABLES.items():
        if variable not in environment:
            continue
        if (twin := _PREFIX + key.upper()) in environment:
            raise ValueError(f"{variable}, {twin}: both state the same option")
        found.add(key, environment[variable], source=variable, as_setting=True)
    for variable, value in environment.items():
        if variable.startswith(_PREFIX):
            found.add(variable.removeprefix(_PREFIX).lower(), value, source=variable)


class _Found:
    """Options as they are found, the least important place first."""

    def __init__(self) -> None:
        self._values: Final[dict[str, Any]] = {}
        self._sources: Final[dict[str, str]] = {}
        self._places: Final[dict[str, str]] = {}
        self._as_settings: Final[set[str]] = set()

    def add(
        self, key: str, value: Any, *, source: str, place: str = "", as_setting: bool = False
    ) -> None:
        self._values[key], self._sources[key] = value, source
        self._places[key] = place or source
        self._as_settings.discard(key)
        if as_setting:
            self._as_settings.add(key)

    def as_table(self) -> BackendTable:
        return BackendTable(self._values, self._sources, self._places, frozenset(self._as_settings))


_MOVED_VARIABLES: Final = {f"RECORDD_{key.upper()}": key for key in MOVED_OPTIONS}
