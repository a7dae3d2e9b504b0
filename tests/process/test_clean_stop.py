"""What an orderly stop leaves behind."""

from __future__ import annotations

import sqlite3

from tests.daemon_process import DaemonProcess
from tests.wire import Wire


def test_after_an_orderly_stop_every_row_is_indexed(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as wire:
        for n in range(30):
            wire.call("record.set", name=f"r.{n % 5}", value=n)
        wire.call("record.delete", name="r.4")
    assert daemon.stop() == 0
    db = sqlite3.connect(daemon.database)
    merged = db.execute("SELECT value FROM meta WHERE key = 'merged_rev'").fetchone()
    rows = db.execute("SELECT record, ts, rev FROM log ORDER BY rev").fetchall()
    assert db.execute("SELECT record, ts, rev FROM history ORDER BY rev").fetchall() == rows
    assert merged == (30,)
    db.close()
