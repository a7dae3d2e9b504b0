"""The reference model that all storage suites share: what a database must hold, and may.

One client writes, so the requests are a list, and what a restart brings back must be the
outcome of its first k, with every answered one among them: nothing acknowledged is lost, no
request is there in part, and nothing is there that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

__all__ = ["Delete", "Found", "Model", "Put", "Request", "State", "StoredRow", "Violation"]


class Violation(AssertionError):
    """A promise is broken."""


class StoredRow(msgspec.Struct, frozen=True):
    """A row as the daemon tells it; rows are in the order of (`ts`, `rev`)."""

    name: str
    ts: int
    rev: int
    value: Any

    @property
    def order(self) -> tuple[int, int]:
        """What the latest row of a record has the greatest of."""
        return self.ts, self.rev


class Put(msgspec.Struct, frozen=True):
    """`record.set` of one row, `record.set_many` of more: (name, value, ts)."""

    rows: list[tuple[str, Any, int]]

    def as_call(self) -> tuple[str, dict[str, Any]]:
        """Return method and params."""
        rows = [{"name": name, "value": value, "ts": ts} for name, value, ts in self.rows]
        return ("record.set", rows[0]) if len(rows) == 1 else ("record.set_many", {"records": rows})


class Delete(msgspec.Struct, frozen=True):
    """`record.delete`."""

    name: str

    def as_call(self) -> tuple[str, dict[str, Any]]:
        """Return method and params."""
        return "record.delete", {"name": self.name}


Request = Put | Delete


class Found(msgspec.Struct, frozen=True):
    """All that a daemon serves: the log, the history, the latest values, the counts."""

    rev: int
    epoch: str
    log: list[StoredRow]
    history: list[StoredRow]
    latest: list[StoredRow]
    records: int
    rows: int


class State:
    """What a database holds after some requests, without retention."""

    def __init__(self) -> None:
        self.rev = 0
        self.rows: Final[dict[str, list[StoredRow]]] = {}

    def apply(self, request: Request) -> None:
        """Let a request have its effect."""
        if isinstance(request, Delete):
            if self.rows.pop(request.name, None) is not None:
                self.rev += 1
            return
        for name, value, ts in request.rows:
            self.rev += 1
            rows = self.rows.setdefault(name, [])
            rows.append(StoredRow(name, ts, self.rev, value))

    def latest(self) -> list[StoredRow]:
        """Return each record's row with the greatest (`ts`, `rev`), in that order."""
        newest = [max(rows, key=_order) for rows in self.rows.values()]
        return sorted(newest, key=_order)


class _Prune(msgspec.Struct, frozen=True):
    """A run of retention that was seen to end after so many requests, at a moment."""

    after_requests: int
    moment: int
    gone: frozenset[int]


class Model:
    """The requests in order; what retention may have deleted, and what it must have.

    `max_rows` is the rule for names that start with `pruned_prefix`.
    """

    def __init__(self, *, pruned_prefix: str = "r.", max_rows: int = 20) -> None:
        self.requests: Final[list[Request]] = []
        self._pruned_prefix: Final = pruned_prefix
        self._max_rows: Final = max_rows
        self._prunes: Final[list[_Prune]] = []

    def note_retention(self, moment: int) -> None:
        """Take note that retention has run over all requests, which were all answered."""
        state = self._state_after(len(self.requests))
        gone = frozenset(self._prunable(state))
        self._prunes.append(_Prune(len(self.requests), moment, gone))

    def state(self) -> State:
        """Return what a database holds after all requests."""
        return self._state_after(len(self.requests))

    def check(self, found: Found, *, answered: int, moment: int) -> None:
        """Hold what a restart brought back against what was asked for, and answered.

        `moment` is that of the crash, on the clock of `note_retention`.

        Raises:
            Violation: with what is lost, torn, wrong or made up.
        """
        state = self._find_state(found.rev, answered)
        gone = {rev for prune in self._prunes if prune.moment <= moment for rev in prune.gone}
        optional = self._prunable(state) | gone
        expected = {row.rev: row for rows in state.rows.values() for row in rows}
        self._check_rows("log", found.log, expected, optional, gone)
        self._check_rows("history", found.history, expected, optional, gone)
        _check_order(found)
        _check_latest(found.latest, state.latest())
        if (found.records, found.rows) != (len(state.rows), len(found.log)):
            raise Violation(f"counts {found.records}, {found.rows} of {len(found.log)} rows")

    def _find_state(self, rev: int, answered: int) -> State:
        state = State()
        for number, request in enumerate(self.requests, 1):
            if state.rev == rev and number > answered:
                break
            state.apply(request)
            if state.rev > rev:
                what = "an answered request is lost" if number <= answered else "a batch is torn"
                raise Violation(f"{what}: found rev {rev}, request {number} came to {state.rev}")
        if state.rev != rev:
            raise Violation(f"rev {rev} is found, and nobody asked for more than {state.rev}")
        return state

    def _state_after(self, requests: int) -> State:
        state = State()
        for request in self.requests[:requests]:
            state.apply(request)
        return state

    def _prunable(self, state: State) -> set[int]:
        """Return the revs of rows that retention may delete."""
        return {
            row.rev
            for name, rows in state.rows.items()
            if name.startswith(self._pruned_prefix)
            for row in sorted(rows, key=_order)[: -self._max_rows]
        }

    def _check_rows(
        self,
        where: str,
        rows: Sequence[StoredRow],
        expected: dict[int, StoredRow],
        optional: set[int],
        gone: Iterable[int],
    ) -> None:
        revs = {row.rev for row in rows}
        if len(revs) != len(rows):
            raise Violation(f"{where}: a row is there twice")
        if lost := expected.keys() - revs - optional:
            raise Violation(f"{where}: rows are lost: {sorted(lost)[:10]}")
        if back := revs & set(gone):
            raise Violation(f"{where}: rows are back from retention: {sorted(back)[:10]}")
        for row in rows:
            if row != expected.get(row.rev):
                instead = _shorten(expected.get(row.rev))
                raise Violation(f"{where}: {_shorten(row)} instead of {instead}")


def _check_order(found: Found) -> None:
    if [row.rev for row in found.log] != sorted(row.rev for row in found.log):
        raise Violation("log: not in the order of commits")
    if [row.order for row in found.history] != sorted(row.order for row in found.history):
        raise Violation("history: not in the order of time")
    if {row.rev for row in found.log} != {row.rev for row in found.history}:
        raise Violation("log and history do not have the same rows")


def _check_latest(found: list[StoredRow], wanted: list[StoredRow]) -> None:
    if found != wanted:
        pairs = (pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1])
        first = next(pairs, (None, None))
        raise Violation(
            f"latest: {len(found)} of {len(wanted)} records;"
            f" {_shorten(first[0])} instead of {_shorten(first[1])}"
        )


def _order(row: StoredRow) -> tuple[int, int]:
    return row.order


def _shorten(row: StoredRow | None) -> str:
    return repr(row)[:120]
