"""The daemon: its parts, the order in which they start and stop.

Start: storage is loaded, the writer and the extensions' tasks run, then the sockets
accept, then the service manager hears `READY=1`. Stop, on SIGTERM or SIGINT: nobody new
is accepted, writes already accepted are committed and answered, later ones refused as
`unavailable`, connections close, storage closes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import trio

from recordd.config.reloading import Reload, serve_signals
from recordd.config.settings import Configuration, ConfigurationError, refusal_to_use, split_address
from recordd.core import Core, CoreBuilder, Extension, build_core
from recordd.extending.backend import PersistenceBackend
from recordd.extending.extensions import ExtensionError
from recordd.extending.installed import load_installed
from recordd.http.port import refuse_port, serve_port
from recordd.http.routes import ROUTES
from recordd.methods.table import with_methods
from recordd.persistence import BackupPolicy, RetentionPolicy, with_persistence
from recordd.persistence.backends import configured_backend
from recordd.running import running
from recordd.system import systemd
from recordd.system.memory import give_back
from recordd.transports.barrier import serve_connections
from recordd.transports.unix import open_unix_listener, refuse_unix, serve_unix
from recordd_protocol.errors import RecorddError

__all__ = ["AddressInUse", "configured_extensions", "run_daemon"]

logger: Final = logging.getLogger(__name__)

_GC_THRESHOLDS: Final = (10_000, 4, 12_500)
"""Rows and requests form no cycles; looking for some every 700 objects cost a tenth of the write
rate, and looking at 50,000 at once holds the loop for some 20 ms, at all of 100,000 records that
came since the start for 60 ms: so that comes after 500 million more objects than were freed."""

_EXTENSIONS_GROUP: Final = "recordd.extensions"
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_Serve = Callable[[trio.SocketStream, Core], Awaitable[None]]
_Refuse = Callable[[trio.SocketStream, Core, str], Awaitable[None]]


class AddressInUse(RecorddError):
    """Somebody else listens on the address of the WebSocket."""


def configured_extensions(
    configuration: Configuration, *, accept_loss: bool = False
) -> list[Extension]:
    """Return the extensions that the configuration asks for.

    `accept_loss` holds for one start alone, so it is no setting.

    Persistence comes first, then those that are named, in their order.

    Raises:
        NotConfigured: the backend or an extension is not installed, or the backend refuses its
            options.
        ConfigurationError: an extension refuses its table, or fails.
    """
    named = [_make_extension(name, table) for name, table in configuration.extensions.items()]
    if not configuration.settings.backend:
        return named
    return [_configured_persistence(configuration, accept_loss=accept_loss), *named]


def _make_extension(name: str, table: Mapping[str, Any]) -> Extension:
    """Have an entry point make an extension of its table; what it raises is about the table."""
    factory: Callable[[Mapping[str, Any]], Extension]
    factory = load_installed(_EXTENSIONS_GROUP, "extension", name)
    try:
        extension = factory(table)
    except (ExtensionError, ValueError) as error:
        raise ConfigurationError(f"[extension.{name}] {error}") from error
    except Exception as error:
        raise _fault_of(name, error) from error
    return functools.partial(_install, name, extension)


def _install(name: str, extension: Extension, builder: CoreBuilder) -> None:
    """Have an extension put its parts into the builder; what it says of itself goes on."""
    try:
        extension(builder)
    except RecorddError:
        raise
    except Exception as error:
        raise _fault_of(name, error) from error


def _fault_of(name: str, error: Exception) -> ConfigurationError:
    """Return one line for a fault in another's code, which no second start would mend."""
    logger.debug("extension %r", name, exc_info=error)
    text = f"extension {name!r} fails: {type(error).__name__}: {error}"
    return ConfigurationError(f"{text} (log_level debug shows where)")


def _configured_persistence(configuration: Configuration, *, accept_loss: bool) -> Extension:
    settings = configuration.settings
    retention = RetentionPolicy(
        settings.retention_interval_ms, settings.keep_latest, settings.max_clock_leap_ms
    )
    backups = None
    if settings.backup_folder:
        backups = BackupPolicy(
            settings.backup_folder, settings.backup_interval_ms, settings.backup_keep
        )
    backend = configured_backend(configuration, accept_loss=accept_loss)
    return with_persistence(backend, retention, backups)


