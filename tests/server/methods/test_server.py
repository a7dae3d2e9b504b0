"""What the server tells of itself."""

from __future__ import annotations

import json

from tests.core_in_memory import CoreInMemory, running_core
from tests.wire import request

BUSY = [
    ("connections", 0),
    ("connections_total", 0),
    ("connections_refused", 0),
    ("latest_bytes", 1126),
    ("waiting_bytes", 0),
    ("pending_queries", 0),
    ("accept_errors", 0),
    ("idle_closed", 0),
    ("dead_peers_closed", 0),
    ("records", 2),
    ("rows", 3),
    ("rev", 3),
]
BUSY_WITHIN = [
    ("requests", 9),
    ("request_errors", 2),
    ("commits", 3),
    ("rows_committed", 3),
    ("write_queue_requests", 0),
    ("write_queue_bytes", 0),
    ("unanswered_write_errors", 1),
    ("subscriptions", 2),
    ("topics", 1),
    ("updates_skipped", 0),
    ("resyncs", 0),
    ("slow_peers_closed", 0),
    ("backlog_bytes", 1539),
    ("page_snapshots", 0),
    ("page_snapshot_bytes", 0),
    ("housekeeping_errors", 0),
]
RETENTION = [
    "rules",
    "keep_latest",
    "runs",
    "last_started_at_ms",
    "last_finished_at_ms",
    "last_deleted",
    "last_error",
    "clock_leap_ms",
]


async def test_stats_tell_these_fields_in_this_order(core: CoreInMemory) -> None:
    peer = core.connect()
    for name, ts in (("a", 1), ("b", 2), ("a", 3)):
        await peer.call("record.set", name=name, value=0, ts=ts)
    await peer.call("record.set", name="", value=0)
    await peer.send(b'{"jsonrpc":"2.0","method":"record.set","params":{"name":"","value":0}}')
    for _ in range(2):
        await peer.call("record.subscribe", name="#", snapshot=False)
    await peer.call("hello", client="test")
    await peer.send(request("server.stats", 1))
    answer = json.loads(await peer.receive_raw(), object_pairs_hook=list)
    stats = dict(answer)["result"]
    told = iter(stats)
    assert [next(told)[0] for _ in range(2)] == ["server_version", "uptime_ms"]
    assert [next(told) for _ in BUSY] == BUSY
    assert next(told) == ("epoch", core.core.hub.epoch)
    assert [next(told) for _ in BUSY_WITHIN] == BUSY_WITHIN
    rest = dict(told)
    assert list(rest) == ["retention", "backup", "storage"]
    assert [key for key, _ in rest["retention"]] == RETENTION
    assert (rest["backup"], dict(rest["storage"])) == (None, {"backend": "memory", "rows": 3})


async def test_stats_of_a_daemon_that_keeps_nothing_have_the_same_fields() -> None:
    async with running_core(extensions=[]) as core:
        stats = await core.connect().call("server.stats")
        assert len(stats) == len(BUSY) + len(BUSY_WITHIN) + 6
        assert (stats["retention"], stats["backup"], stats["storage"]) == (None, None, {})
        assert (stats["commits"], stats["rows"], stats["requests"]) == (0, 0, 1)
