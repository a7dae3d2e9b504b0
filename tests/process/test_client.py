"""Both clients against a real daemon, over both transports."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from recordd_client import (
    CallTimeout,
    Conflict,
    ConnectionFailed,
    ConnectionLost,
    InvalidParams,
    NotFound,
    TooLarge,
    connect,
    open_client,
)
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess

URLS = ["url", "ws_url"]


class Weather(msgspec.Struct):
    celsius: float


@pytest.mark.parametrize("url", URLS)
def test_the_blocking_client_does_every_call(daemon: DaemonProcess, url: str) -> None:
    with connect(getattr(daemon, url)) as db:
        assert db.hello().server == "recordd"
        assert db.set("w.a", {"celsius": 1.5}, ts=1000).rev == 1
        assert db.set("w.a", {"celsius": 9.0}, ts=500).late
        many = db.set_many([("w.b", {"celsius": 2}, 2000), ("w.c", "broken")])
        assert (many.first_rev, many.last_rev) == (3, 4)
        assert db.get("w.a", as_type=Weather).value.celsius == 1.5
        page = db.query_latest("w.*", as_type=Weather)
        assert ([row.value.celsius for row in page.rows], page.skipped) == ([1.5, 2.0], 1)
        assert [row.rev for row in db.query_range("w.a", 0, 1000).rows] == [2, 1]
        assert [row.rev for row in db.query("w.#", limit=None, start=600, end=2500).rows] == [1, 3]
        assert [row.rev for row in db.replay(2).rows] == [3, 4]
        assert db.at(3).name == "w.b"
        assert (db.count().records, db.count("w.a").rows) == (3, 2)
        assert db.drain("w.a") == [{"celsius": 1.5}]
        assert [info.name for info in db.list("w.b")] == ["w.b"]
        assert db.graph_edges() == []
        assert {node.key for node in db.graph_nodes()} == set(db.graph_topo_order())
        assert db.stats().rows == 4
        assert db.discover()["openrpc"].startswith("1.")
        assert db.delete("w.a") == 2
        with pytest.raises(NotFound, match=r"w\.a"):
            db.get("w.a")
        with pytest.raises(Conflict):
            db.set("w.b", 1, if_rev=1)
        with pytest.raises(InvalidParams, match="name"):
            db.set("not a name", 1)


@pytest.mark.parametrize("url", URLS)
async def test_many_tasks_share_the_async_client(daemon: DaemonProcess, url: str) -> None:
    async with open_client(getattr(daemon, url)) as db:
        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(db.set, f"r.{n}", n)
        page = await db.query_latest("r.*")
        assert sorted(row.value for row in page.rows) == list(range(100))
        assert (await db.get("r.7", as_type=int)).value == 7
        with pytest.raises(NotFound):
            await db.get("nope")


async def test_an_error_in_the_body_comes_out_as_it_is(daemon: DaemonProcess) -> None:
    with pytest.raises(NotFound):
        async with open_client(daemon.url) as db:
            await db.get("nope")


def test_all_pages_of_a_large_answer_come_together(daemon: DaemonProcess) -> None:
    with connect(daemon.url) as db:
        for n in range(40):
            db.set("big", str(n) + "x" * 100_000, ts=n)
        rows = db.query_range("big", None, None).rows
        assert [int(row.value.rstrip("x")) for row in rows] == list(range(40))
        for n in range(40):
            db.set(f"each.{n}", "x" * 100_000, ts=n)
        assert len(db.query_latest("each.*").rows) == 40


@pytest.mark.parametrize(
    "url", ["unix:///no/such/socket", "ws://127.0.0.1:1/ws", "http://x", "nonsense"]
)
def test_a_daemon_that_is_away_is_one_clear_error(url: str) -> None:
    with pytest.raises(ConnectionFailed, match=url), connect(url):
        pass

    async def connect_async() -> None:
        async with open_client(url):
            pass

    with pytest.raises(ConnectionFailed, match=url):
        trio.run(connect_async)


@pytest.mark.parametrize("url", URLS)
def test_a_lost_connection_says_whether_the_outcome_is_known(
    daemon: DaemonProcess, url: str
) -> None:
    with connect(getattr(daemon, url)) as db:
        db.set("a", 1)
        daemon.stop(signal.SIGKILL)
        with pytest.raises(ConnectionLost) as read:
            db.get("a")
        assert not read.value.outcome_unknown
        with pytest.raises(ConnectionLost) as write:
            db.set("a", 2)
        assert not write.value.outcome_unknown, "it was known before the write"


@pytest.mark.parametrize("url", URLS)
def test_threads_share_the_blocking_client(daemon: DaemonProcess, url: str) -> None:
    failures: list[Exception] = []

    def count_up(name: str) -> None:
        try:
            for n in range(10):
                db.set(name, n)
                assert db.get(name).value == n
        except Exception as error:
            failures.append(error)

    with connect(getattr(daemon, url)) as db:
        threads = [threading.Thread(target=count_up, args=(f"t.{n}",)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert db.count("t.*").rows == 640


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("limit", [2000, 1 << 20, 4 << 20])
def test_a_request_over_the_limit_costs_nothing_but_itself(
    start_daemon: StartDaemon, url: str, limit: int
) -> None:
    daemon = start_daemon(RECORDD_MAX_MESSAGE_BYTES=str(limit))
    room = min(limit, 900_000) - 200
    with connect(getattr(daemon, url)) as db:
        with pytest.raises(TooLarge, match=f"{limit}"):
            db.set("a", "x" * limit)
        assert db.set("a", "x" * room).rev == 1
        assert db.set("a", 2).rev == 2

    async def write() -> None:
        async with open_client(getattr(daemon, url)) as db:
            with pytest.raises(TooLarge, match=f"{limit}"):
                await db.set("a", "x" * limit)
            assert (await db.set("a", "x" * room)).rev == 3

    trio.run(write)


def test_a_client_of_a_daemon_that_tells_no_limit_reads_the_refusal(daemon: DaemonProcess) -> None:
    """An older daemon's limit is guessed; the socket says the rest."""
    with connect(daemon.url) as db:
        db._connection._max_message_bytes = 1 << 30
        with pytest.raises(TooLarge):
            db.set("a", "x" * (2 << 20))
        assert db.set("a", 1).rev == 1


