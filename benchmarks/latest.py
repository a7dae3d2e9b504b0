"""The latest value of 1,000 records, the page load of a dashboard: does history cost anything?

Measured: whole round trips of `record.query {"name": "*"}` over the Unix socket, by one
client that reads the answer to its end and does not parse it. Once with nothing written
in between, once with a `record.set` before each query, so that no two answers are the
same. Limit: 0.5 ms at the median, and the same (up to 1.2 times) with ten times the rows
behind every record.

Beside it, with the same rows: AimDB's query over its table, in process and not even sent
anywhere, and Redis, which holds no history, answering HGETALL of as many fields.

The servers wait at the same time and are asked in turns, a round each; quantiles are
taken of each round, and the median of the rounds is shown.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import call, encode_request, running_daemon
from benchmarks.load import Generator, open_generator, time_exchanges
from benchmarks.observations import make_name, make_rows, make_value, preload
from benchmarks.peers import build_aimdb_table, query_aimdb_table, running_redis
from benchmarks.report import Figure, quantile

__all__ = ["measure"]

_RECORDS: Final = 1000
_QUERY: Final = encode_request("record.query", name="*")
_HGETALL: Final = b"*2\r\n$7\r\nHGETALL\r\n$6\r\nlatest\r\n"
_TARGET: Final = "≤ 0.5 ms"
_TARGET_DEEP: Final = "≤ 0.5 ms, ≤ 1.2x"


class _Scale(msgspec.Struct, frozen=True):
    """How much is measured; `depths` in rows of each record."""

    depths: tuple[int, int]
    rounds: int
    queries: int
    aimdb_queries: int


_FULL: Final = _Scale((1000, 10_000), rounds=8, queries=250, aimdb_queries=3)
_QUICK: Final = _Scale((100, 1000), rounds=5, queries=60, aimdb_queries=3)


class _Series:
    """One query to one server, after a write each time or not, and the seconds of its rounds."""

    def __init__(
        self, name: str, path: str, query: bytes, *, lines: int = 1, after_write: bool = False
    ) -> None:
        self.name: Final = name
        self._path: Final = path
        self._query: Final = query
        self._lines: Final = lines
        self._after_write: Final = after_write
        self._rounds: Final[list[list[float]]] = []

    def add_round(self, generator: Generator, queries: int) -> None:
        """Time some queries more; the writes between them are not counted."""
        requests = [self._query] * queries
        if self._after_write:
            requests = [one for n in range(queries) for one in (_encode_set(n), self._query)]
        seconds = generator.run(time_exchanges, self._path, requests, self._lines)
        self._rounds.append(seconds[1::2] if self._after_write else seconds)

    def quantile_ms(self, share: float) -> float:
        """Return the median of what the rounds had as their quantile."""
        return statistics.median(quantile(seconds, share) for seconds in self._rounds) * 1000


def measure(quick: bool, folder: Path) -> list[Figure]:
    """Measure queries at both depths, and the peers."""
    scale = _QUICK if quick else _FULL
    _prepare(folder, scale)
    with contextlib.ExitStack() as stack:
        shallow, deep = (
            stack.enter_context(running_daemon(folder / str(depth))) for depth in scale.depths
        )
        redis = stack.enter_context(running_redis(folder))
        series = [_query(shallow), _query(deep), _query_after_set(shallow), _query_after_set(deep)]
        if redis is not None:
            series.append(_fill_redis(redis))
        generator = stack.enter_context(open_generator())
        for _ in range(scale.rounds):
            for one in series:
                one.add_round(generator, scale.queries)
    figures = _compare_depths(series[0], series[1], scale)
    figures += _compare_depths(series[2], series[3], scale)
    figures += _compare_redis(series[0], *series[4:])
    return figures + _measure_aimdb(folder, scale, series[0], series[1])


def _prepare(folder: Path, scale: _Scale) -> None:
    """Write the databases, both kinds at the same time."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawning) as pool:
        written = []
        for depth in scale.depths:
            written.append(pool.submit(preload, folder / str(depth), _RECORDS, depth))
            table = folder / f"{depth}.aimdb"
            written.append(pool.submit(build_aimdb_table, table, _RECORDS, depth))
        for one in written:
            one.result()


def _query(path: str) -> _Series:
    found = len(call(path, "record.query", name="*")["records"])
    if found != _RECORDS:
        raise RuntimeError(f"{found} records instead of {_RECORDS}")
    return _Series("record.query *", path, _QUERY)


def _query_after_set(path: str) -> _Series:
    return _Series("record.query * after a write", path, _QUERY, after_write=True)


def _encode_set(number: int) -> bytes:
    """Write to one record after the other: each write moves another one to the end."""
    value = msgspec.Raw(make_value(number))
    return encode_request("record.set", name=make_name(number % _RECORDS), value=value)


def _fill_redis(path: str) -> _Series:
    """Put the same latest values into a hash; an answer is its count and each part's two lines."""
    words = ["HSET", "latest"]
    for name, value, ts in make_rows(_RECORDS, 1):
        words += [name, f'{{"value":{value.decode()},"ts":{ts},"rev":1000000}}']
    command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    time_exchanges(path, [command.encode()], 1)
    return _Series("Redis HGETALL", path, _HGETALL, lines=1 + 2 * 2 * _RECORDS)


def _compare_depths(shallow: _Series, deep: _Series, scale: _Scale) -> list[Figure]:
    figures = []
    for word, share in (("p50", 0.5), ("p99", 0.99)):
        base, depths = shallow.quantile_ms(share), scale.depths
        title = f"{shallow.name}, {{:,}} rows each, {word}"
        figures += [
            Figure(
                benchmark=title.format(depths[0]),
                value=base,
                unit="ms",
                target=_TARGET if word == "p50" else "",
            ),
            Figure(
                benchmark=title.format(depths[1]),
                value=deep.quantile_ms(share),
                unit="ms",
                target=_TARGET_DEEP if word == "p50" else "",
                peer=f"{depths[0]:,} rows each",
                peer_value=base,
            ),
        ]
    return figures


def _compare_redis(ours: _Series, redis: _Series | None = None) -> list[Figure]:
    if redis is None:
        return [
            Figure(
                benchmark="Redis HGETALL", value=None, unit="", peer="redis-server not installed"
            )
        ]
    return [
        Figure(
            benchmark=f"{redis.name}, {word}",
            value=redis.quantile_ms(share),
            unit="ms",
            peer=ours.name,
            peer_value=ours.quantile_ms(share),
        )
        for word, share in (("p50", 0.5), ("p99", 0.99))
    ]


def _measure_aimdb(folder: Path, scale: _Scale, *series: _Series) -> list[Figure]:
    figures = []
    for depth, ours in zip(scale.depths, series, strict=True):
        seconds = query_aimdb_table(folder / f"{depth}.aimdb", scale.aimdb_queries)
        figures.append(
            Figure(
                benchmark=f"AimDB's query, {depth:,} rows each, in process",
                value=statistics.median(seconds) * 1000,
                unit="ms",
                peer=ours.name,
                peer_value=ours.quantile_ms(0.5),
            )
        )
    return figures
