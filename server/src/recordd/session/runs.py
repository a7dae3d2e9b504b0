"""Runs: calls of one method that came one behind the other, handled together.

Most of what programs send in a burst are gets, or sets. To handle each for itself costs more
than what they are about: a run shares the look-ups and the checks, takes one place in the
writer's queue, and is answered in one go. A run in which anything is odd is left alone: then
each of its calls goes the way that knows what to do with it.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from recordd.connections.outbox import Outbox
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Binding, FindRows, MakeRows
from recordd.methods.outcome import Answer
from recordd.session.own_writes import OwnWrites
from recordd.writing.requests import WriteRows
from recordd_protocol.dialect import PlainCall
from recordd_protocol.errors import RequestError

__all__ = ["Runs", "split_runs"]

_VALUE: Final = operator.attrgetter("value")


def split_runs(calls: Sequence[PlainCall]) -> Iterable[Sequence[PlainCall]]:
    """Return the runs of some calls, in their order: those of one class have one method."""
    if len(calls) == 1:
        return (calls,)
    return [list(run) for _, run in itertools.groupby(calls, type)]


class Runs:
    """The runs of one connection."""

    __slots__ = ("_caller", "_counts", "_granted", "_outbox", "_waiting", "_writes")

    def __init__(
        self,
        caller: Caller,
        granted: Mapping[str, Binding],
        outbox: Outbox,
        writes: OwnWrites,
    ) -> None:
        """Take the bindings that the caller may use, where answers go and where writes go."""
        self._caller: Final = caller
        self._granted: Final = granted
        self._counts: Final = caller.core.request_counts
        self._waiting: Final = caller.core.waiting
        self._outbox: Final = outbox
        self._writes: Final = writes

    def take(self, calls: Sequence[PlainCall]) -> bool:
        """Handle calls of one class, not none, with one look at all of them.

        Returns False, nothing done, where each is to be handled for itself.
        """
        if (binding := self._granted.get(calls[0].method)) is None:
            return False
        handler = binding.handle_run
        if handler is None:
            return False
        is_write = isinstance(handler, MakeRows)
        if not is_write and (self._writes.pending or self._waiting.size > self._waiting.max_bytes):
            return False
        if len(calls) == 1:
            is_taken = self._take_one(calls[0], binding)
        elif isinstance(handler, MakeRows):
            is_taken = self._write(calls, handler)
        else:
            is_taken = self._read(calls, handler)
        if is_taken:
            self._counts.received += len(calls)
        return is_taken

    def _take_one(self, call: PlainCall, binding: Binding) -> bool:
        """Handle a lone call, which has nothing to share: 3.5 µs for a get, instead of 5."""
        try:
            handled = binding.handle(self._caller, call.params)
            if type(handled) is WriteRows:
                return self._writes.begin_nowait(call, handled)
        except RequestError:
            return False
        if type(handled) is not Answer:
            return False
        if (reply := call.answer(handled.result)) is not None:
            self._outbox.put_unsent(reply)  # it is held
        return True

    def _write(self, calls: Sequence[PlainCall], handler: MakeRows) -> bool:
        rows = handler.make(self._caller, calls)
        return rows is not None and self._writes.begin_burst(calls, rows)

    def _read(self, calls: Sequence[PlainCall], handler: FindRows) -> bool:
        if (rows := handler.find(self._caller, calls)) is None:
            return False
        if sum(map(len, map(_VALUE, rows))) > self._outbox.answer_bytes:
            return False
        self._outbox.put_all_unsent(calls[0].answer_rows(calls, rows))  # it is held
        return True
