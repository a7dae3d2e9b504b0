"""Values on their way out: each is sent as exactly one JSON value, the one that was meant."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from msgspec import Raw

from recordd_client.errors import InvalidValue

__all__ = ["encode_json", "encode_value"]

_skip_value: Final = msgspec.json.Decoder(Raw).decode
_SCALARS: Final = frozenset({bool, int, float, str, type(None)})
"""Types whose encoding shows by itself whether JSON could hold them."""

_NOT_JSON: Final = (
    TypeError,
    ValueError,  # msgspec's own errors, text that is no UTF-8, an integer of too many digits
    RecursionError,
    OverflowError,
)


def encode_value(value: Any) -> Raw:
    """Encode a value, as one line; a `msgspec.Raw`, also inside, is JSON text already.

    Raises:
        InvalidValue: for a value that JSON cannot hold; msgspec alone would write NaN as null.
            For a `Raw` that is not exactly one JSON value: it could bring members of its own
            into the request. For bytes: they may mean JSON text or base64, and nobody can tell.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        raise InvalidValue("bytes are no JSON value: JSON text goes into a msgspec.Raw")
    try:
        if isinstance(value, Raw):
            return _to_line(_check_raw(value))
        encoded = msgspec.json.encode(value)
        plain = value
        if not _has_only_scalars(value):
            plain = msgspec.to_builtins(value, enc_hook=_check_inner)
        if b"null" in encoded and _has_non_finite(plain):
            raise InvalidValue("a value must not hold NaN or an infinity")
        return _to_line(Raw(encoded))
    except _NOT_JSON as error:
        raise InvalidValue(str(error)) from None


def encode_json(message: Any) -> bytes:
    """Encode a message of checked values and a caller's own words.

    Raises:
        InvalidValue: for a name that is no UTF-8, and the like.
    """
    try:
        return msgspec.json.encode(message)
    except _NOT_JSON as error:
        raise InvalidValue(str(error)) from None


def _check_raw(value: Raw) -> Raw:
    """Return JSON text that is exactly one value, in UTF-8."""
    text = bytes(value)
    if not text.isascii():
        text.decode()
    return _skip_value(text)


def _check_inner(value: Any) -> Any:
    if not isinstance(value, Raw):
        raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
    _check_raw(value)
    return None


def _to_line(value: Raw) -> Raw:
    """A line break between two tokens would end the request in its middle."""
    text = bytes(value)
    is_one_line = b"\n" not in text and b"\r" not in text
    return value if is_one_line else Raw(msgspec.json.format(text, indent=-1))


def _has_only_scalars(value: Any) -> bool:
    """Tell, at the cost of a glance, that there is nothing inside to check."""
    if type(value) is dict:
        return _SCALARS.issuperset(map(type, value)) and _SCALARS.issuperset(
            map(type, value.values())
        )
    if type(value) is list:
        return _SCALARS.issuperset(map(type, value))
    return type(value) in _SCALARS


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_non_finite, value))
    return False
