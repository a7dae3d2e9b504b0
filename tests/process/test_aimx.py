"""AimX against a real daemon: golden transcripts, discovery, the gate, mixed connections."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.aimx_client import AimxClient, Refused, connect_unix, connect_websocket
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.golden import LINES, generalize, pieces_of, read_transcript
from tests.wire import WebSocketWire, Wire, request

CONNECT: dict[str, Callable[[DaemonProcess], AimxClient]] = {
    "unix": lambda daemon: connect_unix(daemon.socket_path),
    "websocket": lambda daemon: connect_websocket("127.0.0.1", daemon.port),
}


def test_golden_transcripts_over_the_unix_socket(start_daemon: StartDaemon) -> None:
    """Byte by byte, each on a daemon of its own; about 2 s."""
    for name in LINES:
        daemon = start_daemon("--backend", "memory")
        with Wire(daemon.socket_path) as wire:
            for exchange in read_transcript(name):
                for piece in pieces_of(exchange.as_lines(), split=True):
                    wire.sock.sendall(piece)
                found = [generalize(wire.receive_raw()) for _ in exchange.expected]
                assert found == exchange.expected, name
        daemon.stop()


@pytest.mark.parametrize("split", [False, True])
def test_the_golden_transcript_over_websocket(start_daemon: StartDaemon, split: bool) -> None:
    daemon = start_daemon("--backend", "memory")
    with WebSocketWire(daemon.port, target="/ws?v=3.0") as wire:
        for exchange in read_transcript("websocket.aimx"):
            for message in exchange.sent:
                for piece in pieces_of(wire.encode(message), split=split):
                    wire.sock.sendall(piece)
            found = [generalize(wire.receive_raw()) for _ in exchange.expected]
            assert found == exchange.expected


@pytest.mark.parametrize("transport", CONNECT)
def test_a_client_made_from_the_specification_alone_gets_on(
    daemon: DaemonProcess, transport: str
) -> None:
    with CONNECT[transport](daemon) as db:
        assert db.hello()["server"] == "recordd"
        assert db.request("record.set", {"name": "t.a", "value": [1]})["value"] == [1]
        db.write("t.b", {"x": "ü"})
        assert db.request("record.get", {"name": "t.b"}) == {"x": "ü"}
        sub = db.subscribe("t.#")
        if db.websocket:
            assert db.next_event()["t"] == "subscribed"
        topics = [db.next_event()["topic"] for _ in range(2)]
        assert topics == ["t.a", "t.b"]
        db.write("t.a", 2)
        event = db.next_event()
        assert (event["t"], event["seq"], event["topic"], event["data"]) == ("event", 3, "t.a", 2)
        assert db.gaps(sub) == 0
        db.unsubscribe(sub)
        db.write("t.a", 3)
        db.ping()
        assert db.events == []
        with pytest.raises(Refused, match="not_found"):
            db.request("record.get", {"name": "nowhere"})
        assert {row["record_key"] for row in db.request("record.list")} == {"t.a", "t.b"}


@pytest.mark.parametrize("transport", CONNECT)
def test_conflation_shows_as_a_gap(start_daemon: StartDaemon, transport: str) -> None:
    """8 MB past a reader that stops: more than any socket holds."""
    daemon = start_daemon(RECORDD_SUBSCRIBER_UPDATES="10")
    with CONNECT[transport](daemon) as reader, Wire(daemon.socket_path) as writer:
        sub = reader.subscribe("#")
        reader.ping()
        reader.events.clear()
        for n in range(400):
            writer.call("record.set", name="a", value=[n, "x" * 20_000])
        seen = 0
        while seen < 399:
            event = reader.next_event()
            assert event["data"][0] >= seen
            seen = event["data"][0]
        assert 0 < reader.gaps(sub) < 400
        assert event["seq"] == 400
        assert event["rev"] == 400


@pytest.mark.parametrize("transport", CONNECT)
def test_a_history_too_long_for_one_answer_gives_the_newest_and_says_so(
    start_daemon: StartDaemon, transport: str
) -> None:
    daemon = start_daemon(RECORDD_MAX_AIMX_REPLY_BYTES=str(1 << 20))
    write_two_mebibytes(daemon)
    with CONNECT[transport](daemon) as db:
        answer = db.request("record.query", {"name": "a", "limit": 1000})
        assert (answer["total"], answer["truncated"]) == (400, True)
        times = [row["ts"] for row in answer["records"]]
        assert times == list(range(401 - len(times), 401))
        assert len(times) > 190
        few = db.request("record.query", {"name": "a", "limit": 3})
        assert few["total"] == 3
        assert "truncated" not in few


def test_on_the_unix_socket_a_long_history_comes_whole(daemon: DaemonProcess) -> None:
    write_two_mebibytes(daemon)
    with connect_unix(daemon.socket_path, max_bytes=4 << 20) as db:
        answer = db.request("record.query", {"name": "a", "limit": 1000})
        assert [row["ts"] for row in answer["records"]] == list(range(1, 401))
        assert "truncated" not in answer


def write_two_mebibytes(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket_path) as writer:
        rows = [{"name": "a", "value": "x" * 5000, "ts": n} for n in range(1, 401)]
        for start in range(0, 400, 100):
            assert writer.call("record.set_many", records=rows[start : start + 100])["last_rev"]
        whole = writer.call("record.query", name="a", limit=None, paged=False)
        assert (whole["total"], whole["truncated"]) == (400, True)


@pytest.mark.timeout(60)
def test_twenty_thousand_records_are_listed_on_the_unix_socket(daemon: DaemonProcess) -> None:
    """About a second: AimDB's command line and its MCP server have no pages to ask for."""
    names = [f"list.{n}" for n in range(20_000)]
    with Wire(daemon.socket_path) as writer:
        for start in range(0, len(names), 10_000):
            rows = [{"name": name, "value": 1} for name in names[start : start + 10_000]]
            assert writer.call("record.set_many", records=rows)["last_rev"] == start + 10_000
        for method in ("record.list", "graph.nodes"):
            assert writer.call(method)["error"]["data"]["reason"] == "too_large"
    with connect_unix(daemon.socket_path, max_bytes=16 << 20) as db:
        assert [row["record_key"] for row in db.request("record.list")] == names
        assert [node["key"] for node in db.request("graph.nodes")] == names
        assert db.request("graph.topo_order") == names
        assert len(db.request("record.query", {"name": "#"})["records"]) == len(names)


