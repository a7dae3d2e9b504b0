"""Messages that are JSON with parts that msgspec cannot read: the rest is made legible.

Half a surrogate pair is legal in JSON's grammar (RFC 8259 §8.2) and so is any depth, yet
msgspec reads nothing of a message that has either. Here they are replaced by text of the same
length: the rest can be read, and each call gets its own answer. A call whose text differs from
the original has to be refused. Only messages that could not be read come here.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["FLAW", "UNREADABLE", "is_flawed", "mend"]

_MARK: Final = rb"\uFdD0"
"""A noncharacter, in a spelling that no encoder writes."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for bytes that it cannot read; only the first is an error of its own."""

FLAW: Final = "holds half a surrogate pair, or nests too deep"

_MAX_NESTING: Final = 500
"""Levels that stay: half of CPython's 1,000, the other half is for the callers."""

_MAX_BRACKETS: Final = 65_536
"""Each is looked at, which takes some 15 ms; in a message with more only text is mended."""

_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Everything up to a lone half in one match, so that a message costs one pass in C. A backslash
# without an escape is passed over: the decoder will say so.
_UP_TO_HALF: Final = re.compile(
    rb"(?:[^\\]++|\\[^u]|%b%b|\\u(?![dD][89a-fA-F]))*+(?:(%b|%b)|[\s\S])?"
    % (_HIGH, _LOW, _HIGH, _LOW)
)
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+"|[\[{\]}]')


def mend(message: bytes) -> bytes:
    """Return the message in its length, with parts that msgspec cannot read replaced."""
    mended = message
    if b"\\ud" in message or b"\\uD" in message:
        mended = _UP_TO_HALF.sub(_replace_half, mended)
    brackets = message.count(b"[") + message.count(b"{")
    if _MAX_NESTING < brackets <= _MAX_BRACKETS:
        mended = _flatten(mended)
    return mended


def is_flawed(mended: bytes) -> bool:
    """Tell whether a part of a message from `mend` is replaced text."""
    return _MARK in mended


def _replace_half(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else found[0][: -len(_MARK)] + _MARK


def _flatten(message: bytes) -> bytes:
    """Replace values that nest deeper than `_MAX_NESTING` by a zero and spaces."""
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
