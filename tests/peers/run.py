"""Clients that nobody here wrote speak to a running daemon. Needs npm; run by `make peers`.

jsonrpc-websocket, which comes by pip, is in the ordinary suite (tests/process/test_client.py).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.daemon_process import DaemonProcess

JAYSON = "jayson@5.0.0"
SCRIPT = Path(__file__).with_name("jayson_peer.js")


def main() -> int:
    """Install jayson beside a copy of its script, run it against a daemon."""
    if shutil.which("npm") is None:
        print("peers: npm is needed to install jayson", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="recordd-peers-") as folder:
        shutil.copy(SCRIPT, folder)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", JAYSON],
            cwd=folder,
            check=True,
            timeout=300,
        )
        daemon = DaemonProcess(Path(folder)).start()
        try:
            done = subprocess.run(
                ["node", SCRIPT.name, str(daemon.socket_path)], cwd=folder, check=False, timeout=60
            )
        finally:
            daemon.stop(signal.SIGTERM)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
