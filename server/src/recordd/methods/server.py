"""The methods about the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recordd.extending.backend import PersistenceBackend, ReportsStatistics, find_capability
from recordd.extending.points import BackupReporter, RetentionReporter
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler
from recordd.methods.openrpc import describe_api
from recordd.methods.outcome import Answer
from recordd.methods.writable import list_writable
from recordd.system.turns import Steps
from recordd_protocol import PROTOCOL_VERSION
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import ClockConfirmed, Hello, NoParams, Stats, WasReset, Welcome

__all__ = ["HANDLERS"]


def greet(caller: Caller, params: Hello) -> Answer:
    """Return the welcome; versions agree by their major part."""
    if params.version is not None and _major(params.version) != _major(PROTOCOL_VERSION):
        text = f"this server speaks {PROTOCOL_VERSION}, not {params.version[:20]!r}"
        raise RequestError(Reason.VERSION_MISMATCH, text)
    core = caller.core
    welcome = Welcome(
        version=PROTOCOL_VERSION,
        server="recordd",
        server_version=core.server_version,
        permissions=[word for word in ("read", "write") if word in caller.grants.accesses],
        writable_records=list_writable(core.hub),
        max_subscriptions=core.settings.max_subscriptions,
        authenticated=False,
        rev=core.hub.rev,
        epoch=core.hub.epoch,
        max_message_bytes=core.settings.max_message_bytes,
    )
    return Answer(welcome)


def show_stats(caller: Caller, params: NoParams) -> Answer:
    """Return counters, sizes and queue depths."""
    core = caller.core
    retention = core.extensions.get(RetentionReporter)
    backup = core.extensions.get(BackupReporter)
    storage = find_capability(core.extensions.get(PersistenceBackend), ReportsStatistics)
    admission, ended = core.admission.statistics(), core.connections.statistics()
    requests, waiting = core.request_counts.statistics(), core.waiting.statistics()
    hub, snapshots = core.hub.statistics(), core.snapshots.statistics()
    queue, writer = core.queue.statistics(), core.writer_statistics()
    stats = Stats(
        server_version=core.server_version,
        uptime_ms=int(core.uptime_s * 1000),
        connections=admission.connections,
        connections_total=admission.connections_total,
        connections_refused=admission.connections_refused,
        latest_bytes=hub.latest_bytes,
        waiting_bytes=waiting.bytes,
        pending_queries=requests.pending_queries,
        accept_errors=admission.accept_errors,
        idle_closed=ended.idle_closed,
        dead_peers_closed=ended.dead_peers_closed,
        records=hub.records,
        rows=hub.rows,
        rev=hub.rev,
        epoch=hub.epoch,
        requests=requests.requests,
        request_errors=requests.request_errors,
        commits=writer.commits,
        rows_committed=writer.rows_committed,
        write_queue_requests=queue.requests,
        write_queue_bytes=queue.bytes,
        unanswered_write_errors=requests.unanswered_write_errors,
        subscriptions=hub.subscriptions,
        topics=hub.topics,
        updates_skipped=hub.updates_skipped,
        resyncs=hub.resyncs,
        slow_peers_closed=ended.slow_peers_closed,
        backlog_bytes=hub.backlog_bytes,
        page_snapshots=snapshots.snapshots,
        page_snapshot_bytes=snapshots.bytes,
        housekeeping_errors=writer.housekeeping_errors,
        retention=None if retention is None else retention.statistics(),
        backup=None if backup is None else backup.statistics(),
        storage={} if storage is None else storage.statistics(),
    )
    return Answer(stats)


def confirm_clock(caller: Caller, params: NoParams) -> Answer:
    """Have retention go by the system's clock at once, and run."""
    retention = caller.core.extensions.get(RetentionReporter)
    if retention is None:
        raise RequestError(Reason.NOT_CONFIGURED, "this daemon runs without retention")
    return Answer(ClockConfirmed(leap_ms=retention.confirm_clock()))


def reset_counters(caller: Caller, params: NoParams) -> Steps[Answer]:
    """Count the values of every record from zero again."""
    yield from caller.core.hub.catalogue.reset_produced()
    return Answer(WasReset(reset=True))


def discover(caller: Caller, params: NoParams) -> Answer:
    """Return the OpenRPC document."""
    return Answer(describe_api(caller.core.server_version))


def _major(version: str) -> str:
    return version.split(".", 1)[0]


HANDLERS: Final[Mapping[str, Handler]] = {
    "hello": greet,
    "profiling.reset": reset_counters,
    "buffer_metrics.reset": reset_counters,
    "retention.confirm": confirm_clock,
    "server.stats": show_stats,
    "rpc.discover": discover,
}
