"""Methods of both clients that are more than one call."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from recordd_client import (
    Expired,
    connect,
    open_client,
)
from tests.client.servers import (
    StartServer,
    answer_to,
)


class Pages:
    """Serves a query of two pages, whose second expires for so many times."""

    def __init__(self, expiries: int) -> None:
        self.expiries = expiries

    def __call__(self, connection: socket.socket) -> None:
        for line in connection.makefile():
            connection.sendall(self._answer(line).encode() + b"\n")

    def _answer(self, line: str) -> str:
        request = json.loads(line)
        if request["method"] == "record.count":
            return answer_to(line, result={"records": 2, "rows": 2})
        page = {"rev": 2, "epoch": "e"}
        if "after" not in request["params"]:
            row = {"name": "a", "value": 1, "ts": 1, "rev": 1}
            return answer_to(line, result={**page, "records": [row], "next": "n"})
        if self.expiries:
            self.expiries -= 1
            error = {"code": -32011, "message": "rows behind the page are gone"}
            return answer_to(line, error=error)
        row = {"name": "b", "value": 2, "ts": 2, "rev": 2}
        return answer_to(line, result={**page, "records": [row]})


@pytest.mark.parametrize("expiries", [0, 1, 2])
async def test_pages_that_expire_are_asked_for_anew(
    start_server: StartServer, short_path: Path, expiries: int
) -> None:
    serve = Pages(expiries)
    start_server(serve)
    with connect(f"unix://{short_path}/s") as db:
        assert [row.name for row in db.query_latest().rows] == ["a", "b"]
    serve.expiries = expiries
    async with open_client(f"unix://{short_path}/s") as async_db:
        page = await async_db.query_range("#", 0, None)
        assert [row.name for row in page.rows] == ["a", "b"]


def test_pages_that_go_on_expiring_are_an_error(
    start_server: StartServer, short_path: Path
) -> None:
    start_server(Pages(99))
    with connect(f"unix://{short_path}/s") as db, pytest.raises(Expired, match="behind the page"):
        db.query_latest()
