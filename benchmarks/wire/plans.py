"""What the load generator is to send: requests as bytes, and how many answers each has."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

__all__ = ["NO_SETUP", "Protocol", "Request", "Setup", "encode_plan", "write_plan"]

Protocol = Literal["lines", "resp", "pg", "nats", "ws"]

_MAGIC: Final = b"PLAN"
_SETUP: Final = struct.Struct("<II")
_REQUEST: Final = struct.Struct("<III")


class Request(msgspec.Struct, frozen=True):
    """One request; `answers` is the number of answers that it has.

    Neither it nor its time is counted where `counted` is false.
    """

    line: bytes
    answers: int = 1
    counted: bool = True


class Setup(msgspec.Struct, frozen=True):
    """The first bytes of each connection, and the number of answers to them."""

    opening: bytes
    answers: int


NO_SETUP: Final = Setup(b"", 0)


def encode_plan(setup: Setup, requests: Sequence[Request]) -> bytes:
    """Return a plan as `read_binary_plan` of loadgen.c reads it."""
    parts = [_MAGIC, _SETUP.pack(setup.answers, len(setup.opening)), setup.opening]
    parts.append(struct.pack("<I", len(requests)))
    for request in requests:
        parts.append(_REQUEST.pack(request.answers, request.counted, len(request.line)))
        parts.append(request.line)
    return b"".join(parts)


def write_plan(path: Path, setup: Setup, requests: Iterable[Request]) -> Path:
    """Write a plan to the file `path`; return `path`."""
    path.write_bytes(encode_plan(setup, list(requests)))
    return path
