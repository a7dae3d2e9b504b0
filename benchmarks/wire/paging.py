"""All rows of the history, page by page, by a client that reads no more than each `next`."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Any, Final

from benchmarks.daemon import encode_request

__all__ = ["export_all", "read_all_pages"]

_BUFFER_BYTES: Final = 1 << 20
_ROW: Final = b'"rev":'
_NEXT: Final = b'"next":"'
_TIMEOUT_S: Final = 60.0


def read_all_pages(path: str, marker: bytes = _ROW) -> tuple[int, float]:
    """Ask for one page after the other; return how many markers came, and the seconds.

    Raises:
        RuntimeError: the daemon refused a page.
    """
    found = 0
    after: dict[str, str] = {}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.connect(path)
        started = time.perf_counter()
        while True:
            params: dict[str, Any] = {"name": "#", "limit": None, **after}
            sock.sendall(encode_request("record.query", **params))
            page = _receive_line(sock)
            found += page.count(marker) - 1  # an answer has a `rev` of its own
            if (token := _find_next(page)) is None:
                return found, time.perf_counter() - started
            after = {"after": token}


def export_all(program: str, path: str) -> tuple[int, float]:
    """Run `recordctl export`; return how many lines it printed, and the seconds."""
    command = [program, "--connect", f"unix://{path}", "export"]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True)
    return done.stdout.count(b"\n"), time.perf_counter() - started


def _receive_line(sock: socket.socket) -> bytes:
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = sock.recv(_BUFFER_BYTES)
        if not part:
            raise RuntimeError("the daemon closed the connection")
        parts.append(part)
    line = b"".join(parts)
    if b'"error":{' in line[:48]:
        raise RuntimeError(line[:300].decode(errors="replace"))
    return line


def _find_next(page: bytes) -> str | None:
    """Return the `next` of a page: it stands behind the last row."""
    at = page.rfind(_NEXT, max(0, len(page) - 1000))
    if at < 0:
        return None
    start = at + len(_NEXT)
    return page[start : page.index(b'"', start)].decode()
