"""Deletions over a kill: who follows other records goes on, without a gap and without a resync."""

from __future__ import annotations

import signal

from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import Wire


def test_a_killed_daemon_makes_only_followers_of_a_deleted_record_start_afresh(
    start_daemon: StartDaemon,
) -> None:
    check_who_starts_afresh(start_daemon())


def check_who_starts_afresh(daemon: DaemonProcess) -> None:
    """Delete a record, kill the daemon, and resume with many patterns."""
    with Wire(daemon.socket_path) as wire:
        epoch = wire.call("hello", client="t")["epoch"]
        for n in range(3):
            for name in ("kept.a", "kept.b", "gone.a"):
                wire.call("record.set", name=name, value=n)
        wire.call("record.delete", name="gone.a")
        wire.call("record.set", name="kept.a", value=3)
    daemon.stop(signal.SIGKILL)
    daemon.start()
    resumed = {}
    for pattern in ("kept.*", "kept.a", "never.*", "gone.*", "gone.a", "#"):
        with Wire(daemon.socket_path) as wire:
            resumed[pattern] = wire.call("record.subscribe", name=pattern, after=5, epoch=epoch)
    assert {pattern: answer.get("resync", False) for pattern, answer in resumed.items()} == {
        "kept.*": False, "kept.a": False, "never.*": False,
        "gone.*": True, "gone.a": True, "#": True,
    }  # fmt: skip
    assert resumed["gone.*"]["oldest_rev"] == 11
