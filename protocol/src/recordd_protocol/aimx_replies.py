"""Answers of AimX to a `req`."""

from __future__ import annotations

from typing import Final

import msgspec

from recordd_protocol import methods
from recordd_protocol.dialect import Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.rendering import render_result, render_topics
from recordd_protocol.rows import Page, Row

__all__ = ["encode_refusal", "encode_reply", "render"]

_MAX_TEXT_BYTES: Final = 300
_encode: Final = msgspec.json.Encoder().encode


def encode_reply(id: int, ok: bytes, max_bytes: int) -> bytes:
    """Return a reply, or its refusal where it would be too long or read as no reply."""
    if ok == b"null":
        text = "the value is null, which AimX cannot tell from no value"
        return encode_refusal(id, RequestError(Reason.INTERNAL, text))
    reply = b'{"t":"reply","id":%d,"ok":%b}' % (id, ok)
    if len(reply) > max_bytes:
        text = f"the answer has {len(reply)} bytes, limit {max_bytes}"
        return encode_refusal(id, RequestError(Reason.TOO_LARGE, text))
    return reply


def encode_refusal(id: int, error: RequestError) -> bytes:
    """Return the refusal; `msg` says more than AimX has words for."""
    text = error.message
    if len(text) > _MAX_TEXT_BYTES // 6:  # an escape takes six bytes
        text = text.encode("ascii", "backslashreplace").decode()[:_MAX_TEXT_BYTES]
    word = error.reason.aimx.encode()
    return b'{"t":"reply","id":%d,"err":"%b","msg":%b}' % (id, word, _encode(text))


def render(result: Result, params: object) -> bytes:
    """Render a result in AimX's shape; values are spliced."""
    if isinstance(result, Row):
        return result.value
    if isinstance(result, Page):
        return render_topics(result)
    if isinstance(result, methods.Written):
        assert isinstance(params, methods.Set), "only a set is answered with Written"
        return b'{"status":"success","value":%b}' % bytes(params.value)
    return render_result(result)
