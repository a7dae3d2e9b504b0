"""Every method of the protocol: its name, its typed parameters, its typed result.

`METHODS` is the one source of the names. The daemon binds a handler to each entry and
generates its OpenRPC document from it; the client has one method per entry.

Times are Unix milliseconds, ages milliseconds, sizes bytes. `rev` is a commit number.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "METHODS",
    "Access",
    "At",
    "BackupStats",
    "BufferType",
    "ClockConfirmed",
    "Count",
    "Counts",
    "Delete",
    "Deleted",
    "Drain",
    "Drained",
    "Edge",
    "Event",
    "Get",
    "Hello",
    "List",
    "Method",
    "NoParams",
    "Node",
    "Query",
    "Record",
    "RecordInfo",
    "RecordParameter",
    "Records",
    "Replay",
    "RetentionStats",
    "RuleInfo",
    "Set",
    "SetMany",
    "Stats",
    "Subscribe",
    "Subscribed",
    "Trim",
    "Trimmed",
    "Unsubscribe",
    "Unsubscribed",
    "WasReset",
    "Welcome",
    "WriteItem",
    "Written",
    "WrittenMany",
]

BufferType = Literal["single_latest", "spmc_ring", "mailbox", "none"]


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters come by name; an unknown name is an error, not a silent no-op."""


class _Result(msgspec.Struct, frozen=True):
    """Results may gain fields; readers ignore fields that they do not know."""


class NoParams(_Params, frozen=True):
    """No parameters."""


class Hello(_Params, frozen=True):
    """The caller's name, and its protocol version (`"3"` or `"3.7"`; none: any)."""

    client: str
    version: str | None = None
    auth_token: str | None = None


class Welcome(_Result, frozen=True):
    """The server's versions, this connection's permissions, and the database's position.

    `max_message_bytes`: a larger message is refused, and ends the connection.
    """

    version: str
    server: str
    server_version: str
    permissions: list[str]
    writable_records: list[str]
    max_subscriptions: int
    authenticated: bool
    rev: int
    epoch: str
    max_message_bytes: int | UnsetType = UNSET


class List(_Params, frozen=True):
    """Which records: a pattern; `after` (a `record_id`) and `limit` page through many."""

    name: str = "#"
    after: int = -1
    limit: int | None = None


class RecordInfo(_Result, frozen=True, omit_defaults=True):
    """Metadata of one record; AimDB's tools read the same row."""

    record_id: int
    record_key: str
    name: str
    type_id: str
    origin: str
    buffer_type: BufferType
    producer_count: int
    consumer_count: int
    writable: bool
    outbound_connector_count: int
    produced_count: int
    consumed_count: int
    dropped_count: int
    occupancy: tuple[int, int]
    entity: str
    ts: int | None
    rev: int | None
    buffer_capacity: int | UnsetType = UNSET
    schema_type: str | UnsetType = UNSET


class Get(_Params, frozen=True):
    """Which record: an exact name."""

    name: str


class Record(_Result, frozen=True):
    """One row: `value` is raw JSON text, `rev` None for a transient record."""

    name: str
    value: msgspec.Raw
    ts: int
    rev: int | None


class Set(_Params, frozen=True):
    """Write one value; `ts` defaults to now.

    `if_rev` makes it conditional: only if the latest row has this rev, 0 for no record. A
    transient record has no rev: 0 is the one condition for it.
    """

    name: str
    value: msgspec.Raw
    ts: int | None = None
    if_rev: int | None = None


class Written(_Result, frozen=True, omit_defaults=True):
    """The row's commit number and time; `late` where it did not become the latest."""

    rev: int | None
    ts: int
    late: bool = False


class WriteItem(_Params, frozen=True, omit_defaults=True):
    """One row of a `record.set_many`; `if_rev` as in `record.set`, as of before the request."""

    name: str
    value: msgspec.Raw
    ts: int | None = None
    if_rev: int | None = None


class SetMany(_Params, frozen=True):
    """Write many rows, all or nothing; with `rows` the answer tells of each."""

    records: list[WriteItem]
    rows: bool = False


class WrittenMany(_Result, frozen=True):
    """The consecutive commit numbers of the rows; None where every record is transient.

    `rows` are there where they were asked for, in the order of the request.
    """

    first_rev: int | None
    last_rev: int | None
    rows: list[Written] | UnsetType = UNSET


class Query(_Params, frozen=True):
    """Which rows: latest `limit` per record that matches, within `start`..`end`, both inclusive.

    Without a time range `limit` defaults to 1; with one it must be stated. None means all.
    `after` is the `next` of the previous page. With `paged` false there is one answer, with
    the newest rows that it has room for.
    """

    name: str | list[str] = "#"
    limit: int | UnsetType | None = UNSET
    start: int | None = None
    end: int | None = None
    after: str | None = None
    paged: bool = True


