"""Requests as values: the parameters of each method, and the reading of its answer.

Both clients are made of these; neither knows more of the protocol than how to carry a
`Request` there and its answer back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from recordd_client.errors import ClientError, InvalidValue, ProtocolError, TooLarge, refusal_of
from recordd_client.rows import Row, decode_row
from recordd_client.values import encode_json, encode_value
from recordd_protocol import PROTOCOL_VERSION, methods
from recordd_protocol.errors import Reason
from recordd_protocol.methods import METHODS

__all__ = [
    "ALWAYS_TAKEN_BYTES",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "PAGING_ATTEMPTS",
    "Incoming",
    "Request",
    "RowLike",
    "check_size",
    "encode_request",
    "read_incoming",
    "split_at_answer",
]

T = TypeVar("T")

RowLike = (
    tuple[str, Any]
    | tuple[str, Any, int | None]
    | tuple[str, Any, int | None, int | None]
    | Row[Any]
)
"""Name, value, and optionally `ts` in Unix ms and `if_rev`; or a row as a query returns it."""

ALWAYS_TAKEN_BYTES: Final = 1024
"""Every daemon takes so much in one message: its limit matters for longer ones alone."""

DEFAULT_MAX_MESSAGE_BYTES: Final = 1 << 20
"""The limit of a daemon that does not tell its own."""


class Request(Generic[T]):
    """A method with its parameters, and the type that its result is decoded to."""

    def __init__(
        self,
        method: str,
        params: msgspec.Struct,
        convert: Callable[[Any], T] | None = None,
    ) -> None:
        self.method: Final = method
        self.params: Final = params
        self.is_write: Final = METHODS[method].is_write
        self.is_drain: Final = method == "record.drain"
        """Whether it goes on from the end of the connection's previous drain."""
        self._result: Final = METHODS[method].result
        self._convert: Final = convert

    def decode(self, result: msgspec.Raw) -> T:
        """Return the typed result.

        Raises:
            ProtocolError: the answer is not of the type that the method returns.
        """
        try:
            decoded = msgspec.json.decode(result, type=self._result)
        except msgspec.ValidationError as error:
            raise ProtocolError(f"{self.method}: {error}") from None
        converted: T = decoded if self._convert is None else self._convert(decoded)
        return converted


class _WireError(msgspec.Struct):
    code: int
    message: str


