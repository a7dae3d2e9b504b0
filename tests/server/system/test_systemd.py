"""What the service manager is told, on either kind of its socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from recordd.system.systemd import notify


@pytest.mark.parametrize("is_abstract", [True, False], ids=["abstract", "file"])
def test_the_manager_is_told(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    path = f"{short_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path if is_abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if is_abstract else path)
        notify("READY=1")
        manager.settimeout(10)
        assert manager.recv(100) == b"READY=1"


def test_a_manager_that_is_gone_stops_nothing(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "gone"))
    notify("READY=1")
    assert "cannot be told READY=1" in caplog.text


def test_without_a_manager_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    assert not caplog.records