@pytest.mark.parametrize("url", URLS)
def test_a_client_outlives_its_daemon(daemon: DaemonProcess, url: str) -> None:
    """The port is kept: a WebSocket's address must be that of the next daemon too.

    A daemon that stops in order waits three seconds for the farewell of a WebSocket's client
    that does not read.
    """
    how = signal.SIGKILL if url == "ws_url" else signal.SIGTERM
    daemon.keep_port()
    address = getattr(daemon, url)
    with connect(address) as db:
        db.set("a", 1)
        assert db.drain("a") == [1]
        daemon.stop(how)
        daemon.start()
        assert db.set("a", 2).rev == 2
        daemon.stop(how)
        daemon.start()
        with pytest.raises(ConnectionLost, match="drains"):
            db.drain("a")
        assert db.drain("a") == [2]

    async def outlive() -> None:
        async with open_client(address) as db:
            await db.set("a", 3)
            assert await db.drain("a") == [3]
            await trio.to_thread.run_sync(daemon.stop)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(ConnectionLost) as caught:
                await db.set("a", 4)
            assert not caught.value.outcome_unknown
            await trio.to_thread.run_sync(daemon.start)
            async with trio.open_nursery() as nursery:
                for n in range(10):
                    nursery.start_soon(db.set, "a", n)
            assert (await db.stats()).connections == 1
            await trio.to_thread.run_sync(daemon.stop)
            await trio.to_thread.run_sync(daemon.start)
            with pytest.raises(ConnectionLost, match="drains"):
                await db.drain("a")
            assert len(await db.drain("a")) == 1

    trio.run(outlive)


