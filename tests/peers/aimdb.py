"""AimDB's own command line speaks to a running daemon. Needs cargo; run by `make aimdb`.

It is built from crates.io on the first run, some two minutes on two cores, and kept in
`.venv`. Each command has to print what follows it here.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.daemon_process import DaemonProcess
from tests.wire import Wire

VERSION = "0.7.0"
ROOT = Path(__file__).parents[2] / ".venv" / "aimdb"
COMMANDS: list[tuple[list[str], list[str]]] = [
    (["instance", "list"], ["recordd", "3.0"]),
    (["instance", "info"], ["Server: recordd", "Max Subscriptions: 1024"]),
    (["instance", "ping"], ["Connection successful"]),
    (["record", "list"], ["temp.vienna", "single_latest"]),
    (["record", "get", "temp.vienna"], ['"celsius": 21.5']),
    (["record", "set", "temp.graz", "23"], ["Successfully set record: temp.graz"]),
    (["record", "get", "temp.graz"], ["23"]),
    (["graph", "nodes"], ["temp.vienna", "passive"]),
    (["graph", "edges"], ["No graph edges found"]),
    (["graph", "order"], ["temp.graz"]),
    (["watch", "--count", "1", "temp.vienna"], ["seq:1", '{"celsius":21.5}']),
    (["watch", "--count", "2", "temp.#"], ["seq:1", "seq:2", "snapshot complete (2 records)"]),
]


def main() -> int:
    """Install the command line if need be, and run every command against a daemon."""
    program = ROOT / "bin" / "aimdb"
    if not program.exists() and not install():
        return 1
    with tempfile.TemporaryDirectory(prefix="recordd-aimdb-") as folder:
        # Where `instance list` looks.
        with tempfile.NamedTemporaryFile(prefix="recordd-", suffix=".sock", dir="/tmp") as name:
            path = name.name
        daemon = DaemonProcess(Path(folder), "--socket", path).start()
        try:
            with Wire(Path(path)) as wire:
                wire.call("record.set", name="temp.vienna", value={"celsius": 21.5})
            failed = [c for c, expected in COMMANDS if not works(program, path, c, expected)]
        finally:
            daemon.stop(signal.SIGTERM)
    return 1 if failed else 0


def install() -> bool:
    if shutil.which("cargo") is None:
        print("aimdb: cargo is needed to build AimDB's command line", file=sys.stderr)
        return False
    command = ["cargo", "install", "aimdb-cli", "--version", VERSION, "--locked", "--quiet"]
    # It states a newer compiler than it needs.
    command += ["--ignore-rust-version", "--root", str(ROOT)]
    return subprocess.run(command, check=False, timeout=1800).returncode == 0


def works(program: Path, path: str, command: list[str], expected: list[str]) -> bool:
    options = [] if command == ["instance", "list"] else ["--connect", path]
    try:
        done = subprocess.run(
            [program, *options, *command], capture_output=True, text=True, check=False, timeout=10
        )
    except subprocess.TimeoutExpired:
        print(f"aimdb {' '.join(command)}: no end after 10 s")
        return False
    missing = [text for text in expected if text not in done.stdout]
    print(f"aimdb {' '.join(command)}: {'ok' if not missing else f'lacks {missing}'}")
    if missing:
        print(done.stdout, done.stderr)
    return not missing


if __name__ == "__main__":
    sys.exit(main())
