"""Every setting of the daemon: name, type, default, unit and reason, in one place.

Precedence: command line, environment (`RECORDD_` and the name in capitals), TOML file,
default. A setting whose attribute ends in `_ms` is an age: it is written without that
ending and with a unit (`retention = "7d"`).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from recordd.config.backend_table import BackendTable, is_backend_variable, part_backend_table
from recordd.config.rules import RuleTable, parse_age, read_rules
from recordd.system.passing import PassingError, is_passing
from recordd_protocol.addresses import (
    DEFAULT_LISTEN,
    default_socket_path,
)
from recordd_protocol.dialect import ENVELOPE_BYTES
from recordd_protocol.errors import RecorddError

__all__ = [
    "Configuration",
    "ConfigurationError",
    "SettingInfo",
    "Settings",
    "describe_settings",
    "load",
    "refusal_to_use",
    "split_address",
]


class ConfigurationError(RecorddError):
    """The configuration cannot be used; the text is one line for the operator."""


def refusal_to_use(text: str, error: OSError) -> RecorddError:
    """Return what an error of the system means for what the configuration asks for."""
    return PassingError(text) if is_passing(error) else ConfigurationError(text)


_DEFAULT_BACKEND: Final = "sqlite"
_DEFAULTS_BY_ENVIRONMENT: Final = {"socket": default_socket_path}


def _setting(unit: str, reason: str, *, ge: int | None = None, le: int | None = None) -> Meta:
    return Meta(ge=ge, le=le, description=reason, extra={"unit": unit})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force. Sizes in bytes, ages in milliseconds, `None` for "off"."""

    socket: Annotated[str, _setting("path", "Unix socket; empty: none")] = msgspec.field(
        default_factory=lambda: default_socket_path(os.environ)
    )
    listen: Annotated[
        str, _setting("host:port", "WebSocket and HTTP; loopback only unless told; empty: none")
    ] = DEFAULT_LISTEN
    backend: Annotated[
        str, _setting("name", "entry point of group recordd.backends; empty: none")
    ] = _DEFAULT_BACKEND
    extensions: Annotated[
        list[str], _setting("names", "entry points of group recordd.extensions, in their order")
    ] = []
    retention_ms: Annotated[
        int | None, _setting("age", "rows older than this are deleted; off: none")
    ] = 30 * 86_400_000
    retention_interval_ms: Annotated[
        int, _setting("age", "between two runs of retention; the first is at start", ge=1000)
    ] = 86_400_000
    keep_latest: Annotated[
        bool, _setting("switch", "retention never deletes the newest row of a record")
    ] = True
    max_clock_leap_ms: Annotated[
        int,
        _setting("age", "retention follows no larger leap of the clock at once", ge=1000),
    ] = 86_400_000
    backup_folder: Annotated[
        str, _setting("path", "folder for scheduled backups of this database alone; empty: none")
    ] = ""
    backup_interval_ms: Annotated[
        int, _setting("age", "between two scheduled backups; each reads and copies all", ge=1000)
    ] = 86_400_000
    backup_keep: Annotated[
        int, _setting("files", "scheduled backups that stay; the oldest go after a success", ge=1)
    ] = 7
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _setting("level", "least severity logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], _setting("format", "text for people, json a line for collectors")
    ] = "text"
    allowed_origins: Annotated[
        list[str],
        _setting("origins", "web pages of these origins may connect, beside the daemon's own"),
    ] = []
    allowed_hosts: Annotated[
        list[str],
        _setting("host names", "names clients may address; guards against DNS rebinding; *: any"),
    ] = msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1", "::1"])
    max_message_bytes: Annotated[
        int, _setting("bytes", "one incoming message; bounds each connection's buffer", ge=1024)
    ] = 1 << 20
    max_reply_bytes: Annotated[
        int, _setting("bytes", "one answer; AimDB's browser client drops larger ones", ge=65536)
    ] = 1 << 20
    max_aimx_reply_bytes: Annotated[
        int, _setting("bytes", "one AimX answer on the Unix socket: it has no pages", ge=65536)
    ] = 64 << 20
    max_value_bytes: Annotated[
        int, _setting("bytes", "one value; leaves room for its envelope in an answer", ge=1)
    ] = (1 << 20) - 65536
    max_value_depth: Annotated[
        int, _setting("levels", "nesting of a value; common JSON readers stop at 128", ge=1)
    ] = 100
    max_batch_calls: Annotated[
        int, _setting("calls", "one JSON-RPC batch; bounds its answer", ge=1)
    ] = 1000
    max_rows_per_write: Annotated[
        int, _setting("rows", "one record.set_many; bounds how long it keeps others waiting", ge=1)
    ] = 10_000
    max_connections: Annotated[
        int, _setting("connections", "all transports; below the usual 1,024 open files", ge=1)
    ] = 900
    max_connections_per_address: Annotated[
        int,
        _setting("connections", "of one peer, IPv6 by /64; behind a proxy all come from one", ge=1),
    ] = 450
    reserved_unix_connections: Annotated[
        int,
        _setting(
            "connections", "kept for the Unix socket, up to half: nobody remote locks it out", ge=0
        ),
    ] = 16
    max_records: Annotated[
        int, _setting("records", "each holds its latest value in memory", ge=1)
    ] = 100_000
    max_latest_bytes: Annotated[
        int,
        _setting("bytes", "memory of latest and buffered values together, twice their text", ge=1),
    ] = 512 << 20
    max_subscriptions: Annotated[int, _setting("subscriptions", "of one connection", ge=0)] = 1024
    subscriber_updates: Annotated[
        int, _setting("updates", "unsent to one connection; past it they are conflated", ge=1)
    ] = 1024
    subscriber_bytes: Annotated[
        int, _setting("bytes", "unsent before further updates of a connection are kept back", ge=1)
    ] = 1 << 20
    backlog_bytes: Annotated[
        int, _setting("bytes", "newest commits in memory, for subscribers a little behind", ge=0)
    ] = 8 << 20
    max_pending_queries: Annotated[
        int, _setting("requests", "history queries in flight on one connection", ge=1)
    ] = 64
    max_pending_queries_total: Annotated[
        int, _setting("requests", "history queries in flight on all connections", ge=1)
    ] = 1024
    max_ring_capacity: Annotated[
        int, _setting("values", "largest spmc_ring; each value stays in memory", ge=1)
    ] = 65_536
    min_ts: Annotated[
        int,
        _setting("Unix ms", "earliest ts of a write, here 2000-01-01; catches wrong units", ge=0),
    ] = 946_684_800_000
    max_future_ms: Annotated[
        int, _setting("age", "how far ahead of our clock a ts may be; catches wrong units", ge=0)
    ] = 86_400_000
    write_queue_requests: Annotated[
        int, _setting("requests", "waiting writes, all connections; past it connections wait", ge=1)
    ] = 1024
    write_queue_bytes: Annotated[
        int, _setting("bytes", "waiting writes, all connections; bounds the queue's memory", ge=1)
    ] = 64 << 20
    outbox_bytes: Annotated[
        int, _setting("bytes", "unsent answers of one connection; past it we stop reading it", ge=1)
    ] = 1 << 20
    max_waiting_bytes: Annotated[
        int, _setting("bytes", "unsent on all connections; past it who is behind gets less", ge=1)
    ] = 128 << 20
    send_timeout_ms: Annotated[
        int, _setting("age", "a peer that takes nothing for this long is closed", ge=1)
    ] = 30_000
    idle_timeout_ms: Annotated[
        int | None,
        _setting("age", "a WebSocket that neither asks nor follows for this long is closed"),
    ] = 300_000
    unix_idle_timeout_ms: Annotated[
        int | None, _setting("age", "the same on the Unix socket, whose users are known")
    ] = None
    ping_interval_ms: Annotated[
        int | None,
        _setting(
            "age",
            "between our pings on a WebSocket; unanswered till the next, it is closed",
        ),
    ] = 30_000
    max_message_fragments: Annotated[
        int, _setting("frames", "of one WebSocket message; empty ones cost time and no bytes", ge=1)
    ] = 1024
    handshake_timeout_ms: Annotated[
        int, _setting("age", "HTTP head and WebSocket handshake; frees what idles there", ge=1)
    ] = 5000
    query_timeout_ms: Annotated[
        int, _setting("age", "one history query; a reader must not hold back checkpoints", ge=1)
    ] = 10_000
    page_rows: Annotated[
        int, _setting("rows", "one page of a query; bounds its time beside max_reply_bytes", ge=1)
    ] = 10_000
    page_snapshots: Annotated[
        int, _setting("answers", "latest values kept for further pages, of one connection", ge=1)
    ] = 4
    page_snapshot_bytes: Annotated[
        int, _setting("bytes", "values kept for further pages though replaced since", ge=0)
    ] = 64 << 20
    page_snapshot_timeout_ms: Annotated[
        int, _setting("age", "how long a page's next one may be asked for", ge=1000)
    ] = 60_000
    shutdown_timeout_ms: Annotated[
        int, _setting("age", "for writes in flight to commit and answers to leave at the end", ge=1)
    ] = 10_000