@pytest.mark.parametrize("url", URLS)
async def test_a_client_that_is_closed_stays_closed(daemon: DaemonProcess, url: str) -> None:
    with connect(getattr(daemon, url)) as db:
        db.set("a", 1)
    async with open_client(getattr(daemon, url)) as async_db:
        await async_db.set("a", 2)
    with pytest.raises(ConnectionLost, match="closed"):
        db.set("a", 3)
    with pytest.raises(ConnectionLost, match="closed"):
        await async_db.set("a", 4)


class SilentServer(threading.Thread):
    """Takes a connection and a request, answers nothing, hangs up when told."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.received = threading.Event()
        self.hang_up = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()

    def run(self) -> None:
        connection, _ = self._listener.accept()
        self._listener.close()  # at once: who comes again must not get as far as the queue
        connection.recv(1000)
        self.received.set()
        self.hang_up.wait(10)
        connection.close()


@pytest.fixture
def silent(short_path: Path) -> SilentServer:
    server = SilentServer(short_path / "silent")
    server.start()
    return server


def test_a_write_cut_off_has_an_unknown_outcome(silent: SilentServer, short_path: Path) -> None:
    with connect(f"unix://{short_path}/silent") as db:
        silent.hang_up.set()
        with pytest.raises(ConnectionLost, match="unknown") as caught:
            db.set("a", 1)
        assert caught.value.outcome_unknown
    silent.join()


async def test_async_writes_cut_off_are_told_apart(silent: SilentServer, short_path: Path) -> None:
    async with open_client(f"unix://{short_path}/silent") as db:
        seen: dict[str, bool] = {}

        async def call(name: str) -> None:
            try:
                await (db.set("a", 1) if name == "set" else db.get("a"))
            except ConnectionLost as error:
                seen[name] = error.outcome_unknown

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "set")  # alone: what is received is known to be this
            await trio.to_thread.run_sync(silent.received.wait)
            nursery.start_soon(call, "get")
            await trio.testing.wait_all_tasks_blocked()
            silent.hang_up.set()
        assert seen == {"set": True, "get": False}
        with pytest.raises(ConnectionLost) as later:
            await db.set("a", 1)
        assert not later.value.outcome_unknown
    silent.join()


def test_a_call_has_a_timeout_and_a_write_then_an_unknown_outcome(
    silent: SilentServer, short_path: Path
) -> None:
    with connect(f"unix://{short_path}/silent", timeout_s=0.1) as db:
        with pytest.raises(CallTimeout, match=r"no answer within 0\.1 s") as read:
            db.get("a")
        assert not read.value.outcome_unknown
        with pytest.raises(CallTimeout) as write:
            db.set("a", 1)
        assert write.value.outcome_unknown

    silent.hang_up.set()
    silent.join()


async def test_an_async_call_has_a_timeout(silent: SilentServer, short_path: Path) -> None:
    async with open_client(f"unix://{short_path}/silent", timeout_s=0.1) as db:
        with pytest.raises(CallTimeout) as caught:
            await db.set("a", 1)
        assert caught.value.outcome_unknown
    silent.hang_up.set()
    silent.join()


async def test_an_independent_websocket_client_is_served(daemon: DaemonProcess) -> None:
    """jsonrpc-websocket is asyncio's; it runs in a thread of its own."""
    import asyncio

    from jsonrpc_base import ProtocolError
    from jsonrpc_websocket import Server

    url = daemon.ws_url

    async def converse() -> None:
        server = Server(url)
        await server.ws_connect()
        try:
            written = await server.record.set(name="peer", value={"a": [1, "ü", None]})
            assert written["rev"] == 1
            assert (await server.record.get(name="peer"))["value"] == {"a": [1, "ü", None]}
            await server.record.set(name="noted", value=2, _notification=True)
            assert (await server.record.get(name="noted"))["value"] == 2
            assert (await server.rpc.discover())["info"]["title"] == "recordd"
            with pytest.raises(ProtocolError) as caught:
                await server.record.get(name="nope")
            assert caught.value.args[0] == -32001
        finally:
            await server.close()

    await trio.to_thread.run_sync(asyncio.run, converse())