class Records(_Result, frozen=True):
    """Rows and where the next page starts; `rev` is the newest commit that they reflect.

    Without pages `total` is the number of rows there are, and `truncated` says that not all are
    here. `gap` says that rows of a log above `after` are gone, from before `oldest_rev`.
    """

    records: list[Record]
    rev: int
    epoch: str
    next: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    truncated: bool = False
    gap: bool = False
    oldest_rev: int | UnsetType = UNSET


class Replay(_Params, frozen=True):
    """The log after `after` (exclusive) in commit order; `after` is a rev or a page's `next`."""

    after: int | str
    epoch: str | None = None
    name: str = "#"
    limit: int | None = None


class At(_Params, frozen=True):
    """Which row: its commit number."""

    rev: int


class Count(_Params, frozen=True):
    """Which records: a pattern."""

    name: str = "#"


class Counts(_Result, frozen=True):
    """How many records match, and how many persisted rows they have."""

    records: int
    rows: int


class Drain(_Params, frozen=True):
    """Which record; `limit` takes the oldest so many and leaves the rest."""

    name: str
    limit: int | None = None


class Drained(_Result, frozen=True):
    """The values, oldest first, since this connection's previous drain of the record."""

    record_name: str
    values: list[msgspec.Raw]
    count: int


class Subscribe(_Params, frozen=True):
    """Which records: a pattern; the start of the stream, and the treatment of a slow reader.

    `after` (a rev, of `epoch`) resumes: commits after it come first. Without it the current
    values come first, unless `snapshot` is false. `delivery` is the treatment of updates
    that the reader is too slow for: `latest` leaves out all but the
    newest of each record and says how many, `every` leaves out none.
    """

    name: str
    snapshot: bool = True
    after: int | None = None
    epoch: str | None = None
    delivery: Literal["latest", "every"] = "latest"


class Subscribed(_Result, frozen=True, omit_defaults=True):
    """The subscription's id, and where it starts.

    `rev` is the newest commit at that moment; `values` is how many current values open the
    stream. With `resync` rows after `after`
    are gone, from before `oldest_rev`, and current values come instead.
    """

    subscription: str
    rev: int
    epoch: str
    values: int
    resync: bool = False
    oldest_rev: int | UnsetType = UNSET


class Event(_Result, frozen=True):
    """The parameters of a `record.event` notification: one commit of a record that is followed.

    `snapshot`: it is a current value of the opening burst, `last`: the final one. `late`:
    it is older than the record's latest. `deleted`: the record is gone. `skipped` updates
    were left out just before. With `resync` it is about no record: updates are lost, and so
    many current `values`, as of `rev`, follow.
    """

    subscription: str
    name: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    ts: int = 0
    rev: int | None = None
    snapshot: bool = False
    last: bool = False
    late: bool = False
    deleted: bool = False
    skipped: int = 0
    resync: bool = False
    values: int = 0
    epoch: str = ""
    oldest_rev: int = 0


class Unsubscribe(_Params, frozen=True):
    """Which subscription, by its id."""

    subscription: str


class Unsubscribed(_Result, frozen=True):
    """Nothing: no event of it comes after this answer."""


class Delete(_Params, frozen=True):
    """Which record: an exact name."""

    name: str


class Deleted(_Result, frozen=True):
    """The number of persisted rows deleted with the record."""

    deleted: int


class Trim(_Params, frozen=True):
    """Which rows: of the record `name`, those whose `ts` is greater than `newer_than`."""

    name: str
    newer_than: int


class Trimmed(_Result, frozen=True):
    """The number of persisted rows deleted; with `more` there are others yet: ask again."""

    deleted: int
    more: bool


class Node(_Result, frozen=True):
    """One record as a node of AimDB's data-flow graph."""

    key: str
    origin: str
    buffer_type: BufferType
    buffer_capacity: int | None
    tap_count: int
    has_outbound_link: bool


class Edge(_Result, frozen=True):
    """One edge of AimDB's data-flow graph; recordd has none: records are independent."""

    source: str
    target: str


class RuleInfo(_Result, frozen=True):
    """One record rule in force, in order of precedence. None: no bound."""

    name: str
    persist: bool
    writable: bool
    retention_ms: int | None
    max_rows: int | None


class RetentionStats(_Result, frozen=True):
    """Retention's rules and the outcome of its last run. Times are None before the first run.

    `clock_leap_ms`: how far the clock is ahead in a leap that retention does not believe.
    """

    rules: list[RuleInfo]
    keep_latest: bool
    runs: int
    last_started_at_ms: int | None
    last_finished_at_ms: int | None
    last_deleted: int
    last_error: str | None
    clock_leap_ms: int = 0


class ClockConfirmed(_Result, frozen=True):
    """How far the clock had leapt, in ms; 0 where there was nothing to confirm."""

    leap_ms: int