class Incoming(msgspec.Struct):
    """An answer from the daemon, or an event, which has no `id` but `params`."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _WireError | None = None
    params: methods.Event | None = None

    @property
    def refuses_connection(self) -> bool:
        """Whether the daemon takes no more requests and closes; a refused one has no effect."""
        codes = (Reason.TOO_LARGE.code, Reason.OVERLOADED.code)
        return self.id is None and self.error is not None and self.error.code in codes

    def error_or_none(self) -> ClientError | None:
        """Return the error as an exception, or None where there is a result."""
        return None if self.error is None else refusal_of(self.error.code, self.error.message)

    def result_or_raise(self) -> msgspec.Raw:
        """Return the raw result, or raise the error as an exception."""
        if (error := self.error_or_none()) is not None:
            raise error
        return self.result


PAGING_ATTEMPTS: Final = 3
"""Attempts at all pages: rows may be deleted behind a page while the next comes."""

_ROW_SHAPE: Final = "rows are (name, value), (name, value, ts) or (name, value, ts, if_rev)"

_decode_answer: Final = msgspec.json.Decoder(Incoming).decode
_decode_answers: Final = msgspec.json.Decoder(list[Incoming]).decode


def encode_request(request: Request[Any], id: int) -> bytes:
    """Return a JSON-RPC request object, without a line end.

    Raises:
        InvalidValue: where a parameter cannot be written as JSON.
    """
    try:
        params = _without_defaults(request.params)
        return encode_json({"jsonrpc": "2.0", "id": id, "method": request.method, "params": params})
    except InvalidValue as error:
        raise InvalidValue(f"{request.method}: {error}") from None


def check_size(request: Request[Any], message: bytes, max_message_bytes: int) -> None:
    """Refuse a message that the daemon would refuse: it would close the connection too.

    Raises:
        TooLarge: nothing was sent.
    """
    if len(message) > max_message_bytes:
        text = f"{request.method}: a request of {len(message)} bytes, the daemon takes"
        raise TooLarge(f"{text} {max_message_bytes} (its max_message_bytes)")


def read_incoming(message: bytes | str) -> list[Incoming]:
    """Read one message from the daemon: an answer, an event, or an array of them.

    Raises:
        ProtocolError: where the message is no JSON-RPC.
    """
    try:
        if message[:1] in (b"[", "["):
            return _decode_answers(message)
        return [_decode_answer(message)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the daemon sent no JSON-RPC: {error}") from None


def split_at_answer(
    found: list[Incoming], request_id: int
) -> tuple[Incoming | None, list[Incoming]]:
    """Return the answer to a request, if it is there, and the rest behind it.

    A refusal without an id counts: the daemon could not tell which request it refuses.
    """
    for index, incoming in enumerate(found):
        if incoming.id == request_id or incoming.error:
            return incoming, found[index + 1 :]
    return None, []


def hello(client: str, auth_token: str | None) -> Request[methods.Welcome]:
    """Introduce the client."""
    return Request("hello", methods.Hello(client, PROTOCOL_VERSION, auth_token))


def probe() -> Request[methods.Welcome]:
    """Ask for any sign of life."""
    return hello("recordd-client", None)


def list_records(name: str, after: int, limit: int | None) -> Request[list[methods.RecordInfo]]:
    """List records."""
    return Request("record.list", methods.List(name, after, limit))


def get(name: str, as_type: Any) -> Request[Row[Any]]:
    """Read the latest row of one record."""
    return Request("record.get", methods.Get(name), lambda record: decode_row(record, as_type))


def set_record(
    name: str, value: Any, ts: int | None, if_rev: int | None
) -> Request[methods.Written]:
    """Write one value."""
    return Request("record.set", methods.Set(name, encode_value(value), ts, if_rev))


def set_many(records: Iterable[RowLike], rows: bool = False) -> Request[methods.WrittenMany]:
    """Write many rows."""
    if isinstance(records, Mapping | str | bytes) or not isinstance(records, Iterable):
        text = f"records: {_ROW_SHAPE}, not {type(records).__name__}"
        hint = "; of a dict from name to value, pass items()"
        raise InvalidValue(text + hint * isinstance(records, Mapping))
    items = [_make_item(index, record) for index, record in enumerate(records)]
    return Request("record.set_many", methods.SetMany(items, rows))


def _make_item(index: int, record: Any) -> methods.WriteItem:
    if isinstance(record, Row):
        record = (record.name, record.value, record.ts)
    is_row = isinstance(record, tuple | list) and len(record) in (2, 3, 4)
    if not is_row or not isinstance(record[0], str):
        raise InvalidValue(f"records[{index}]: {_ROW_SHAPE}, not {record!r:.80}")
    name, value, ts, if_rev = (*record, None, None)[:4]
    if ts is not None and type(ts) is not int:
        raise InvalidValue(f"records[{index}].ts: Unix milliseconds as an int, not {ts!r:.80}")
    if if_rev is not None and type(if_rev) is not int:
        raise InvalidValue(f"records[{index}].if_rev: a rev as an int, not {if_rev!r:.80}")
    try:
        return methods.WriteItem(name, encode_value(value), ts, if_rev)
    except InvalidValue as error:
        raise InvalidValue(f"records[{index}].value: {error}") from None


def query(
    name: str | list[str],
    limit: int | UnsetType | None,
    start: int | None,
    end: int | None,
    after: str | None,
) -> Request[methods.Records]:
    """Read a page of latest values or history."""
    return Request("record.query", methods.Query(name, limit, start, end, after))


def replay(
    after: int | str, epoch: str | None, name: str, limit: int | None
) -> Request[methods.Records]:
    """Read a page of the log."""
    return Request("record.replay", methods.Replay(after, epoch, name, limit))


def at(rev: int, as_type: Any) -> Request[Row[Any]]:
    """Read the row of one commit number."""
    return Request("record.at", methods.At(rev), lambda record: decode_row(record, as_type))


def count(name: str) -> Request[methods.Counts]:
    """Count records and rows."""
    return Request("record.count", methods.Count(name))


def drain(name: str, limit: int | None) -> Request[list[Any]]:
    """Read the values since the previous drain."""
    return Request(
        "record.drain",
        methods.Drain(name, limit),
        lambda drained: [msgspec.json.decode(value) for value in drained.values],
    )


def delete(name: str) -> Request[int]:
    """Delete a record; the number of its rows comes back."""
    return Request("record.delete", methods.Delete(name), lambda deleted: int(deleted.deleted))


def trim(name: str, newer_than: int) -> Request[methods.Trimmed]:
    """Delete rows ahead of a time, or a part of them."""
    return Request("record.trim", methods.Trim(name, newer_than))


def without_params(method: str) -> Request[Any]:
    """Call a method that takes no parameters."""
    return Request(method, methods.NoParams())


def next_page(
    request: Request[methods.Records], page: methods.Records
) -> Request[methods.Records] | None:
    """Return the request for the page behind `page`, or None where it was the last."""
    if page.next is UNSET:
        return None
    return Request(request.method, msgspec.structs.replace(request.params, after=page.next))


def _without_defaults(params: msgspec.Struct) -> dict[str, Any]:
    """Return the parameters that differ from their defaults.

    An explicit null differs from an absent member: `limit` null means all.
    """
    given = {}
    for field in msgspec.structs.fields(params):
        value = getattr(params, field.name)
        if isinstance(value, bytes | bytearray | memoryview):
            # They would go out as base64, and name another record than was meant.
            raise InvalidValue(f"{field.name}: text, not {type(value).__name__}")
        if value is not UNSET and (field.required or value != field.default):
            given[field.name] = value
    return given
