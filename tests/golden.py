"""Golden transcripts: files of what a client sends (`> `) and what comes back (`< `).

Lines that begin with `#` are comments. What a client sends in a row goes out together;
what comes back has to be exactly that, in that order. The parts that differ from run to
run (epoch, version, times of now) are written as in `_VARYING`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDER", "LINES", "Exchange", "generalize", "pieces_of", "read_transcript"]

FOLDER = Path(__file__).parent / "transcripts"
LINES = sorted(path.name for path in FOLDER.glob("*.aimx") if path.name != "websocket.aimx")
"""Transcripts of a Unix socket."""

_VARYING = (
    (re.compile(rb'"epoch":"[0-9a-f]{16}"'), b'"epoch":"0123456789abcdef"'),
    (re.compile(rb'"server_version":"[^"]*"'), b'"server_version":"0"'),
    (re.compile(rb'"ts":1[0-9]{12}\b'), b'"ts":1000000000000'),
)


class Exchange(NamedTuple):
    """What is sent together, and what comes back."""

    sent: list[bytes]
    expected: list[bytes]

    def as_lines(self) -> bytes:
        """Return what is sent as a stream of lines."""
        return b"".join(line + b"\n" for line in self.sent)


def read_transcript(name: str) -> list[Exchange]:
    """Read a file of the folder."""
    exchanges: list[Exchange] = []
    for line in (FOLDER / name).read_bytes().splitlines():
        mark, text = line[:2], line[2:]
        if mark == b"> ":
            if not exchanges or exchanges[-1].expected:
                exchanges.append(Exchange([], []))
            exchanges[-1].sent.append(text)
        elif mark == b"< ":
            exchanges[-1].expected.append(text)
        else:
            assert line.startswith(b"#"), line
    return exchanges


def generalize(message: bytes) -> bytes:
    """Replace what differs from run to run."""
    for pattern, replacement in _VARYING:
        message = pattern.sub(replacement, message)
    return message


def pieces_of(data: bytes, *, split: bool) -> list[bytes]:
    """Return the data whole, or byte by byte."""
    return [data[n : n + 1] for n in range(len(data))] if split else [data]
