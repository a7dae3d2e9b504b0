"""kill -9 under load: what was acknowledged is there, and followers notice nothing.

Two rounds here; `make kill` does twenty, `make soak-kill` a thousand (RECORDD_KILLS). A
round takes about a second, most of it the daemon's start.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest

from recordd_client import connect
from tests.daemon_process import DaemonProcess
from tests.process.load import (
    LoadClient,
    check_found,
    end_under_load,
    make_daemon,
    make_daemons,
    read_rows,
)

KILLS = int(os.environ.get("RECORDD_KILLS", "2"))
PATTERN = "load.#"
CATCH_UP_S = 30.0


class FollowerThread(threading.Thread):
    """Follows for as long as the test lasts, whatever becomes of the daemon."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.revs: list[int] = []
        self.resyncs: list[object] = []
        self.last_rev: int | None = None  # of the last row that is to come
        self._url = url
        self._stopped = threading.Event()

    def run(self) -> None:
        with (
            connect(self._url) as db,
            db.subscribe(
                PATTERN,
                after=0,
                delivery="every",
                on_resync=self.resyncs.append,
                as_type=msgspec.Raw,
            ) as updates,
        ):
            while not self._stopped.is_set():
                update = updates.wait(0.1)
                if update is not None and update.rev is not None:
                    self.revs.append(update.rev)
                if self.last_rev is not None and self.revs and self.revs[-1] >= self.last_rev:
                    return

    def finish(self, last_rev: int) -> None:
        """Wait until a row has come, but not for ever."""
        self.last_rev = last_rev
        self.join(CATCH_UP_S)
        self.stop()

    def stop(self) -> None:
        """End it now."""
        self._stopped.set()
        self.join()


@pytest.mark.timeout(60 + 10 * KILLS)
def test_a_kill_loses_nothing_tears_nothing_and_no_follower_notices(short_path: Path) -> None:
    for daemon, kills in make_daemons(short_path, KILLS):
        kill_under_load(daemon, kills)


def test_the_suite_flags_a_daemon_that_answers_before_commit(short_path: Path) -> None:
    """Negative control; the mark makes it refuse its next start."""
    with pytest.raises(AssertionError, match=r"lost|did not start|is back|torn|deleted too much"):
        kill_under_load(make_daemon(short_path, "answer-before-commit"), 3)


def kill_under_load(daemon: DaemonProcess, kills: int) -> None:
    """Kill and start a daemon, and hold what it then has against what it had answered."""
    clients: list[LoadClient] = []
    daemon.start()
    follower = FollowerThread(daemon.url)
    follower.start()
    try:
        for _ in range(kills):
            end_under_load(daemon, clients, signal.SIGKILL)
            daemon.start()
            found = read_rows(daemon.socket_path)
            check_found(found, clients)
        followed = sorted(
            rev for name, rows in found.items() if name.startswith("load.") for _, rev, _ in rows
        )
        follower.finish(followed[-1])
        assert follower.revs == followed
        assert not follower.resyncs
        assert daemon.stop() == 0
    finally:
        follower.stop()
        daemon.stop(signal.SIGKILL)