async def run_daemon(
    configuration: Configuration,
    extensions: Iterable[Extension],
    *,
    reload: Reload | None = None,
    task_status: trio.TaskStatus[Core] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM or SIGINT, or until cancelled; then stop in order.

    `reload` reads the configuration again, for SIGHUP. Cancelled, it stops at once: what is
    committed stays, what is not is not answered.

    Raises:
        BackendError: storage cannot be opened, or cannot be trusted any more.
        SocketInUse, AddressInUse: an address is taken.
        ConfigurationError: an address cannot be listened on.
    """
    gc.set_threshold(*_GC_THRESHOLDS)
    core = build_core(configuration, [with_methods, *extensions])
    requested = trio.Event()
    async with trio.open_nursery() as nursery:
        # Before storage loads: a signal meanwhile counts too.
        await nursery.start(_await_signal, requested)
        await nursery.start(serve_signals, configuration, reload)
        async with running(core, on_fault=requested.set):
            _note_loaded(core)
            await _serve(core, requested, task_status)
        nursery.cancel_scope.cancel()


def _note_loaded(core: Core) -> None:
    if core.extensions.get(PersistenceBackend) is None:
        return
    # What was loaded stays: no collection is to look at it again.
    gc.freeze()
    give_back()
    hub = core.hub
    logger.info("%d records at rev %d", len(hub.catalogue), hub.rev)
    if hub.catalogue.latest_bytes > hub.catalogue.max_latest_bytes:
        text = "max_latest_bytes: latest values take %d of %d bytes: no new ones are taken"
        logger.warning(text, hub.catalogue.latest_bytes, hub.catalogue.max_latest_bytes)


async def _serve(core: Core, requested: trio.Event, task_status: trio.TaskStatus[Core]) -> None:
    """Run the sockets until a stop is requested, and the connections to their end."""
    async with (
        contextlib.AsyncExitStack() as stack,
        trio.open_nursery() as connections,
        trio.open_nursery() as accepting,
    ):
        await _listen(core, stack, connections, accepting)
        task_status.started(core)
        systemd.notify("READY=1")
        await requested.wait()
        logger.info("stopping")
        systemd.notify("STOPPING=1")
        accepting.cancel_scope.cancel()
        core.queue.close()
        core.connections.stop_reading()
        timeout_s = core.settings.shutdown_timeout_ms / 1000
        connections.cancel_scope.deadline = trio.current_time() + timeout_s


async def _await_signal(
    requested: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    # What the receiver finds it restores: a second signal, when all is closed and the
    # interpreter takes its leave, must not make a kill of an orderly stop.
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            requested.set()


async def _listen(
    core: Core,
    stack: contextlib.AsyncExitStack,
    connections: trio.Nursery,
    accepting: trio.Nursery,
) -> None:
    settings = core.settings

    def accept(listener: trio.SocketListener, serve: _Serve, refuse: _Refuse) -> None:
        accepting.start_soon(
            functools.partial(
                serve_connections,
                listener,
                core.admission,
                serve=lambda stream: serve(stream, core),
                refuse=lambda stream, reason: refuse(stream, core, reason),
                nursery=connections,
            )
        )

    if settings.socket:
        unix = await stack.enter_async_context(open_unix_listener(settings.socket))
        accept(unix, serve_unix, refuse_unix)
        logger.info("listening on %s", settings.socket)
    if settings.listen:
        for tcp in await _open_tcp_listeners(settings.listen):
            accept(tcp, functools.partial(serve_port, routes=ROUTES), refuse_port)
            host, port = tcp.socket.getsockname()[:2]
            logger.info("listening on ws://%s:%d/ws", f"[{host}]" if ":" in host else host, port)


async def _open_tcp_listeners(address: str) -> list[trio.SocketListener]:
    host, port = split_address(address)
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        text = f"listen: {address}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(text) from None
        raise refusal_to_use(text, error) from None
