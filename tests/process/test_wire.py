"""The wire against a real daemon: what needs a restart, a socket or a setting of its own."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from recordd.config.settings import Settings
from recordd_client import connect
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.wire import WebSocketWire, Wire, request

PAGE = "https://app.example"


def test_rows_from_before_the_window_stay_readable(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.set", name="a", value="old", ts=7)["rev"] == 1
    daemon.stop()
    daemon = start_daemon(RECORDD_MIN_TS=str(Settings().min_ts))
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.get", name="a")["value"] == "old"
        assert [row["ts"] for row in wire.call("record.query", name="a", limit=5)["records"]] == [7]
        refused = wire.call("record.set", name="a", value="new", ts=8)
        assert refused["error"]["data"]["reason"] == "invalid_params"
        assert wire.call("record.set", name="a", value="new")["rev"] == 2


def ask(daemon: DaemonProcess, method: str, path: str, origin: str) -> tuple[int, dict[str, str]]:
    """Return status and headers, which a browser judges by."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    connection.request(method, path, headers=headers if origin else {})
    response = connection.getresponse()
    assert bool(response.read()) == (method == "GET")
    connection.close()
    return response.status, {key.lower(): value for key, value in response.getheaders()}


@pytest.mark.parametrize("path", ["/version", "/health"])
def test_pages_of_allowed_origins_may_read_version_and_health(
    start_daemon: StartDaemon, path: str
) -> None:
    daemon = start_daemon(RECORDD_ALLOWED_ORIGINS=f"https://other.example,{PAGE}")
    for method in ("GET", "OPTIONS"):
        status, headers = ask(daemon, method, path, PAGE)
        assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
        assert headers["vary"] == "Origin"
        assert ("access-control-allow-methods" in headers) == (method == "OPTIONS")
        for stranger in ("https://evil.example", "null", ""):
            status, headers = ask(daemon, method, path, stranger)
            assert status == 200
            assert not [name for name in headers if name.startswith("access-control")]


def test_pages_of_any_origin_may_read_them_where_the_setting_says_so(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(RECORDD_ALLOWED_ORIGINS="*")
    assert ask(daemon, "GET", "/version", PAGE)[1]["access-control-allow-origin"] == PAGE


def test_a_replay_says_that_retention_took_rows_behind_its_start(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(RECORDD_KEEP_LATEST="false")
    with connect(daemon.url) as db:
        assert db.set_many([("a", n, n) for n in range(1, 5)]).last_rev == 4
        db.set("b", 1)
        assert db.replay(1).oldest_rev is None
    daemon.stop()
    daemon = start_daemon(RECORDD_RETENTION="1d", RECORDD_KEEP_LATEST="false")
    with connect(daemon.url) as db:
        while db.count().records > 1:
            pass  # until retention was there
        page = db.replay(1)
        assert page.oldest_rev is not None
        assert page.oldest_rev > 4
        assert [row.name for row in page.rows] == ["b"]


def test_a_ring_holds_its_latest_value_alone_after_a_restart(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    config = tmp_path / "ring.toml"
    config.write_text('[[record]]\nname = "ring"\nbuffer = "spmc_ring"\ncapacity = 3\n')
    daemon = start_daemon("--config", str(config))
    with Wire(daemon.socket_path) as wire:
        for n in range(5):
            wire.call("record.set", name="ring", value=n)
        assert wire.call("record.drain", name="ring")["values"] == [2, 3, 4]
    daemon.stop()
    daemon.start()
    with Wire(daemon.socket_path) as wire:
        assert wire.call("record.drain", name="ring")["values"] == [4]
        assert wire.call("record.drain", name="ring")["values"] == []


def test_a_value_with_line_breaks_loses_the_space_between_its_tokens_alone(
    daemon: DaemonProcess,
) -> None:
    text = b'{"id":1,"jsonrpc":"2.0","method":"record.set","params":{"name":"%b","value":%b}}'
    kept = rb'{ "a b" : [1.50,"\n x"] }'
    with WebSocketWire(daemon.port) as wire, Wire(daemon.socket_path) as lines:
        for name, value, stored in (
            (b"kept", kept, kept),
            (b"broken", kept.replace(b"[", b"\r\n["), rb'{"a b":[1.50,"\n x"]}'),
        ):
            wire.sock.sendall(wire.encode(text % (name, value)))
            assert b'"result"' in wire.receive_raw()
            lines.send(request("record.get", 1, name=name.decode()))
            assert b'"value":%b,' % stored in lines.receive_raw()
