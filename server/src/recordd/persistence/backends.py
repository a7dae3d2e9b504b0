"""Backends by name: entry points of group `recordd.backends`.

Each is a `BackendFactory`. Where it has an attribute `options_type`, the Struct that its table is
read into, `recordd config` shows its options with their defaults.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from recordd.config.backend_table import BackendTable
from recordd.config.settings import Configuration
from recordd.extending.backend import BackendOptions, PersistenceBackend
from recordd.extending.installed import load_installed
from recordd.extending.options import describe_options, read_options

__all__ = [
    "BACKENDS_GROUP",
    "BackendFactory",
    "OptionValue",
    "configured_backend",
    "describe_backend",
    "make_backend",
    "state_options",
]

BACKENDS_GROUP: Final = "recordd.backends"


class BackendFactory(Protocol):
    """Makes a backend of what the configuration says; nothing is opened before `initialize`."""

    def __call__(self, options: BackendOptions, /) -> PersistenceBackend:
        """Make it.

        Raises:
            OptionError: the table is none for this backend; `read_options` raises it.
        """


class _NoOptions(msgspec.Struct, frozen=True):
    """What may be stated where there is no backend."""


class OptionValue(msgspec.Struct, frozen=True):
    """An option in force, and where it came from."""

    key: str
    value: Any
    source: str


def make_backend(name: str, options: BackendOptions) -> PersistenceBackend:
    """Make the backend of an entry point.

    Raises:
        NotConfigured: when no installed distribution offers one of that name, or an option is
            wrong.
    """
    return _find_factory(name)(options)


def configured_backend(configuration: Configuration, *, accept_loss: bool) -> PersistenceBackend:
    """Make the backend that the configuration names, with the options that it states.

    Raises:
        NotConfigured: as `make_backend` does.
    """
    factory = _find_factory(configuration.settings.backend)
    stated = state_options(_options_type_of(factory), configuration.backend)
    options = msgspec.structs.replace(
        stated,
        query_timeout_s=configuration.settings.query_timeout_ms / 1000,
        accept_loss=accept_loss,
    )
    return factory(options)


def describe_backend(configuration: Configuration) -> list[OptionValue]:
    """Return the options in force; of a backend that does not declare its own, those stated.

    Raises:
        NotConfigured: as `make_backend` does.
    """
    if not configuration.settings.backend:
        read_options(_NoOptions, state_options(_NoOptions, configuration.backend))
        return []
    kind = _options_type_of(_find_factory(configuration.settings.backend))
    options, sources = state_options(kind, configuration.backend), configuration.backend.sources
    if kind is None:
        return [OptionValue(key, value, sources[key]) for key, value in options.table.items()]
    read = read_options(kind, options)
    return [
        OptionValue(info.key, getattr(read, info.key), sources.get(info.key, "default"))
        for info in describe_options(kind)
    ]


def state_options(kind: type[msgspec.Struct] | None, table: BackendTable) -> BackendOptions:
    """Return the table as the backend is given it.

    What was stated as a setting is left out where the backend declares no such option.
    """
    known = None if kind is None else {info.key for info in describe_options(kind)}
    values = {
        key: value
        for key, value in table.values.items()
        if known is None or key in known or key not in table.as_settings
    }
    return BackendOptions(values, table.places)


def _find_factory(name: str) -> BackendFactory:
    factory: BackendFactory = load_installed(BACKENDS_GROUP, "backend", name)
    return factory


def _options_type_of(factory: BackendFactory) -> type[msgspec.Struct] | None:
    kind: type[msgspec.Struct] | None = getattr(factory, "options_type", None)
    return kind
