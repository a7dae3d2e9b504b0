"""The blocking client, for programs without an event loop. It does not import Trio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar, overload

from msgspec import UNSET, UnsetType

from recordd_client import requests
from recordd_client.addresses import Address, check_timeout, find_address
from recordd_client.blocking_connection import BlockingConnection
from recordd_client.blocking_updates import Updates, open_updates
from recordd_client.errors import Expired
from recordd_client.following import Delivery, Follower, OnResync
from recordd_client.requests import Request, RowLike
from recordd_client.rows import Page, Row, decode_page
from recordd_protocol.methods import (
    ClockConfirmed,
    Counts,
    Edge,
    Node,
    RecordInfo,
    Records,
    Stats,
    Subscribe,
    Welcome,
    Written,
    WrittenMany,
)

__all__ = ["Client", "connect"]

T = TypeVar("T")
_RecordInfos = list[RecordInfo]
_Strings = list[str]
_Values = list[Any]
_Nodes = list[Node]
_Edges = list[Edge]
_Pages = list[Records]


@contextlib.contextmanager
def connect(url: str | None = None, *, timeout_s: float = 10.0) -> Iterator[Client]:
    """Connect to a daemon; at the end, disconnect.

    Args:
        url: `unix:///path` or `ws://host:port/ws`; default `RECORDD_CONNECT`, or the
            daemon's default socket.
        timeout_s: for connecting, and for each call.

    Raises:
        ConnectionFailed: the daemon cannot be reached.
        InvalidValue: `timeout_s` is no positive number.
    """
    timeout_s = check_timeout(timeout_s)
    address = find_address(url)
    connection = BlockingConnection(address, timeout_s)
    try:
        yield Client(connection, address, timeout_s)
    finally:
        connection.close()


class Client:
    """A connection to a daemon. Get one from `connect`.

    Any number of threads may call: one call at a time is on the way, and its timeout runs
    from when its turn comes. A subscription has a connection of its own, and is for one
    thread.

    Every call may raise a `Refused` (one class per reason), `CallTimeout`, `ConnectionLost`,
    or `InvalidValue` where it cannot be sent as it is. After a `CallTimeout` the connection
    is of use still: an answer that comes late is recognized and dropped. After a
    `ConnectionLost` the next call connects anew.
    """

    def __init__(self, connection: BlockingConnection, address: Address, timeout_s: float) -> None:
        self._connection: Final = connection
        self._address: Final = address
        self._timeout_s: Final = timeout_s

    def hello(self, client: str = "recordd-client", auth_token: str | None = None) -> Welcome:
        """Introduce the client; return the server's version, limits and permissions."""
        return self._call(requests.hello(client, auth_token))

    def list(self, name: str = "#", *, after: int = -1, limit: int | None = None) -> _RecordInfos:
        """Return metadata of the records that match, by `record_id`, from behind `after`."""
        return self._call(requests.list_records(name, after, limit))

    @overload
    def get(self, name: str) -> Row[Any]: ...
    @overload
    def get(self, name: str, *, as_type: type[T]) -> Row[T]: ...
    def get(self, name: str, *, as_type: Any = Any) -> Row[Any]:
        """Return the latest row of a record; `NotFound` where there is none."""
        return self._call(requests.get(name, as_type))

    def set(
        self, name: str, value: Any, *, ts: int | None = None, if_rev: int | None = None
    ) -> Written:
        """Write one value; on return it is committed.

        `ts` in Unix ms, default now. With `if_rev`, only if the latest row has that rev
        (0: the record does not exist), else `Conflict`.
        """
        return self._call(requests.set_record(name, value, ts, if_rev))

    def set_many(self, records: Iterable[RowLike], *, rows: bool = False) -> WrittenMany:
        """Write many rows, all or nothing; on return they are committed.

        A row is `(name, value)`, with `ts` in Unix ms and `if_rev` behind them where they
        are wanted; every `if_rev` has to hold before the first row is written. With `rows`
        the result has `rev`, `ts` and `late` of each.
        """
        return self._call(requests.set_many(records, rows))

    @overload
    def query(
        self,
        name: str | _Strings = "#",
        *,
        limit: int | UnsetType | None = UNSET,
        start: int | None = None,
        end: int | None = None,
        after: str | None = None,
    ) -> Page[Any]: ...
    @overload
    def query(
        self,
        name: str | _Strings = "#",
        *,
        limit: int | UnsetType | None = UNSET,
        start: int | None = None,
        end: int | None = None,
        after: str | None = None,
        as_type: type[T],
    ) -> Page[T]: ...
    def query(
        self,
        name: str | _Strings = "#",
        *,
        limit: int | UnsetType | None = UNSET,
        start: int | None = None,
        end: int | None = None,
        after: str | None = None,
        as_type: Any = Any,
    ) -> Page[Any]:
        """Return one page of latest values or history; see `record.query`."""
        page = self._call(requests.query(name, limit, start, end, after))
        return decode_page([page], as_type)

    @overload
    def query_latest(self, name: str | _Strings = "#", n: int = 1) -> Page[Any]: ...
    @overload
    def query_latest(
        self, name: str | _Strings = "#", n: int = 1, *, as_type: type[T]
    ) -> Page[T]: ...
    def query_latest(
        self, name: str | _Strings = "#", n: int = 1, *, as_type: Any = Any
    ) -> Page[Any]:
        """Return the latest `n` rows of each record that matches, all pages of them."""
        return decode_page(self._pages(requests.query(name, n, None, None, None)), as_type)

    @overload
    def query_range(
        self, name: str | _Strings, start: int | None, end: int | None, limit: int | None = None
    ) -> Page[Any]: ...
    @overload
    def query_range(
        self,
        name: str | _Strings,
        start: int | None,
        end: int | None,
        limit: int | None = None,
        *,
        as_type: type[T],
    ) -> Page[T]: ...
    def query_range(
        self,
        name: str | _Strings,
        start: int | None,
        end: int | None,
        limit: int | None = None,
        *,
        as_type: Any = Any,
    ) -> Page[Any]:
        """Return the rows of a time range (Unix ms, inclusive), all pages of them.

        With `limit`, the latest so many of each record.
        """
        pages = self._pages(requests.query(name, limit, start or 0, end, None))
        return decode_page(pages, as_type)

    @overload
    def replay(
        self,
        after: int | str,
        *,
        epoch: str | None = None,
        name: str = "#",
        limit: int | None = None,
    ) -> Page[Any]: ...
    @overload
    def replay(
        self,
        after: int | str,
        *,
        epoch: str | None = None,
        name: str = "#",
        limit: int | None = None,
        as_type: type[T],
    ) -> Page[T]: ...
    def replay(
        self,
        after: int | str,
        *,
        epoch: str | None = None,
        name: str = "#",
        limit: int | None = None,
        as_type: Any = Any,
    ) -> Page[Any]:
        """Return one page of the log behind `after`; go on with the page's `next`."""
        return decode_page([self._call(requests.replay(after, epoch, name, limit))], as_type)

    @overload
    def at(self, rev: int) -> Row[Any]: ...
    @overload
    def at(self, rev: int, *, as_type: type[T]) -> Row[T]: ...
    def at(self, rev: int, *, as_type: Any = Any) -> Row[Any]:
        """Return the row of one commit number."""
        return self._call(requests.at(rev, as_type))

    @overload
    def subscribe(
        self,
        name: str,
        *,
        snapshot: bool = True,
        after: int | None = None,
        epoch: str | None = None,
        delivery: Delivery = "latest",
        on_resync: OnResync | None = None,
    ) -> contextlib.AbstractContextManager[Updates[Any]]: ...
    @overload
    def subscribe(
        self,
        name: str,
        *,
        snapshot: bool = True,
        after: int | None = None,
        epoch: str | None = None,
        delivery: Delivery = "latest",
        on_resync: OnResync | None = None,
        as_type: type[T],
    ) -> contextlib.AbstractContextManager[Updates[T]]: ...
    def subscribe(
        self,
        name: str,
        *,
        snapshot: bool = True,
        after: int | None = None,
        epoch: str | None = None,
        delivery: Delivery = "latest",
        on_resync: OnResync | None = None,
        as_type: Any = Any,
    ) -> contextlib.AbstractContextManager[Updates[Any]]:
        """Follow the records that match, from now on or from behind the rev `after`.

        Use it in a `with` block; it iterates over `Update`s. It has a connection of its
        own: a program that reads slowly holds up nothing else. When that connection is lost,
        the subscription connects again, for ever, and goes on where it was. Where updates are
        gone for good by then, it calls `on_resync`, and current values come; without
        `on_resync` it logs a warning. `delivery="every"` brings each update, however slowly
        the program reads; `"latest"` leaves out older updates of a record that are not read
        in time, and counts them.

        Raises:
            ConnectionFailed: the daemon cannot be reached at first.
            Refused: the daemon does not take the subscription.
        """
        params = Subscribe(name, snapshot, after, epoch, delivery)
        return open_updates(self._address, self._timeout_s, Follower(params, as_type, on_resync))

    def count(self, name: str = "#") -> Counts:
        """Return how many records match, and how many rows they have."""
        return self._call(requests.count(name))

    def drain(self, name: str, *, limit: int | None = None) -> _Values:
        """Return the values since this client's previous drain of the record.

        Raises:
            ConnectionLost: the connection ended since; the next drain begins anew.
        """
        return self._call(requests.drain(name, limit))

    def delete(self, name: str) -> int:
        """Delete a record and its history; return how many rows it had."""
        return self._call(requests.delete(name))

    def trim(self, name: str, newer_than: int) -> int:
        """Delete the rows of a record whose `ts` is greater; return how many there were.

        The newest row that is left is committed again, and is the latest. Many rows go in
        several calls, oldest first; where one of them fails, the others are done.
        """
        deleted = 0
        while (trimmed := self._call(requests.trim(name, newer_than))).more:
            deleted += trimmed.deleted
        return deleted + trimmed.deleted

    def graph_nodes(self) -> _Nodes:
        """Return the records as nodes of AimDB's graph."""
        nodes: _Nodes = self._call(requests.without_params("graph.nodes"))
        return nodes

    def graph_edges(self) -> _Edges:
        """Return the edges of AimDB's graph: none."""
        edges: _Edges = self._call(requests.without_params("graph.edges"))
        return edges

    def graph_topo_order(self) -> _Strings:
        """Return the names of the records in graph order."""
        names: _Strings = self._call(requests.without_params("graph.topo_order"))
        return names

    def profiling_reset(self) -> None:
        """Set the counters that records report to zero."""
        self._call(requests.without_params("profiling.reset"))

    def buffer_metrics_reset(self) -> None:
        """Set the counters that records report to zero."""
        self._call(requests.without_params("buffer_metrics.reset"))

    def retention_confirm(self) -> int:
        """Have retention believe the clock after a leap; return the leap, in ms."""
        confirmed: ClockConfirmed = self._call(requests.without_params("retention.confirm"))
        return confirmed.leap_ms

    def stats(self) -> Stats:
        """Return the daemon's counters, sizes and queue depths."""
        stats: Stats = self._call(requests.without_params("server.stats"))
        return stats

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document."""
        document: dict[str, Any] = self._call(requests.without_params("rpc.discover"))
        return document

    def _call(self, request: Request[T]) -> T:
        return self._connection.call(request)

    def _pages(self, first: Request[Records]) -> _Pages:
        """Return all pages, of one moment; begin anew where that moment is kept no longer."""
        for _ in range(requests.PAGING_ATTEMPTS - 1):
            with contextlib.suppress(Expired):
                return self._pages_once(first)
        return self._pages_once(first)

    def _pages_once(self, first: Request[Records]) -> _Pages:
        request: Request[Records] | None = first
        pages = []
        while request is not None:
            pages.append(self._call(request))
            request = requests.next_page(first, pages[-1])
        return pages
