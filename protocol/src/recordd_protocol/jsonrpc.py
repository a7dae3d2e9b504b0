"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification) as a dialect.

Requests, notifications and batches; `params` by name. An `id` is echoed byte for byte
as it came, so a client's number stays the very number that it sent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from recordd_protocol.dialect import Call, Malformed, Result
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.framing import Framing
from recordd_protocol.jsonrpc_events import JsonRpcEvents, share_events
from recordd_protocol.jsonrpc_plain import make_plain_decoder
from recordd_protocol.jsonrpc_replies import encode_answer, encode_error, flaw_of_id
from recordd_protocol.mending import FLAW, UNREADABLE, is_flawed, mend
from recordd_protocol.patterns import Pattern

__all__ = ["JsonRpc"]

_MAX_COUNTED: Final = 10_000
"""Members that are counted before all are read: each is a field of a class."""

_REFUSAL_BYTES: Final = 512
"""Room kept in a batch's answer for each call still out, beside its id: for any refusal."""

_NO_PARAMS: Final = b"{}"


class _RequestObject(msgspec.Struct):
    """A request object, §4; an empty `id` or `params` means absent."""

    jsonrpc: Literal["2.0"]
    method: str
    id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")


class _FlawedRequestObject(_RequestObject):
    """A request that could only be read in part: it is refused, with its id."""


_FLAWED_PARAMS: Final = RequestError(Reason.INVALID_PARAMS, f"params: text {FLAW}")
_decode_request: Final = msgspec.json.Decoder(_RequestObject).decode
_decode_flawed: Final = msgspec.json.Decoder(_FlawedRequestObject).decode
_decode_batch: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_id: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JsonRpc:
    """The dialect, with the limits that its answers and batches keep."""

    name: Final = "jsonrpc"

    def __init__(self, framing: Framing, *, max_reply_bytes: int, max_batch_calls: int) -> None:
        self.framing: Final = framing
        self.max_reply_bytes: Final = max_reply_bytes
        self._max_batch_calls: Final = max_batch_calls
        self.decode_plain: Final = make_plain_decoder(framing, max_reply_bytes)
        """See `Dialect.decode_plain`."""

    def claims(self, message: bytes) -> bool:
        """Claim every message: one that no other dialect claims is JSON-RPC."""
        return True

    def decode(self, message: bytes) -> list[Call | Malformed]:
        """Return the calls of a request or a batch; see `Dialect.decode`."""
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError as error:
                return [_malformed(b"null", _parse_error(error))]
        if message[:1] != b"{" and message.lstrip()[:1] == b"[":
            return self._decode_batch(message)
        request = _read_request(message)
        return [request if isinstance(request, Malformed) else _JsonRpcCall(request, self)]

    def refuse_message(self, error: RequestError) -> bytes:
        """Encode a refusal whose id could not be determined: null, §5."""
        return encode_error(b"null", error)

    def _decode_batch(self, message: bytes) -> list[Call | Malformed]:
        try:
            requests = _read_batch(message, self._max_batch_calls)
        except RequestError as error:
            return [_malformed(b"null", error)]
        reserved = sum(_reserve_of(request) for request in requests)
        batch = _BatchReply(len(requests), reserved, self.max_reply_bytes)
        calls: list[Call | Malformed] = []
        for request in requests:
            if isinstance(request, Malformed):
                # The last one in completes the array, unless calls are still out.
                calls.append(Malformed(request.text, batch.add(request.reply)))
            else:
                calls.append(_JsonRpcCall(request, self, batch))
        return calls


