"""The wire against a real daemon: what needs a restart, a socket or a setting of its own."""

from __future__ import annotations

from recordd.settings import Settings
from tests.conftest import StartDaemon
from tests.wire import Wire


def test_rows_from_before_the_window_stay_readable(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.set", name="a", value="old", ts=7)["rev"] == 1
    daemon.stop()
    daemon = start_daemon(RECORDD_MIN_TS=str(Settings().min_ts))
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == "old"
        assert [row["ts"] for row in wire.call("record.query", name="a", limit=5)["records"]] == [7]
        refused = wire.call("record.set", name="a", value="new", ts=8)
        assert refused["error"]["data"]["reason"] == "invalid_params"
        assert wire.call("record.set", name="a", value="new")["rev"] == 2
