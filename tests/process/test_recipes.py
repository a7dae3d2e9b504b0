"""Every recipe of docs/persistence.md, run as it stands there, and what else people do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from recordd.persistence.sqlite.check import Verdict, check_file
from recordd.persistence.sqlite.restore import restore
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.server.sqlite_files import log_of, quiet
from tests.wire import Wire

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RECIPES = FENCE.findall((ROOT / "docs" / "persistence.md").read_text())
WHILE_STOPPED = "# while the daemon is stopped\n"

STAND_IN = """#!{python}
import sqlite3, sys
db, command = sqlite3.connect(sys.argv[1]), sys.argv[2]
if command.startswith(".backup "):
    db.backup(sqlite3.connect(command.split()[1]))
else:
    print(*db.execute(command), sep="\\n")
"""
"""For machines without SQLite's shell: the same, by Python's."""


def write(path: Path, count: int = 30) -> int:
    """Write some rows; return the newest rev."""
    with Wire(path) as wire:
        for n in range(count):
            rev: int = wire.call("record.set", name=f"r.{n % 3}", value={"celsius": n})["rev"]
    return rev


def newest_of(daemon: DaemonProcess) -> tuple[str, int]:
    with Wire(daemon.socket_path) as wire:
        hello = wire.call("hello", client="test")
        assert len(wire.call("record.query", name="#")["records"]) == 3
    return hello["epoch"], hello["rev"]


def run_recipe(recipe: str, daemon: DaemonProcess) -> str:
    """Run the commands in the database's folder, with the tools that a person has."""
    tools = daemon.folder / "bin"
    tools.mkdir(exist_ok=True)
    if shutil.which("sqlite3") is None:
        (tools / "sqlite3").write_text(STAND_IN.format(python=sys.executable))
        (tools / "sqlite3").chmod(0o755)
    for name, module in (("recordd", "recordd.cli"), ("recordctl", "recordd_client.cli")):
        start = f"import sys; from {module} import main; sys.exit(main())"
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "RECORDD_DATABASE": str(daemon.database),
        "RECORDD_CONNECT": daemon.url,
    }
    done = subprocess.run(
        ["bash", "-ec", recipe],
        cwd=daemon.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, f"{recipe}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_recipe_of_the_docs_works(daemon: DaemonProcess) -> None:
    """In their order, on one database; the copies that they make are restored elsewhere."""
    assert len(RECIPES) >= 9
    copy, restored = daemon.folder / "copy.db", daemon.folder / "restored.db"
    for recipe in RECIPES:
        rev = write(daemon.socket_path)
        if WHILE_STOPPED in recipe:
            assert daemon.stop() == 0
        run_recipe(recipe, daemon)
        if "copy.db" in recipe and "restore" not in recipe:
            restore(str(restored), str(copy), quiet)
            assert check_file(str(restored), quiet, is_full=True).verdict is Verdict.SOUND
            assert max(log_of(restored))[0] == rev
        if "recordd backup" not in recipe:
            copy.unlink(missing_ok=True)  # of the next recipe's making; the first one's is kept
        if WHILE_STOPPED in recipe:
            daemon.start()
            assert newest_of(daemon)[1] == rev or "restore" in recipe
    assert daemon.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stock_sqlite_that_looks_on_while_the_daemon_ends_does_no_harm(
    start_daemon: StartDaemon, how: signal.Signals
) -> None:
    """It is the last to close, so it moves the WAL into the file, without checksums."""
    daemon = start_daemon()
    db = sqlite3.connect(daemon.database)
    rev = write(daemon.socket_path)
    assert db.execute("SELECT max(rev) FROM log").fetchone() == (rev,)
    epoch, _ = newest_of(daemon)
    daemon.stop(how)
    db.close()
    daemon.start()
    assert newest_of(daemon) == (epoch, rev)
    assert write(daemon.socket_path) > rev
    assert daemon.stop() == 0
    assert "recordd check" not in daemon.log
    run_recipe("recordd check --full", daemon)


def test_a_killed_daemons_file_is_read_by_any_tool_and_starts_again(daemon: DaemonProcess) -> None:
    rev = write(daemon.socket_path)
    epoch, _ = newest_of(daemon)
    daemon.stop(signal.SIGKILL)
    db = sqlite3.connect(daemon.database)
    assert db.execute("SELECT max(rev) FROM log").fetchone() == (rev,)
    db.close()
    daemon.start()
    assert newest_of(daemon) == (epoch, rev)


def test_a_backup_opened_as_it_is_begins_a_new_epoch(daemon: DaemonProcess) -> None:
    rev = write(daemon.socket_path)
    epoch, _ = newest_of(daemon)
    run_recipe("recordd backup copy.db", daemon)
    assert daemon.stop() == 0
    for suffix in ("", "-mark"):
        Path(f"{daemon.database}{suffix}").unlink(missing_ok=True)
    (daemon.folder / "copy.db").rename(daemon.database)
    daemon.start()
    found, newest = newest_of(daemon)
    assert (found != epoch, newest) == (True, rev)
    assert "is a backup" in daemon.log