class Configuration(msgspec.Struct, frozen=True):
    """The settings, the record rules, where each setting came from, and the backend's options."""

    settings: Settings
    rules: RuleTable
    sources: dict[str, str]
    ignored: list[str] = []
    """Variables of the environment that look like settings and are none."""
    backend: BackendTable = BackendTable()
    extensions: dict[str, dict[str, Any]] = {}
    """The table of each extension that is named, in order; empty where there is none."""


class SettingInfo(msgspec.Struct, frozen=True):
    """One setting as documentation and `recordd config` show it."""

    key: str
    attribute: str
    annotation: Any
    type: Any
    unit: str
    reason: str
    default: Any


def describe_settings() -> list[SettingInfo]:
    """Return every setting, in the order of its definition."""
    hints = get_type_hints(Settings, include_extras=True)
    defaults = Settings()
    infos = []
    for field in msgspec.structs.fields(Settings):
        hint, meta = get_args(hints[field.name])[:2]
        infos.append(
            SettingInfo(
                key=_key_of(field.name),
                attribute=field.name,
                annotation=hints[field.name],
                type=hint,
                unit=meta.extra["unit"],
                reason=meta.description,
                default=getattr(defaults, field.name),
            )
        )
    return infos


def load(
    flags: Mapping[str, str], environment: Mapping[str, str], config_file: Path | None
) -> Configuration:
    """Merge command line, environment and file into one configuration.

    Args:
        flags: values given on the command line, by key.
        environment: the process environment.
        config_file: a TOML file, or None.

    Raises:
        ConfigurationError: with the source, the key and what is wrong with it.
    """
    table = _read_file(config_file) if config_file else {}
    rows, tables = table.pop("record", []), table.pop("extension", {})
    try:
        table, backend = part_backend_table(
            flags, environment, table, file=str(config_file), default=_DEFAULT_BACKEND
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    values, sources = _merge(flags, environment, table, str(config_file))
    settings = _build(values)
    try:
        extensions = _read_extension_tables(tables, settings.extensions)
        rules = read_rules(
            rows,
            default_retention_ms=settings.retention_ms,
            max_capacity=settings.max_ring_capacity,
        )
    except ValueError as error:
        where = f"{config_file}: " if config_file else ""
        raise ConfigurationError(f"{where}{error}") from None
    sources["extension"] = str(config_file)
    return Configuration(settings, rules, sources, _list_ignored(environment), backend, extensions)


def _merge(
    flags: Mapping[str, str], environment: Mapping[str, str], table: Mapping[str, Any], file: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values that are stated, by attribute, and where each setting came from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    infos = {info.key: info for info in describe_settings()}
    if unknown := sorted(set(table) - set(infos)):
        raise ConfigurationError(f"{file}: unknown setting {unknown[0]!r}")
    for key, info in infos.items():
        variable = f"RECORDD_{key.upper()}"
        if key in flags:
            source, raw = f"--{key.replace('_', '-')}", flags[key]
        elif variable in environment:
            source, raw = variable, environment[variable]
        elif key in table:
            source, raw = file, table[key]
        else:
            sources[key] = "default"
            if (default := _DEFAULTS_BY_ENVIRONMENT.get(key)) is not None:
                values[info.attribute] = default(environment)
            continue
        sources[key] = source
        values[info.attribute] = _parse(info, raw, source)
    return values, sources


def _list_ignored(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings and are none."""
    known = {f"RECORDD_{info.key.upper()}" for info in describe_settings()}
    known |= {"RECORDD_CONFIG", "RECORDD_CONNECT"}
    return sorted(
        name
        for name in environment
        if name.startswith("RECORDD_") and name not in known and not is_backend_variable(name)
    )


def _key_of(attribute: str) -> str:
    return attribute.removesuffix("_ms")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _read_extension_tables(tables: Any, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the table of each name.

    Raises:
        ValueError: one is no table, or for an extension that is not named; or one is named twice.
    """
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise ValueError("extension: must be tables, [extension.NAME]")
    if unnamed := sorted(set(tables) - set(names)):
        raise ValueError(f"[extension.{unnamed[0]}]: not one of extensions ({', '.join(names)})")
    if len(set(names)) < len(names):
        raise ValueError(f"extensions: one is named twice ({', '.join(names)})")
    return {name: tables.get(name, {}) for name in names}


def _parse(info: SettingInfo, raw: Any, source: str) -> Any:
    """Turn one value, text or TOML, into the setting's type, within its bounds."""
    where = source if source.startswith(("--", "RECORDD_")) else f"{source}: {info.key}"
    try:
        strict = True
        if info.unit == "age":
            raw = parse_age(raw)
            if raw is None and type(None) not in get_args(info.type):
                raise ValueError("cannot be off")
        elif isinstance(raw, str):
            strict = False
            if get_origin(info.type) is list:
                raw = [item.strip() for item in raw.split(",") if item.strip()]
        return msgspec.convert(raw, info.annotation, strict=strict)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _build(values: dict[str, Any]) -> Settings:
    """Check how the values go together."""
    settings = Settings(**values)
    if settings.max_value_bytes > settings.max_reply_bytes - ENVELOPE_BYTES:
        raise ConfigurationError(f"max_value_bytes: must be {ENVELOPE_BYTES} below max_reply_bytes")
    for key in ("idle_timeout", "unix_idle_timeout", "ping_interval"):
        if getattr(settings, f"{key}_ms") == 0:
            raise ConfigurationError(f"{key}: 0 would close everything; 'off' closes nothing")
    if settings.retention_ms == 0:
        raise ConfigurationError("retention: 0 would delete everything; 'off' keeps it")
    if not settings.socket and not settings.listen:
        raise ConfigurationError("socket, listen: both are empty, nobody could connect")
    if len(settings.socket.encode()) > 107:
        raise ConfigurationError("socket: longer than the 107 bytes that the system allows")
    if "\0" in settings.socket:
        raise ConfigurationError("socket: a path holds no NUL")
    if settings.backup_folder and not settings.backend:
        raise ConfigurationError("backup_folder: needs a backend, and there is none")
    if settings.listen:
        split_address(settings.listen)
    return settings


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` (an IPv6 host in brackets).

    Raises:
        ConfigurationError: where it is no such thing.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"listen: {address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
