"""The options of a backend: a Struct of its own, from which its table is read and described.

A field is annotated with `option`: its unit and the reason for it, and bounds for a number.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from recordd.extending.backend import BackendOptions, NotConfigured

__all__ = ["OptionError", "OptionInfo", "describe_options", "option", "read_options"]

S = TypeVar("S", bound=msgspec.Struct)


class OptionError(NotConfigured):
    """An option is none of this backend's, or its value is none for it: one line that says so."""


class OptionInfo(msgspec.Struct, frozen=True):
    """One option as documentation and `recordd config` show it."""

    key: str
    unit: str
    reason: str


def option(unit: str, reason: str, *, ge: int | None = None, le: int | None = None) -> msgspec.Meta:
    """Return the annotation of an option."""
    return msgspec.Meta(ge=ge, le=le, description=reason, extra={"unit": unit})


def describe_options(kind: type[msgspec.Struct]) -> list[OptionInfo]:
    """Return every option, in the order of its definition."""
    infos = []
    for key, hint in _hints_of(kind).items():
        meta = next((m for m in get_args(hint)[1:] if isinstance(m, msgspec.Meta)), msgspec.Meta())
        infos.append(OptionInfo(key, (meta.extra or {}).get("unit", ""), meta.description or ""))
    return infos


def read_options(kind: type[S], options: BackendOptions) -> S:
    """Read the table of a backend: types and bounds, and defaults for what is not stated.

    A text is read as what it has to be, since that is how a variable states a number. What goes
    wrong only together, `__post_init__` of the Struct says, with a ValueError.

    Raises:
        OptionError: with the option, where it was stated, and what is allowed.
    """
    hints = _hints_of(kind)
    values = {}
    for key, raw in options.table.items():
        place = options.places.get(key, f"[backend] {key}")
        if key not in hints:
            known = ", ".join(sorted(hints)) or "none"
            raise OptionError(f"{place}: no option of this backend (there is: {known})")
        try:
            values[key] = msgspec.convert(raw, hints[key], strict=not isinstance(raw, str))
        except msgspec.ValidationError as error:
            raise OptionError(f"{place}: {error}{_list_allowed(hints[key])}") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise OptionError(f"[backend] {error}") from None


def _hints_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _list_allowed(hint: Any) -> str:
    """Return the words that may be, where they are few; msgspec names the wrong one alone."""
    inner = get_args(hint)[0] if get_args(hint) else hint
    if get_origin(inner) is not Literal:
        return ""
    return f" (allowed: {', '.join(map(str, get_args(inner)))})"
