"""AimX's plain requests, a `req` that reads or writes one record: see `recordd_protocol.plain`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from recordd_protocol import methods
from recordd_protocol.aimx_events import AimxEvents
from recordd_protocol.aimx_replies import encode_refusal, encode_reply, render
from recordd_protocol.dialect import PlainCall, Result
from recordd_protocol.errors import RequestError
from recordd_protocol.patterns import Pattern
from recordd_protocol.plain import answer_each, decode_leading, make_decoder, written_of
from recordd_protocol.rows import Row

__all__ = ["make_plain_decoder"]

_TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "record.get": methods.Get,
    "record.set": methods.Set,
}
"""The methods that are asked often, with parameters that need no leniency."""

_HEAD: Final = b'{"t":'
"""How AimDB's own begin; `Aimx.claims` wants the tag as text somewhere."""


class _PlainReq(msgspec.Struct, kw_only=True, gc=False):
    """A `req`, and the encoding of its outcome."""

    method: ClassVar[str]
    max_reply_bytes: ClassVar[int]
    subscription_id: ClassVar[None] = None
    wants_answer: ClassVar[bool] = True

    t: Literal["req"]
    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    params: Any

    def answer(self, result: Result) -> bytes:
        return encode_reply(self.id, render(result, self.params), self.max_reply_bytes)

    @classmethod
    def answer_rows(cls, calls: Sequence[_PlainReq], rows: Sequence[Row]) -> list[bytes]:
        return answer_each(calls, rows)

    @classmethod
    def answer_written(
        cls,
        calls: Sequence[_PlainReq],
        revs: Sequence[int | None],
        times: Sequence[int],
        late: Collection[int],
    ) -> list[bytes]:
        return answer_each(calls, written_of(revs, times, late))

    def refuse(self, error: RequestError) -> bytes:
        return encode_refusal(self.id, error)

    def encode_events(self, subscription_id: str, pattern: Pattern) -> AimxEvents:
        raise AssertionError("only `sub` opens a subscription")


@functools.lru_cache(maxsize=8)
def make_plain_decoder(max_reply_bytes: int) -> Callable[[Sequence[bytes]], Sequence[PlainCall]]:
    """Return the `Dialect.decode_plain` of AimX; it has no state, so dialects share it."""
    decode: Final = make_decoder(_PlainReq, _TYPES, {"max_reply_bytes": max_reply_bytes})

    def decode_plain(messages: Sequence[bytes]) -> Sequence[PlainCall]:
        calls = decode_leading(decode, messages)
        for position in range(len(calls)):
            if not messages[position].startswith(_HEAD):
                del calls[position:]
                break
        return calls

    return decode_plain