class BackupStats(_Result, frozen=True):
    """Scheduled backups: their folder, and the outcome of the last run. None: not yet."""

    folder: str
    interval_ms: int
    keep: int
    runs: int
    last_started_at_ms: int | None
    last_finished_at_ms: int | None
    last_success_at_ms: int | None
    last_path: str | None
    last_error: str | None


class WasReset(_Result, frozen=True):
    """The counters start anew."""

    reset: bool


class Stats(_Result, frozen=True):
    """Counters, sizes and queue depths, since the daemon started unless said otherwise."""

    server_version: str
    uptime_ms: int
    connections: int
    connections_total: int
    connections_refused: int
    latest_bytes: int
    waiting_bytes: int
    pending_queries: int
    accept_errors: int
    idle_closed: int
    dead_peers_closed: int
    records: int
    rows: int
    rev: int
    epoch: str
    requests: int
    request_errors: int
    commits: int
    rows_committed: int
    write_queue_requests: int
    write_queue_bytes: int
    unanswered_write_errors: int
    subscriptions: int
    topics: int
    updates_skipped: int
    resyncs: int
    slow_peers_closed: int
    backlog_bytes: int
    page_snapshots: int
    page_snapshot_bytes: int
    housekeeping_errors: int
    retention: RetentionStats | None
    backup: BackupStats | None
    storage: dict[str, int | str]


Access = Literal["read", "write", "admin"]
"""The effect of a method: none, a change of records, or of the daemon's own state."""


class RecordParameter(msgspec.Struct, frozen=True):
    """The parameter that names the records of a call. Its form: one name, one pattern, one or
    several patterns, or rows with a `name` each.
    """

    name: str
    form: Literal["name", "pattern", "patterns", "rows"]


class Method(msgspec.Struct, frozen=True):
    """One method. `result` is the type that a client decodes; `access` and `records` state its
    effect and the records that it touches. A method with `is_query` may take long and counts as
    pending meanwhile. A method without `records` touches none, all, or those that its answer names.
    """

    name: str
    params: type[msgspec.Struct]
    result: Any
    access: Access
    summary: str
    records: RecordParameter | None = None
    is_query: bool = False

    @property
    def is_write(self) -> bool:
        """Whether it changes records: its effect is there only once it is committed."""
        return self.access == "write"


_NAME: Final = RecordParameter("name", "name")
_PATTERN: Final = RecordParameter("name", "pattern")
_PATTERNS: Final = RecordParameter("name", "patterns")
_ROWS: Final = RecordParameter("records", "rows")

_RESETS: Final = "Count from zero what records report"
_CONFIRMS: Final = "Have retention believe the clock"

METHODS: Final[dict[str, Method]] = {
    method.name: method
    for method in (
        Method("hello", Hello, Welcome, "read", "Introduce the client; learn what the server is"),
        Method(
            "record.list", List, list[RecordInfo], "read", "List the records that match", _PATTERN
        ),
        Method("record.get", Get, Record, "read", "Read the latest value of one record", _NAME),
        Method("record.set", Set, Written, "write", "Write one value", _NAME),
        Method(
            "record.set_many", SetMany, WrittenMany, "write", "Write many, all or nothing", _ROWS
        ),
        Method(
            "record.query",
            Query,
            Records,
            "read",
            "Read latest values or history of many",
            _PATTERNS,
            is_query=True,
        ),
        Method(
            "record.replay",
            Replay,
            Records,
            "read",
            "Read the log in commit order",
            _PATTERN,
            is_query=True,
        ),
        Method("record.at", At, Record, "read", "Read the row of one commit number", is_query=True),
        Method("record.count", Count, Counts, "read", "Count records and rows", _PATTERN),
        Method(
            "record.drain", Drain, Drained, "read", "Read what came since the previous drain", _NAME
        ),
        Method(
            "record.subscribe",
            Subscribe,
            Subscribed,
            "read",
            "Follow the records that match",
            _PATTERN,
        ),
        Method("record.unsubscribe", Unsubscribe, Unsubscribed, "read", "Follow them no longer"),
        Method("record.delete", Delete, Deleted, "write", "Delete a record and its history", _NAME),
        Method("record.trim", Trim, Trimmed, "write", "Delete rows ahead of a time", _NAME),
        Method("graph.nodes", NoParams, list[Node], "read", "List the records as graph nodes"),
        Method("graph.edges", NoParams, list[Edge], "read", "List the graph's edges: none"),
        Method(
            "graph.topo_order", NoParams, list[str], "read", "List the record names in graph order"
        ),
        Method("profiling.reset", NoParams, WasReset, "admin", _RESETS),
        Method("buffer_metrics.reset", NoParams, WasReset, "admin", _RESETS),
        Method("retention.confirm", NoParams, ClockConfirmed, "admin", _CONFIRMS),
        Method("server.stats", NoParams, Stats, "read", "Read counters, sizes and queue depths"),
        Method("rpc.discover", NoParams, dict[str, Any], "read", "Read the OpenRPC document"),
    )
}
