"""Answers of JSON-RPC 2.0, and the ids that they carry, §5."""

from __future__ import annotations

from typing import Final

import msgspec

from recordd_protocol.dialect import Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.rendering import render_page_end, render_result
from recordd_protocol.rows import Page, Row

__all__ = ["ID_STARTS", "MAX_ID_BYTES", "encode_answer", "encode_error", "flaw_of_id"]

MAX_ID_BYTES: Final = 1024
"""An id is echoed in the answer: unbounded, it would let an answer outgrow its limit."""

ID_STARTS: Final = b'"-0123456789n'
"""The first byte of a string, a number or null."""

_MAX_TEXT_BYTES: Final = 300
_encode: Final = msgspec.json.Encoder().encode


def flaw_of_id(raw: bytes) -> str | None:
    """Return why an id cannot be echoed; None where it can."""
    if raw[0] not in ID_STARTS:
        return "id: must be a string, a number or null"
    return "id: too long" if len(raw) > MAX_ID_BYTES else None


def encode_answer(id: bytes | msgspec.Raw, result: Result, room: int) -> bytes:
    """Return the answer with a result, or its refusal where that has more than `room` bytes."""
    if type(result) is Row:  # spliced in one step: the most frequent result
        reply = b'{"jsonrpc":"2.0","id":%b,"result":{%b}}' % (id, result.body)
    elif type(result) is Page and result.texts:
        reply = _encode_texts(id, result, result.texts)
    elif type(result) is Page and result.text is not None:  # one copy: of 150 kB it takes 8 µs
        start = b'{"jsonrpc":"2.0","id":%b,"result":{"records":[{' % id
        reply = b"".join((start, result.text, b"}]", render_page_end(result), b"}"))
    else:
        reply = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, render_result(result))
    if len(reply) > room:
        refusal = f"the answer has {len(reply)} bytes, room for {room}; ask for less"
        return encode_error(id, RequestError(Reason.TOO_LARGE, refusal))
    return reply


def _encode_texts(id: bytes | msgspec.Raw, page: Page, texts: list[bytes]) -> bytes:
    """Return the answer with a page: what is around its texts becomes a part of the outer ones.

    So the texts are copied once: each copy of 150 kB takes 8 µs.
    """
    parts = texts.copy()
    parts[0] = b'{"jsonrpc":"2.0","id":%b,"result":{"records":[%b' % (id, parts[0])
    parts[-1] = b"%b]%b}" % (parts[-1], render_page_end(page))
    return b",".join(parts)


def encode_error(id: bytes | msgspec.Raw, error: RequestError) -> bytes:
    """Return the answer that refuses."""
    reason = error.reason
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (
        id,
        _encode(
            {
                "code": reason.code,
                "message": _shorten(error.message),
                "data": {"reason": reason.word, "retryable": reason.retryable},
            }
        ),
    )


def _shorten(text: str) -> str:
    """Bound a text in bytes as encoded: it may quote a client's own text."""
    if len(_encode(text)) <= _MAX_TEXT_BYTES:
        return text
    return text.encode("ascii", "backslashreplace").decode()[: _MAX_TEXT_BYTES // 6] + "…"
