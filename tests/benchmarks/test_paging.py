"""All pages are read, each by the `next` of the one before."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec
import pytest

from benchmarks.wire.paging import read_all_pages

PAGES = [
    b'{"jsonrpc":"2.0","id":1,"result":{"records":[{"rev":1},{"rev":2}],"rev":3,"next":"2"}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"records":[{"rev":3}],"rev":3,"epoch":"e"}}\n',
]
REFUSED = b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}\n'


def serve_pages(folder: Path, pages: list[bytes], asked: list[object]) -> str:
    """Answer one connection; keep the `after` of each request in `asked`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as sock, sock.makefile("rb") as lines:
            for page in pages:
                asked.append(msgspec.json.decode(lines.readline())["params"].get("after"))
                sock.sendall(page)
            lines.read()

    threading.Thread(target=serve).start()
    return str(folder / "s")


def test_rows_are_counted_on_all_pages(tmp_path: Path) -> None:
    asked: list[object] = []
    rows, seconds = read_all_pages(serve_pages(tmp_path, PAGES, asked))
    assert rows == 3
    assert seconds > 0
    assert asked == [None, "2"]


def test_a_refused_page_ends_the_reading(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="error"):
        read_all_pages(serve_pages(tmp_path, [PAGES[0], REFUSED], []))
