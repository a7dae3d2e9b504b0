"""Parameters as AimDB reads them: leniently.

Unknown members are ignored, and so are values that AimDB would not take for a number or a name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from recordd_protocol import methods
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.integers import MAX_INTEGER

__all__ = ["READERS", "Follow", "unwrap"]


class _Wrapped(msgspec.Struct):
    value: Raw = Raw(b"")


class Follow(methods.Subscribe, frozen=True):
    """A subscription as in AimDB: without late rows; `must_exist` refuses unknown records."""

    must_exist: bool = False


class _Set(methods.Set, frozen=True, forbid_unknown_fields=False):
    pass


class _Loose(msgspec.Struct):
    name: Any = None
    client: Any = None
    version: Any = None
    auth_token: Any = None
    limit: Any = None
    start: Any = None
    end: Any = None


_decode_wrapped: Final = msgspec.json.Decoder(_Wrapped).decode
_decode_loose: Final = msgspec.json.Decoder(_Loose).decode


def unwrap(payload: Raw) -> Raw:
    """Return the value of `{"value": …}`, or the payload where it is no such thing."""
    if bytes(payload)[:1] != b"{":
        return payload
    return _decode_wrapped(payload).value or payload


def _read_hello(params: bytes) -> methods.Hello:
    loose = _decode_loose(params)
    # Without a version AimDB refuses; an empty one agrees with nothing either.
    return methods.Hello(
        _text(loose.client) or "", _text(loose.version) or "", _text(loose.auth_token)
    )


def _read_get(params: bytes) -> methods.Get:
    if (name := _text(_decode_loose(params).name)) is None:
        raise RequestError(Reason.NOT_FOUND, "name: missing, or no text")
    return methods.Get(name)


def _read_query(params: bytes) -> methods.Query:
    loose = _decode_loose(params)
    limit = _unsigned(loose.limit)
    return methods.Query(
        "#" if _text(loose.name) is None else loose.name,
        1 if limit is None else limit,
        _unsigned(loose.start),
        _unsigned(loose.end),
        paged=False,
    )


def _read_drain(params: bytes) -> methods.Drain:
    loose = _decode_loose(params)
    if (name := _text(loose.name)) is None:
        raise RequestError(Reason.INVALID_PARAMS, "name: missing, or no text")
    return methods.Drain(name, _unsigned(loose.limit))


def _read_list(params: bytes) -> methods.List:
    return methods.List()


def _read_nothing(params: bytes) -> methods.NoParams:
    return methods.NoParams()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _unsigned(value: Any) -> int | None:
    """Return an unsigned integer; None for anything else."""
    return min(value, MAX_INTEGER) if type(value) is int and value >= 0 else None


READERS: Final[dict[str, Callable[[bytes], msgspec.Struct]]] = {
    "hello": _read_hello,
    "record.get": _read_get,
    "record.set": msgspec.json.Decoder(_Set).decode,
    "record.list": _read_list,
    "record.drain": _read_drain,
    "record.query": _read_query,
    "graph.nodes": _read_nothing,
    "graph.edges": _read_nothing,
    "graph.topo_order": _read_nothing,
    "profiling.reset": _read_nothing,
    "buffer_metrics.reset": _read_nothing,
}
"""The methods of AimX, and how their parameters are read."""
