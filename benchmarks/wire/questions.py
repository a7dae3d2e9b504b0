"""What is measured: each question, as every contestant is asked it, and its target.

The sites that questions speak of are opened by `contestants.py`; names and steps go round
through all records, so that nobody answers the same thing twice in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from benchmarks.observations import make_name, make_value
from benchmarks.wire import nats, postgres, recordd, redis
from benchmarks.wire.data import FLIGHT_RECORDS, Scale, count_newest, flight_rows, make_ts
from benchmarks.wire.lines import LEAST, OURS, Line, Target, at_least, at_most
from benchmarks.wire.loadgen import Measured
from benchmarks.wire.plans import Request
from benchmarks.wire.sites import Ask, Followers

__all__ = ["Question", "make_questions"]

REDIS: Final = "Redis"
POSTGRES: Final = "PostgreSQL"
LATERAL: Final = "PostgreSQL, LATERAL"
SIDE_TABLE: Final = "PostgreSQL, side table"
ECHO: Final = "Trio echo"
WEBSOCKET_ECHO: Final = "trio-websocket echo"
NATS: Final = "NATS"

_MANY: Final = 1000
_HUNDRED: Final = 100
_REST_US: Final = 400
"""About as long as a write takes, here and there."""
_EVENT: Final = (
    b'{"name":"accuracy::city-0001","value":{"accuracy":0.0001,"samples":1,"model":"v7"},'
    b'"ts":1700000000000,"rev":1000000}'
)


class Question(Line, frozen=True, kw_only=True):
    """A line whose figures come of asking: who is asked what, and how many at a time."""

    asks: Mapping[str, Ask]
    connections: int = 1
    in_flight: int = 1

    def figure_of(self, measured: Measured) -> float:
        """Return what the line shows: the median time, or the rate."""
        return measured.p50_us if self.unit == "µs" else measured.rate


def make_questions(scale: Scale) -> list[Question]:
    """Return all questions, in the order of the table."""
    return [
        *_history(scale),
        *_last_of_each(scale),
        _first_page(scale),
        *_writes(),
        *_gets(),
        *_latest(),
        *_latest_after_rests(),
        *_latest_after_writes(),
        *_fan_outs(scale),
        *_websockets(),
    ]


def _names(records: int) -> list[str]:
    return [make_name(number) for number in range(records)]


def _each(make: Callable[[str], Request]) -> Callable[[], list[Request]]:
    """Return the maker of one request for each of the thousand records."""
    return lambda: [make(name) for name in _names(_MANY)]


def _history(scale: Scale) -> Iterator[Question]:
    rows = min(100, scale.rows_each)
    last = _each(lambda name: recordd.query(name, limit=100))
    newest = {
        OURS: _many(last, rows),
        LEAST: _least("read many", last, rows),
        POSTGRES: _pg("many", _each(lambda name: postgres.execute("last", name, 100)), rows),
        REDIS: _redis(_each(lambda name: redis.last("many", name, 100)), rows),
    }
    title = "last 100 of one record"
    yield Question(
        name="last-100",
        title=title,
        unit="µs",
        asks=newest,
        targets=(at_most(1, POSTGRES),),
    )
    yield Question(
        name="last-100-by-16",
        title=f"{title}, 16 clients",
        unit="/s",
        asks=newest,
        targets=(at_least(1, POSTGRES),),
        connections=16,
    )
    first = scale.rows_each // 3
    start, end = make_ts(first), make_ts(first + 99)
    rows = min(100, scale.rows_each - first)
    between = _each(lambda name: recordd.query(name, limit=None, start=start, end=end))
    asks = {
        OURS: _many(between, rows),
        LEAST: _least("read many", between, rows),
        POSTGRES: _pg(
            "many", _each(lambda name: postgres.execute("range", name, start, end)), rows
        ),
        REDIS: _redis(_each(lambda name: redis.time_range("many", name, start, end)), rows),
    }
    yield Question(
        name="range-100",
        title="range of 100 of one record",
        unit="µs",
        asks=asks,
        targets=(at_most(1, POSTGRES),),
    )


def _last_of_each(scale: Scale) -> Iterator[Question]:
    rows = flight_rows(scale.flights)
    for each in (20, 5):
        values = count_newest(rows, each)
        ours = Ask(
            site="recordd flights",
            requests=_same(recordd.query("#", limit=each)),
            values=values,
            marker=b'"value":{',
        )
        theirs = Ask(
            site="pg flights",
            requests=_same(postgres.execute("last_of_each", each)),
            values=values,
            marker=b'{"',
        )
        yield Question(
            name=f"last-{each}-of-each",
            title=f"last {each} of each of {FLIGHT_RECORDS} records, one call",
            unit="µs",
            asks={OURS: ours, LATERAL: theirs},
            targets=(at_most(1, LATERAL),),
        )


def _first_page(scale: Scale) -> Question:
    request = recordd.query("*", limit=2)
    return Question(
        name="limit-2",
        title=f"last 2 of each of {scale.wide_records:,} records, first page",
        unit="µs",
        asks={
            OURS: Ask(site="recordd wide", requests=_same(request)),
            LEAST: _least("read wide", _same(request)),
        },
        targets=(at_most(200_000),),
    )


def _writes() -> Iterator[Question]:
    targets: dict[tuple[int, int], tuple[Target, ...]] = {
        (1, 1): (at_most(1.3, POSTGRES),),
        (16, 1): (at_least(1.3, POSTGRES),),
        (64, 1): (at_least(0.7, REDIS),),
        (16, 64): (at_least(0.8, REDIS),),
    }
    for (connections, in_flight), bounds in targets.items():
        yield Question(
            name=f"write-{connections}x{in_flight}",
            title=f"acknowledged write, {connections} x {in_flight}",
            unit="µs" if connections == 1 else "/s",
            asks=_write_asks(),
            targets=bounds,
            connections=connections,
            in_flight=in_flight,
        )


def _write_asks() -> dict[str, Ask]:
    ours = [recordd.set_value(name, make_value(n)) for n, name in enumerate(_names(_MANY))]
    history = _pg_writes("write", counted=True)
    both = _pg_writes("write_both", counted=True)
    stream = [
        redis.write("writes", (name, make_ts(n), make_value(n)))
        for n, name in enumerate(_names(_MANY))
    ]
    return {
        OURS: Ask(site="recordd writes", requests=lambda: ours),
        LEAST: _least("write writes", lambda: ours),
        POSTGRES: _pg("writes", lambda: history),
        SIDE_TABLE: _pg("writes", lambda: both),
        REDIS: _redis(lambda: stream),
    }


def _pg_writes(statement: str, *, counted: bool, records: int = _MANY) -> list[Request]:
    return [
        postgres.execute(statement, name, make_value(n), counted=counted)
        for n, name in enumerate(_names(records))
    ]


def _gets() -> Iterator[Question]:
    targets: dict[tuple[int, int], tuple[Target, ...]] = {
        (1, 1): (),
        (16, 1): (at_least(0.8, ECHO),),
        (1, 64): (at_least(300_000),),
        (16, 64): (at_least(350_000), at_least(2, POSTGRES)),
    }
    ours = _each(recordd.get)
    asks = {
        OURS: _many(ours, 1),
        LEAST: _least("get writes", ours, 1),
        ECHO: Ask(site="echo", requests=ours),
        POSTGRES: _pg("many", _each(lambda name: postgres.execute("get", name)), 1),
        REDIS: _redis(_each(lambda name: redis.get("many", name)), 1),
    }
    for (connections, in_flight), bounds in targets.items():
        yield Question(
            name=f"get-{connections}x{in_flight}",
            title=f"record.get, {connections} x {in_flight}",
            unit="/s",
            asks=asks,
            targets=bounds,
            connections=connections,
            in_flight=in_flight,
        )


def _latest() -> Iterator[Question]:
    factors = {_HUNDRED: (1.0, 0.5), _MANY: (0.6, 1.2)}
    for records, (most, least) in factors.items():
        asks = _latest_asks(records)
        title = f"latest of {records:,} records"
        yield Question(
            name=f"latest-{records}",
            title=title,
            unit="µs",
            asks=asks,
            targets=(at_most(most, REDIS),),
        )
        yield Question(
            name=f"latest-{records}-by-16",
            title=f"{title}, 16 clients",
            unit="/s",
            asks={peer: asks[peer] for peer in (OURS, LEAST, REDIS)},
            targets=(at_least(least, REDIS),),
            connections=16,
        )


def _latest_asks(records: int) -> dict[str, Ask]:
    key = _site_of(records)
    lateral = _same(postgres.execute("last_of_each", 1))
    ours = _same(recordd.query("*"))
    return {
        OURS: Ask(site=f"recordd {key}", requests=ours, values=records),
        LEAST: _least(_least_latest(records), ours, records),
        REDIS: _redis(_same(redis.hgetall(key)), records),
        SIDE_TABLE: _pg(key, _same(postgres.execute("latest")), records),
        LATERAL: _pg(key, lateral, records),
    }


def _latest_after_rests() -> Iterator[Question]:
    """Ask as after a write, which takes so long, but with nothing written.

    Behind a rest the caches have been others', and the processor has slept: every server takes
    longer then. So of a query behind a write only the rest is the write's.
    """
    for records in (_HUNDRED, _MANY):
        asks = _latest_asks(records)
        yield Question(
            name=f"latest-{records}-after-rest",
            title=f"latest of {records:,} records, a rest of {_REST_US} µs before each query",
            unit="µs",
            asks={
                peer: msgspec.structs.replace(asks[peer], rest_us=_REST_US)
                for peer in (OURS, LEAST, REDIS, SIDE_TABLE)
            },
        )


def _latest_after_writes() -> Iterator[Question]:
    for records in (_HUNDRED, _MANY):
        without = f"latest-{records}"
        yield Question(
            name=f"{without}-after-write",
            title=f"latest of {records:,} records, a write before each query",
            unit="µs",
            asks=_after_write_asks(records),
            targets=(at_most(1.3, OURS, without), at_most(1.3, OURS, f"{without}-after-rest")),
        )


def _after_write_asks(records: int) -> dict[str, Ask]:
    key, names = _site_of(records), _names(records)
    writes = [recordd.set_value(name, make_value(n), counted=False) for n, name in enumerate(names)]
    stream = [
        redis.write(key, (name, make_ts(n), make_value(n)), counted=False)
        for n, name in enumerate(names)
    ]
    both = _pg_writes("write_both", counted=False, records=records)

    def make_ours() -> list[Request]:
        return _alternate(writes, recordd.query("*"))

    return {
        OURS: Ask(site=f"recordd {key}", requests=make_ours, values=records),
        LEAST: _least(_least_latest(records), make_ours, records),
        REDIS: _redis(lambda: _alternate(stream, redis.hgetall(key)), records),
        SIDE_TABLE: _pg(key, lambda: _alternate(both, postgres.execute("latest")), records),
    }


def _fan_outs(scale: Scale) -> Iterator[Question]:
    write = [recordd.set_value(name, make_value(n)) for n, name in enumerate(_names(_MANY))]
    count = scale.subscribers
    yield Question(
        name="fan-out",
        title=f"one write to {count:,} subscribers",
        unit="/s",
        asks={
            OURS: _fan_out("recordd writes", write, _followers("recordd writes", count)),
            LEAST: _fan_out(
                "least write writes", write, _followers("least write writes, followers", count)
            ),
            REDIS: _fan_out(
                "redis",
                [redis.publish(_EVENT)],
                Followers(site="redis", count=count, subscribe=redis.SUBSCRIBE),
            ),
            NATS: _fan_out(
                "nats",
                [nats.publish(_EVENT)],
                Followers(site="nats", count=count, subscribe=nats.SUBSCRIBE),
            ),
        },
        targets=(at_least(0.8, REDIS),),
    )
    by_websocket = {
        site: Followers(
            site=f"{site}, WebSocket",
            count=count,
            subscribe=recordd.encode_frame(recordd.SUBSCRIBE),
        )
        for site in ("recordd writes", "least write writes")
    }
    yield Question(
        name="fan-out-websocket",
        title=f"one write to {count:,} subscribers, WebSocket",
        unit="/s",
        asks={
            who: _fan_out(site, write, followers)
            for who, (site, followers) in zip((OURS, LEAST), by_websocket.items(), strict=True)
        },
        targets=(at_least(100_000),),
    )


def _websockets() -> Iterator[Question]:
    yield Question(
        name="websocket-latest-1000",
        title="latest of 1,000 records, WebSocket",
        unit="µs",
        asks={
            OURS: Ask(
                site="recordd many, WebSocket",
                requests=_same(recordd.encode_frame(recordd.query("*"))),
                values=_MANY,
            )
        },
        targets=(at_most(2, OURS, "latest-1000"),),
    )
    gets = _each(lambda name: recordd.encode_frame(recordd.get(name)))
    yield Question(
        name="websocket-get-16x1",
        title="record.get, 16 x 1, WebSocket",
        unit="/s",
        asks={
            OURS: Ask(site="recordd many, WebSocket", requests=gets, values=1),
            WEBSOCKET_ECHO: Ask(site="websocket echo", requests=gets),
        },
        targets=(at_least(1, WEBSOCKET_ECHO),),
        connections=16,
    )


def _site_of(records: int) -> str:
    return "many" if records == _MANY else "hundred"


def _least_latest(records: int) -> str:
    return "latest writes" if records == _MANY else "latest hundred"


def _same(request: Request) -> Callable[[], list[Request]]:
    return lambda: [request]


def _alternate(writes: Sequence[Request], request: Request) -> list[Request]:
    return [one for write in writes for one in (write, request)]


def _many(requests: Callable[[], Sequence[Request]], values: int) -> Ask:
    return Ask(site="recordd many", requests=requests, values=values)


def _least(site: str, requests: Callable[[], Sequence[Request]], values: int | None = None) -> Ask:
    """Ask the least server of a job and the data that it has."""
    return Ask(site=f"least {site}", requests=requests, values=values)


def _pg(schema: str, requests: Callable[[], Sequence[Request]], values: int | None = None) -> Ask:
    return Ask(site=f"pg {schema}", requests=requests, values=values)


def _redis(requests: Callable[[], Sequence[Request]], values: int | None = None) -> Ask:
    return Ask(site="redis", requests=requests, values=values)


def _followers(site: str, count: int) -> Followers:
    return Followers(site=site, count=count, subscribe=recordd.SUBSCRIBE)


def _fan_out(site: str, writes: Sequence[Request], followers: Followers) -> Ask:
    return Ask(site=site, requests=lambda: writes, followers=followers)
