"""Real observations through the socket, and out again: before and after kill -9.

January here; RECORDD_ARRIVALS names another file of the same form, such as a whole year.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess
from tests.wire import Wire

DATA = Path(
    os.environ.get(
        "RECORDD_ARRIVALS", Path(__file__).parents[2] / "examples" / "nyc-2013-01.ndjson.gz"
    )
)


@pytest.mark.timeout(120)
def test_latest_per_airport_equals_the_last_line_of_each(daemon: DaemonProcess) -> None:
    """Over a second: it imports tens of thousands of rows."""
    with gzip.open(DATA, "rt") as lines:
        rows = [row for line in lines if (row := json.loads(line))["name"].startswith("arrival::")]
    last = {row["name"]: row for row in rows}
    with Wire(daemon.socket_path) as wire:
        for start in range(0, len(rows), 500):
            batch = rows[start : start + 500]
            revs = wire.call("record.set_many", records=batch)
            assert revs["last_rev"] - revs["first_rev"] == len(batch) - 1
        assert latest(wire) == last
        assert wire.call("record.count")["rows"] == len(rows)
    daemon.stop(signal.SIGKILL)
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert latest(wire) == last
        assert wire.call("record.count") == {"records": len(last), "rows": len(rows)}


def latest(wire: Wire) -> dict[str, Any]:
    records = wire.call("record.query", name="arrival::*")["records"]
    return {row["name"]: {key: row[key] for key in ("name", "ts", "value")} for row in records}