class _JsonRpcCall:
    """One request object of a message, and the batch that its answer joins, if any."""

    __slots__ = ("_batch", "_dialect", "_id", "method", "params")

    subscription_id: Final = None

    def __init__(
        self, request: _RequestObject, dialect: JsonRpc, batch: _BatchReply | None = None
    ) -> None:
        self.method: Final = request.method
        self.params: Final = (
            _FLAWED_PARAMS
            if type(request) is _FlawedRequestObject
            else bytes(request.params) or _NO_PARAMS
        )
        self._id: Final = bytes(request.id)
        self._dialect: Final = dialect
        self._batch: Final = batch

    @property
    def max_reply_bytes(self) -> int:
        return self._dialect.max_reply_bytes

    @property
    def wants_answer(self) -> bool:
        return bool(self._id)

    def answer(self, result: Result) -> bytes | None:
        if not self._id:
            return self._deliver(None)
        room = self._dialect.max_reply_bytes
        if self._batch is not None:
            room = self._batch.room + _REFUSAL_BYTES + len(self._id)
        return self._deliver(encode_answer(self._id, result, room))

    def refuse(self, error: RequestError) -> bytes | None:
        return self._deliver(encode_error(self._id, error) if self._id else None)

    def encode_events(self, subscription_id: str, pattern: Pattern) -> JsonRpcEvents:
        dialect = self._dialect
        return share_events(subscription_id, dialect.framing, dialect.max_reply_bytes)

    def _deliver(self, reply: bytes | None) -> bytes | None:
        return reply if self._batch is None else self._batch.add(reply, len(self._id))


class _BatchReply:
    """The answers of a batch, joined into one array when the last one is in, §6."""

    __slots__ = ("_max_bytes", "_outstanding", "_replies", "_reserved", "_size")

    def __init__(self, calls: int, reserved: int, max_bytes: int) -> None:
        self._outstanding = calls
        self._reserved = reserved
        self._replies: Final[list[bytes]] = []
        self._size = 2
        self._max_bytes: Final = max_bytes

    @property
    def room(self) -> int:
        """Bytes that are not taken, and not reserved for the refusals of calls still out."""
        return self._max_bytes - self._size - self._reserved

    def add(self, reply: bytes | None, id_bytes: int = 0) -> bytes | None:
        """Take one call's answer (None from a notification); return the array if complete.

        A batch of notifications alone is answered with nothing at all, §6.
        """
        self._outstanding -= 1
        self._reserved -= _REFUSAL_BYTES + id_bytes
        if reply is not None:
            self._replies.append(reply)
            self._size += len(reply) + 1
        if self._outstanding or not self._replies:
            return None
        return b"[%b]" % b",".join(self._replies)


def _reserve_of(request: _RequestObject | Malformed) -> int:
    return _REFUSAL_BYTES + (0 if isinstance(request, Malformed) else len(bytes(request.id)))


def _read_batch(message: bytes, max_calls: int) -> list[_RequestObject | Malformed]:
    """Return the members of a batch, each read on its own.

    Raises:
        RequestError: where it is no batch, or none that is taken.
    """
    mended = message
    try:
        _check_count(message, max_calls)
        members = _decode_batch(message)
    except UNREADABLE as error:
        mended = mend(message)
        members = _decode_mended_batch(mended, error, max_calls)
    if not members:
        raise _invalid_request("empty batch")
    if len(members) > max_calls:
        raise _too_many(max_calls)
    if mended is message:
        return [_read_request(bytes(member)) for member in members]
    requests: list[_RequestObject | Malformed] = []
    end = 0
    for member in map(bytes, members):
        start = mended.index(member, end)  # between two members there is nothing but `,`
        end = start + len(member)
        is_whole = message[start:end] == member
        requests.append(_read_request(member) if is_whole else _read_flawed(member))
    return requests


def _check_count(message: bytes, max_calls: int) -> None:
    """Refuse far too many members before there is an object for each: 500,000 took 0.1 s.

    Raises:
        RequestError: `too_large`; the decoder's own errors for text that it cannot read.
    """
    is_counted = max_calls <= _MAX_COUNTED and message.count(b",") >= max_calls
    if is_counted and bytes(_decoder_of_first(max_calls + 1)(message).last):
        raise _too_many(max_calls)


