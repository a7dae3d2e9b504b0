"""JSON-RPC's plain requests: see `recordd_protocol.plain`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec import Raw

from recordd_protocol.dialect import Call, Result
from recordd_protocol.errors import RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents, share_events
from recordd_protocol.jsonrpc_replies import (
    ID_STARTS,
    MAX_ID_BYTES,
    encode_answer,
    encode_error,
)
from recordd_protocol.methods import METHODS, Written
from recordd_protocol.patterns import Pattern
from recordd_protocol.plain import decode_leading, make_decoder
from recordd_protocol.rows import Row

__all__ = ["make_plain_decoder"]

_encode: Final = msgspec.json.Encoder().encode


class _PlainCall(msgspec.Struct, kw_only=True, gc=False):
    """A request object, §4, and the encoding of its outcome; an empty `id` means absent."""

    method: ClassVar[str]
    framing: ClassVar[Framing]
    max_reply_bytes: ClassVar[int]
    subscription_id: ClassVar[None] = None

    jsonrpc: Literal["2.0"]
    id: Raw = Raw(b"")
    params: Any

    @property
    def wants_answer(self) -> bool:
        return bool(self.id)

    def answer(self, result: Result) -> bytes | None:
        if not self.id:
            return None
        # As `encode_answer` for what gets and sets are answered with: to call it costs a tenth of a
        # get, a third of the answer to a set.
        if type(result) is Row:
            reply = b'{"jsonrpc":"2.0","id":%b,"result":{%b}}' % (self.id, result.body)
        elif type(result) is Written:
            reply = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (self.id, _encode(result))
        else:
            return encode_answer(self.id, result, self.max_reply_bytes)
        if len(reply) <= self.max_reply_bytes:
            return reply
        return encode_answer(self.id, result, self.max_reply_bytes)

    def refuse(self, error: RequestError) -> bytes | None:
        return encode_error(self.id, error) if self.id else None

    def encode_events(self, subscription_id: str, pattern: Pattern) -> JsonRpcEvents:
        return share_events(subscription_id, self.framing, self.max_reply_bytes)


@functools.lru_cache(maxsize=8)
def make_plain_decoder(
    framing: Framing, max_reply_bytes: int
) -> Callable[[Sequence[bytes]], Sequence[Call]]:
    """Return the `Dialect.decode_plain` of JSON-RPC on such a transport.

    It takes some 4 ms to make, for a class of each method, and has no state: dialects share it.
    """
    types = {name: method.params for name, method in METHODS.items()}
    attributes = {"framing": framing, "max_reply_bytes": max_reply_bytes}
    decode: Final = make_decoder(_PlainCall, types, attributes)

    def decode_plain(messages: Sequence[bytes]) -> Sequence[Call]:
        calls = decode_leading(decode, messages)
        for position, call in enumerate(calls):
            # As `flaw_of_id`, which would be a call for each; none is a notification's.
            if (raw := bytes(call.id)) and (raw[0] not in ID_STARTS or len(raw) > MAX_ID_BYTES):
                del calls[position:]
                break
        return calls

    return decode_plain
