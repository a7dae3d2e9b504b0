"""NATS: a subject, and who follows it. Nothing is stored."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.wire.plans import Request, Setup
from benchmarks.wire.sites import Site

__all__ = ["SUBSCRIBE", "publish", "running_nats"]

_SUBJECT: Final = b"records"
_READY_TIMEOUT_S: Final = 30.0
_OPENING: Final = b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n'
SUBSCRIBE: Final = Request(b"SUB %b 1\r\nPING\r\n" % _SUBJECT)


class _Ports(msgspec.Struct, frozen=True):
    """The file that the server writes when it listens."""

    nats: list[str]


def publish(payload: bytes) -> Request:
    """Give a message to all subscribers; the PING behind it is answered."""
    return Request(b"PUB %b %d\r\n%b\r\nPING\r\n" % (_SUBJECT, len(payload), payload))


@contextlib.contextmanager
def running_nats(folder: Path) -> Iterator[Site]:
    """Run NATS on a free port of 127.0.0.1.

    Raises:
        FileNotFoundError: it is not installed.
    """
    # `make bench-peers` installs it beside the tools, in an environment of its own.
    beside = str(Path(sys.executable).parent.parent / "peers" / "bin")
    program = shutil.which("nats-server", path=os.pathsep.join((beside, os.environ["PATH"])))
    if program is None:
        raise FileNotFoundError("nats-server")
    folder.mkdir()
    command = [program, "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", str(folder)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            address = _wait_for_address(folder).replace("nats://", "tcp:")
            yield Site(address=address, protocol="nats", setup=Setup(_OPENING, 1), pid=process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait_for_address(folder: Path) -> str:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        for found in folder.glob("*.ports"):
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(found.read_bytes(), type=_Ports).nats[0]
        time.sleep(0.01)
    raise RuntimeError(f"NATS did not start:\n{(folder / 'log').read_text()}")
