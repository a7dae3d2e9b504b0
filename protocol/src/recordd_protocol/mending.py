"""Messages that are JSON, but hold what msgspec cannot read: legible again around it.

Half a surrogate pair is legal in JSON's grammar (RFC 8259 §8.2) and so is any depth, yet
msgspec reads nothing of a message that has either. Here they are replaced by something of
the same length: the rest can be read, each call gets its own answer, and what differs from
the original is what has to be refused. Only messages that could not be read come here.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["FLAW", "UNREADABLE", "is_flawed", "mend"]

_MARK: Final = rb"\uFdD0"
"""A noncharacter, in a spelling that no encoder writes."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot read; only the first is an error of its own."""

FLAW: Final = "holds half a surrogate pair, or nests too deep"

_MAX_NESTING: Final = 500
"""What is left: half of CPython's 1,000 levels, the other half is for who calls."""

_MAX_BRACKETS: Final = 65_536
"""Looked at one by one, some 15 ms; in a message with more nothing is mended but text."""

_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Everything up to a lone half in one match, so that a message costs one pass in C. What is
# no escape at all is passed over: the decoder will say so.
_UP_TO_HALF: Final = re.compile(
    rb"(?:[^\\]++|\\[^u]|%b%b|\\u(?![dD][89a-fA-F]))*+(?:(%b|%b)|[\s\S])?"
    % (_HIGH, _LOW, _HIGH, _LOW)
)
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"|[\[{\]}]')


def mend(message: bytes) -> bytes:
    """Return the message, as long as it was, with what msgspec cannot read replaced."""
    mended = message
    if b"\\ud" in message or b"\\uD" in message:
        mended = _UP_TO_HALF.sub(_replace_half, mended)
    brackets = message.count(b"[") + message.count(b"{")
    if _MAX_NESTING < brackets <= _MAX_BRACKETS:
        mended = _flatten(mended)
    return mended


def is_flawed(mended: bytes) -> bool:
    """Tell whether a part of what `mend` returned was replaced text."""
    return _MARK in mended


def _replace_half(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else found[0][: -len(_MARK)] + _MARK


def _flatten(message: bytes) -> bytes:
    """Replace what nests deeper than `_MAX_NESTING` by a zero and spaces."""
    parts: list[bytes] = []
    depth = done = start = 0
    for token in _TOKENS.finditer(message):
        if token[0] in b"[{":
            depth += 1
            if depth == _MAX_NESTING + 1:
                start = token.start()
        elif token[0] in b"]}":
            if depth == _MAX_NESTING + 1:
                parts += [message[done:start], b"0".ljust(token.end() - start)]
                done = token.end()
            depth -= 1
    return b"".join([*parts, message[done:]])