@functools.lru_cache(maxsize=4)
def _decoder_of_first(count: int) -> Callable[[bytes], Any]:
    """Return a decoder that passes over the members of an array behind the first so many."""
    names = [*(f"member_{n}" for n in range(count - 1)), "last"]
    fields = [(name, msgspec.Raw, msgspec.Raw(b"")) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("First", fields, array_like=True)).decode


def _too_many(max_calls: int) -> RequestError:
    return RequestError(Reason.TOO_LARGE, f"a batch of more than {max_calls} calls, the limit")


def _decode_mended_batch(mended: bytes, cause: Exception, max_calls: int) -> list[msgspec.Raw]:
    try:
        _check_count(mended, max_calls)
        members = _decode_batch(mended)
    except UNREADABLE:
        raise _parse_error(cause) from None
    if not any(bytes(member).startswith(b"{") for member in members):
        raise _parse_error(cause)  # nothing in it that could have an answer of its own
    return members


def _read_request(message: bytes) -> _RequestObject | Malformed:
    """Return the request object in `message`, or why there is none."""
    try:
        request = _decode_request(message)
    except msgspec.ValidationError as error:
        return _explain(message, error)
    except UNREADABLE as error:
        mended = mend(message)
        if mended == message:
            return _malformed(b"null", _parse_error(error))
        return _read_flawed(mended)
    if request.id and (flaw := flaw_of_id(bytes(request.id))):
        return _malformed(b"null", _invalid_request(flaw))
    if request.params and (params := bytes(request.params))[:1] != b"{":
        return _read_odd_params(request, params)
    return request


def _read_odd_params(request: _RequestObject, params: bytes) -> _RequestObject | Malformed:
    """Take null for no parameters; refuse anything but an object."""
    if params == b"null":
        request.params = msgspec.Raw(b"")
        return request
    echoed_id = bytes(request.id) or b"null"
    if params[:1] != b"[":
        return _malformed(echoed_id, _invalid_request("params: must be an object"))
    if not request.id:
        return request  # a notification is never answered; its handler refuses it
    refusal = "params: must be an object: parameters go by name, not by position"
    return _malformed(echoed_id, RequestError(Reason.INVALID_PARAMS, refusal))


def _read_flawed(mended: bytes) -> _RequestObject | Malformed:
    """Return a request that is refused where it is called, or why there is none."""
    try:
        request = _decode_flawed(mended)
    except UNREADABLE as error:
        return _explain(mended, error)
    if not request.id:
        return request
    echoed_id = bytes(request.id)
    if is_flawed(echoed_id):
        return _malformed(b"null", _invalid_request("id: holds half a surrogate pair"))
    if flaw := flaw_of_id(echoed_id):
        return _malformed(b"null", _invalid_request(flaw))
    return request


def _explain(message: bytes, error: Exception) -> Malformed:
    """Tell JSON that is no request from text that is no JSON, and find the id if there is one."""
    try:
        parsed = _decode_id(message)
    except msgspec.ValidationError:  # JSON, but no object
        return _malformed(b"null", _invalid_request("a request must be an object"))
    except UNREADABLE:
        return _malformed(b"null", _parse_error(error))
    if "method" not in parsed and ("result" in parsed or "error" in parsed):
        # To answer an answer could go on for ever between two servers.
        return Malformed("a response, and nothing was asked")
    echoed_id = bytes(parsed.get("id", b"null"))
    if flaw_of_id(echoed_id) or is_flawed(echoed_id):
        echoed_id = b"null"
    return _malformed(echoed_id, _invalid_request(str(error)))


def _malformed(id: bytes, error: RequestError) -> Malformed:
    return Malformed(error.message, encode_error(id, error))


def _parse_error(error: Exception) -> RequestError:
    text = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return RequestError(Reason.PARSE_ERROR, text)


def _invalid_request(text: str) -> RequestError:
    return RequestError(Reason.INVALID_REQUEST, text)
