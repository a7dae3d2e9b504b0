"""The dispatch table: from a method's name to what decodes its parameters and handles it.

The table itself is in `recordd.methods.table`; a core gets it when it is built, so that a
front finds it there and knows no handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from recordd.extending.extensions import Extensions
from recordd.methods.caller import Caller
from recordd.methods.gate import Grants, check_grants, is_granted
from recordd.methods.outcome import Handled
from recordd.writing.requests import NewRow
from recordd_protocol.errors import Reason, RequestError
from recordd_protocol.methods import METHODS, Method
from recordd_protocol.rows import Row

__all__ = [
    "Binding",
    "FindRows",
    "Handler",
    "HasParams",
    "MakeRows",
    "MethodTable",
    "RunHandler",
    "bind",
    "methods_of",
]

Handler = Callable[[Caller, Any], Handled]
"""Takes the caller and the typed parameters; refuses with a `RequestError`."""


class HasParams(Protocol):
    """A call with its typed parameters."""

    @property
    def params(self) -> Any:
        """Of the method's type."""


class FindRows(NamedTuple):
    """Finds the row that answers each of a run of calls; None, where `Handler` is to see each."""

    find: Callable[[Caller, Sequence[HasParams]], list[Row] | None]


class MakeRows(NamedTuple):
    """Makes the row that each of a run of calls writes; None, where `Handler` is to see each."""

    make: Callable[[Caller, Sequence[HasParams]], list[NewRow] | None]


RunHandler = FindRows | MakeRows
"""Handles calls of one method that came one behind the other, where none of them is odd.

For less than `Handler` takes for each; it comes to the same.
"""


class Binding:
    """A method and its handler; of those that are called most, one for a run of calls too."""

    __slots__ = ("_decode", "handle", "handle_run", "is_query", "is_write", "method")

    def __init__(
        self, method: Method, handle: Handler, handle_run: RunHandler | None = None
    ) -> None:
        self.method: Final = method
        self.handle: Final = handle
        self.handle_run: Final = handle_run
        self.is_write: Final = method.is_write
        self.is_query: Final = method.is_query
        self._decode: Final = msgspec.json.Decoder(method.params).decode

    def admit(self, caller: Caller, params: bytes | msgspec.Struct | RequestError) -> Any:
        """Return the typed parameters of a call that the caller may make; then `handle` it.

        Raises:
            RequestError: `denied`; `invalid_params`, naming the parameter.
        """
        typed: Any = params
        try:
            if isinstance(params, bytes):
                typed = self._decode(params)
            elif isinstance(params, RequestError):
                raise params
        except RecursionError:
            raise RequestError(Reason.INVALID_PARAMS, "params: nested too deep") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = str(error).replace("`$.", "`").replace("`$[...]", "params: `")
            raise RequestError(Reason.INVALID_PARAMS, text) from None
        check_grants(caller.grants, self.method)
        return typed


class MethodTable(dict[str, Binding]):
    """The bindings of all methods, by name: the type under which a core has them."""

    def __init__(self, bindings: Iterable[tuple[str, Binding]]) -> None:
        super().__init__(bindings)
        self._by_grants: Final[dict[Grants, Mapping[str, Binding]]] = {}

    def granted_to(self, grants: Grants) -> Mapping[str, Binding]:
        """Return the bindings that a caller with these grants may use.

        All callers with the same share one: as many as there are sets of three accesses.
        """
        if (granted := self._by_grants.get(grants)) is None:
            granted = {n: b for n, b in self.items() if is_granted(grants, b.method)}
            self._by_grants[grants] = granted
        return granted

    def __missing__(self, name: str) -> Binding:
        raise RequestError(Reason.METHOD_NOT_FOUND, f"there is no method {name[:100]!r}")


def bind(
    handlers: Mapping[str, Handler], run_handlers: Mapping[str, RunHandler] | None = None
) -> MethodTable:
    """Return the table; a method without a handler, or the other way round, is a mistake."""
    if unbound := METHODS.keys() ^ handlers.keys():
        raise AssertionError(f"methods and handlers differ: {sorted(unbound)}")
    of_runs = run_handlers or {}
    return MethodTable(
        (name, Binding(METHODS[name], handler, of_runs.get(name)))
        for name, handler in handlers.items()
    )


def methods_of(extensions: Extensions) -> MethodTable:
    """Return the table that a core was given."""
    table = extensions.get(MethodTable)
    assert table is not None, "whoever builds a core gives it the methods"
    return table
