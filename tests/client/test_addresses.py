"""Addresses and timeouts."""

from __future__ import annotations

import pytest
import trio

from recordd_client import (
    ConnectionFailed,
    InvalidValue,
    connect,
    open_client,
)
from recordd_client.addresses import Address, find_address


@pytest.mark.parametrize("url", ["unix:///a\0b", "ws://" + "ä" * 300, "ws://127.0.0.1:1/a b"])
def test_an_impossible_address_is_one_clear_error(url: str) -> None:
    with pytest.raises(ConnectionFailed), connect(url):
        pass

    async def connect_async() -> None:
        async with open_client(url):
            pass

    with pytest.raises(ConnectionFailed):
        trio.run(connect_async)


@pytest.mark.parametrize("timeout_s", [-1, 0, float("nan")])
def test_a_timeout_is_a_positive_number(timeout_s: float) -> None:
    with pytest.raises(InvalidValue, match="timeout_s"), connect("unix:///x", timeout_s=timeout_s):
        pass

    async def connect_async() -> None:
        async with open_client("unix:///x", timeout_s=timeout_s):
            pass

    with pytest.raises(InvalidValue, match="timeout_s"):
        trio.run(connect_async)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("unix:///run/recordd.sock", Address("unix:///run/recordd.sock", path="/run/recordd.sock")),
        ("ws://h:7/ws", Address("ws://h:7/ws", host="h", port=7, target="/ws")),
        ("ws://h", Address("ws://h", host="h", port=80, target="/ws")),
        ("ws://h:7?v=3.0", Address("ws://h:7?v=3.0", host="h", port=7, target="/ws?v=3.0")),
        ("ws://[::1]:7/x", Address("ws://[::1]:7/x", host="::1", port=7, target="/x")),
    ],
)
def test_an_address_is_read_from_a_url(url: str, expected: Address) -> None:
    assert find_address(url) == expected


def test_the_host_header_has_brackets_around_an_ipv6_address() -> None:
    assert find_address("ws://[::1]:7").host_header == "[::1]:7"
    assert find_address("ws://localhost:7").host_header == "localhost:7"


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "unix://relative",
        "unix://host/s",
        "unix:",
        "ws://",
        "/run/s",
        "ws://h:port",
        "ws://h:70000",
    ],
)
def test_a_url_of_another_form_is_refused_with_the_forms_there_are(url: str) -> None:
    with pytest.raises(ConnectionFailed, match=r"unix:///path or ws://|[Pp]ort"):
        find_address(url)


def test_without_a_url_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECORDD_CONNECT", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert find_address(None).path == "/run/user/7/recordd.sock"
    monkeypatch.setenv("RECORDD_CONNECT", "ws://h:7")
    assert find_address(None).port == 7
    assert find_address("unix:///x").path == "/x"
