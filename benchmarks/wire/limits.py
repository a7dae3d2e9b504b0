"""The least servers in Python that keep recordd's promises: what there is left to reach.

One loop on Trio, and one job for each server. A pass of the loop takes what has come on all
connections together, and answers it: writes by one COMMIT, before their answers and events.
Nothing is checked, limited or permitted, a connection is no task, and a slow client holds up
all others.

Run as `python -m benchmarks.wire.limits JOB FOLDER`; it serves FOLDER/log.db on FOLDER/s, its
followers on FOLDER/followers and on the port that it writes to FOLDER/port.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import trio

from benchmarks.daemon import run_until_left
from benchmarks.wire.limit_data import DATABASE, open_database
from benchmarks.wire.limit_jobs import JOBS, Call, Job, make_frame
from benchmarks.wire.recordd import websocket_site
from benchmarks.wire.sites import Site

__all__ = ["Server", "running_limit"]

_RECEIVE_BYTES: Final = 1 << 18
_SEND_BYTES: Final = 1 << 20
"""As much as the system allows: an answer is to fit in whole."""
_FILES: Final = 2000
_UPGRADED: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
_SUBSCRIBED: Final = (
    b'{"jsonrpc":"2.0","id":1,"result":{"subscription":"s1","rev":0,"epoch":"0123456789abcdef",'
    b'"values":0}}'
)


class Server:
    """Takes what has come on all connections at once: one wait, whatever their number."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job: Final = job
        self._poll: Final = select.epoll()
        self._decode: Final = msgspec.json.Decoder(Call).decode_lines
        self._clients: Final[dict[int, socket.socket]] = {}
        self._rests: Final[dict[int, bytes]] = {}
        self._followers: Final[dict[int, socket.socket]] = {}
        tcp = socket.create_server(("127.0.0.1", 0), backlog=_FILES)
        (folder / "port").write_text(str(tcp.getsockname()[1]))
        self._listeners: Final = {
            listener.fileno(): (listener, accept)
            for listener, accept in (
                (tcp, self._accept_follower),
                (_listen(folder / "followers"), self._accept_follower),
                (_listen(folder / "s"), self._accept),
            )
        }
        for fd in self._listeners:
            self._poll.register(fd, select.EPOLLIN)

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            await trio.lowlevel.wait_readable(self._poll.fileno())
            if batch := self._take():
                for sock, answer in self._job.answer(batch):
                    sock.sendall(answer)

    def close(self) -> None:
        """Close all sockets."""
        listeners = [listener for listener, _ in self._listeners.values()]
        for sock in (*listeners, *self._clients.values(), *self._followers.values()):
            sock.close()
        self._poll.close()

    def _take(self) -> list[tuple[socket.socket, list[Call]]]:
        batch = []
        for fd, _ in self._poll.poll(0, _FILES):
            if (sock := self._clients.get(fd)) is None:
                self._handle_other(fd)
            elif data := sock.recv(_RECEIVE_BYTES):
                data = self._rests.pop(fd, b"") + data
                end = data.rfind(b"\n") + 1
                if end < len(data):
                    self._rests[fd] = data[end:]
                    data = data[:end]
                if data:
                    batch.append((sock, self._decode(data)))
            else:
                self._clients.pop(fd).close()
        return batch

    def _handle_other(self, fd: int) -> None:
        if (found := self._listeners.get(fd)) is not None:
            listener, accept = found
            sock, _ = listener.accept()
            self._poll.register(sock.fileno(), select.EPOLLIN)
            accept(sock)
        elif not self._followers[fd].recv(_RECEIVE_BYTES):
            sock = self._followers.pop(fd)
            self._job.followers.discard(sock)
            self._job.framed.discard(sock)
            sock.close()

    def _accept(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        self._clients[sock.fileno()] = sock

    def _accept_follower(self, sock: socket.socket) -> None:
        is_framed = sock.family == socket.AF_INET
        asked = b""
        while b'"record.subscribe"' not in asked:
            asked += sock.recv(_RECEIVE_BYTES)
        sock.sendall(_UPGRADED + make_frame(_SUBSCRIBED) if is_framed else _SUBSCRIBED + b"\n")
        self._followers[sock.fileno()] = sock
        (self._job.framed if is_framed else self._job.followers).add(sock)


@contextlib.contextmanager
def running_limit(job: str, folder: Path) -> Iterator[tuple[Site, Site, Site]]:
    """Serve the database in `folder`; give the site, and those of its followers.

    They have lines and WebSockets.
    """
    path = str(folder / "s")
    command = [sys.executable, "-m", "benchmarks.wire.limits", job, str(folder)]
    with run_until_left(command, path) as pid:
        yield (
            Site(address=f"unix:{path}", protocol="lines", pid=pid),
            Site(address=f"unix:{folder / 'followers'}", protocol="lines", pid=pid),
            websocket_site(int((folder / "port").read_text()), pid),
        )


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(_FILES)
    return listener


def _main() -> None:
    job, folder = sys.argv[1], Path(sys.argv[2])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    trio.run(Server(JOBS[job](open_database(folder / DATABASE)), folder).run)


if __name__ == "__main__":
    _main()