def test_the_gate_lets_no_other_major_version_in(daemon: DaemonProcess) -> None:
    for query, fits in [("v=3.0", True), ("v=3", True), ("", True), ("x=1", True), ("v=3.9", True)]:
        with connect_websocket("127.0.0.1", daemon.port, query=query) as db:
            db.ping()
        assert fits
    for query in ("v=2.0", "v=", "v=4", "v=x", "v=3.0&v=2"):
        with (
            pytest.raises(Refused) as refused,
            connect_websocket("127.0.0.1", daemon.port, query=query),
        ):
            pass
        assert "426" in str(refused.value)
        text = "incompatible AimX protocol version (server speaks 3.0)"
        assert text in str(refused.value)


def test_aimdbs_discovery_finds_the_socket_soon_also_while_busy(start_daemon: StartDaemon) -> None:
    """As `aimdb instance list` does it: `*.sock` below /tmp, then `hello`, 500 ms for both."""
    with tempfile.TemporaryDirectory(prefix="recordd-", dir="/tmp") as folder:
        path = Path(folder) / "found.sock"
        daemon = start_daemon("--socket", str(path))
        with Wire(path) as busy:
            lines = [request("record.set", n, name=f"a.{n}", value=n) for n in range(5000)]
            busy.send(*lines)
            started = time.monotonic()
            with connect_unix(path, timeout_s=5) as db:
                assert db.hello("aimdb-cli")["version"] == "3.0"
            assert time.monotonic() - started < 30  # a hang; the figure itself is for `make bench`
            assert [p.suffix for p in Path(folder).glob("*.sock")] == [".sock"]
            for _ in lines:
                assert "result" in busy.receive()
        daemon.stop()


def test_subscriptions_of_both_dialects_live_side_by_side(daemon: DaemonProcess) -> None:
    """200 writes, dialects in turn; each subscription has all of them, in order."""
    with Wire(daemon.socket_path) as wire:
        wire.send(b'{"t":"sub","id":1,"topic":"#"}', request("record.subscribe", 1, name="#"))
        assert wire.receive()["result"]["subscription"] == "s1"
        for n in range(100):
            wire.send(
                b'{"t":"req","id":%d,"method":"record.set","params":{"name":"a","value":%d}}'
                % (n, 2 * n),
                request("record.set", n, name="b", value=2 * n + 1),
            )
        got: dict[str, list[int]] = {"aimx": [], "jsonrpc": [], "replies": [], "results": []}
        while sum(map(len, got.values())) < 600:
            message = wire.receive()
            if message.get("t") == "event":
                assert message["seq"] == len(got["aimx"]) + 1
                got["aimx"].append(message["data"])
            elif message.get("method") == "record.event":
                got["jsonrpc"].append(message["params"]["value"])
            else:
                got["replies" if "t" in message else "results"].append(message["id"])
    assert got == {
        "aimx": list(range(200)),
        "jsonrpc": list(range(200)),
        "replies": list(range(100)),
        "results": list(range(100)),
    }
