"""SIGTERM under load: an orderly end, whose next start finds nothing to repair.

One round here; `make faults` does ten, `make soak-sigterm` 300 (RECORDD_SIGTERMS).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from recordd.persistence.sqlite.mark import read_mark
from tests.daemon_process import DaemonProcess
from tests.process.load import (
    LoadClient,
    check_found,
    end_under_load,
    make_daemon,
    make_daemons,
    read_rows,
)

SIGTERMS = int(os.environ.get("RECORDD_SIGTERMS", "1"))


@pytest.mark.timeout(60 + 10 * SIGTERMS)
def test_an_orderly_end_under_load_answers_and_keeps_everything(short_path: Path) -> None:
    for daemon, stops in make_daemons(short_path, SIGTERMS):
        stop_under_load(daemon, stops)


def test_the_suite_flags_a_daemon_that_leaves_at_once(short_path: Path) -> None:
    """Negative control: it does not close its database."""
    with pytest.raises(AssertionError):
        stop_under_load(make_daemon(short_path, "leave-at-once"), 1)


def stop_under_load(daemon: DaemonProcess, stops: int) -> None:
    """Stop and start a daemon, and hold what it then has against what it had answered."""
    clients: list[LoadClient] = []
    daemon.start()
    try:
        for _ in range(stops):
            assert end_under_load(daemon, clients, signal.SIGTERM) == 0
            assert not any(client.was_reset for client in clients), "a connection was cut off"
            check_stopped_cleanly(str(daemon.database))
            daemon.start()
            check_found(read_rows(daemon.socket_path), clients)
        assert daemon.stop(signal.SIGTERM) == 0
    finally:
        daemon.stop(signal.SIGKILL)
    assert "Traceback" not in daemon.log
    assert "ERROR" not in daemon.log


def check_stopped_cleanly(database: str) -> None:
    """All is in one file, and the mark says so."""
    assert not os.path.exists(f"{database}-wal")
    mark = read_mark(database)
    assert mark is not None
    assert mark.is_clean
