"""Single requests over the Unix socket: `record.get` and `record.set`.

`get`: 64 requests in one send, and the next 64 when those are answered. Limit: 150,000/s.
Beside it a bare Trio echo server that gets the same bytes.

`echo`: one request at a time, beside the same echo server. Limit: 70 % of its rate.

`set`: 16 clients with 64 requests each in flight, every answer after COMMIT with
synchronous=FULL. Limit: 40,000/s. Beside it SQLite alone: as many rows, of the same
values, into a table without an index, 1,024 (= 16 x 64) a transaction.

Rounds of the daemon and of its peer alternate, many short ones where both must meet the
same weather on a shared machine; shown is the median of the rounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import call, encode_request, running_daemon
from benchmarks.load import Generator, Load, open_generator, repeat_burst, repeat_bursts
from benchmarks.observations import make_name, make_value
from benchmarks.peers import insert_bare, running_echo_server
from benchmarks.report import Figure, median_rate

__all__ = ["measure_echo", "measure_get", "measure_set"]

_PIPELINED: Final = 64
_WRITERS: Final = 16
_RECORDS: Final = _PIPELINED * _WRITERS


class _Scale(msgspec.Struct, frozen=True):
    """How many rounds of each server, and their length."""

    rounds: int
    seconds: float


_FULL: Final = _Scale(rounds=25, seconds=0.4)
_QUICK: Final = _Scale(rounds=5, seconds=0.2)
# Long enough that the daemon merges its index in every round.
_FULL_SET: Final = _Scale(rounds=5, seconds=3.0)
_QUICK_SET: Final = _Scale(rounds=3, seconds=1.0)


def measure_get(quick: bool, folder: Path) -> list[Figure]:
    """Measure pipelined `record.get`."""
    requests = [encode_request("record.get", n, name=make_name(n)) for n in range(_PIPELINED)]
    ours, echo = _measure_beside_echo(quick, folder, requests)
    return [
        Figure(
            benchmark=f"record.get, {_PIPELINED} pipelined",
            value=ours,
            unit="/s",
            target="≥ 150,000/s",
            peer="Trio echo, same bytes",
            peer_value=echo,
        )
    ]


def measure_echo(quick: bool, folder: Path) -> list[Figure]:
    """Measure `record.get` one at a time."""
    request = encode_request("record.get", name=make_name(1))
    ours, echo = _measure_beside_echo(quick, folder, [request])
    return [
        Figure(
            benchmark="record.get, one at a time",
            value=ours,
            unit="/s",
            target="≥ 0.7x",
            peer="Trio echo",
            peer_value=echo,
        )
    ]


def measure_set(quick: bool, folder: Path) -> list[Figure]:
    """Measure `record.set` from many clients, and check that every row is there."""
    ours: list[Load] = []
    alone: list[Load] = []
    scale = _QUICK_SET if quick else _FULL_SET
    with running_daemon(folder) as path, open_generator() as generator:
        for _ in range(scale.rounds):
            load = _set_round(generator, path, scale.seconds)
            ours.append(load)
            alone.append((load[0], _insert_alone(folder, load[0])))
        written = sum(answered for answered, _ in ours)
        if (found := call(path, "record.count")["rows"]) != written:
            raise RuntimeError(f"{found} rows instead of {written}")
    return [
        Figure(
            benchmark=f"record.set, {_WRITERS} clients x {_PIPELINED} pipelined, FULL",
            value=median_rate(ours),
            unit="/s",
            target="≥ 40,000/s",
            peer=f"SQLite alone, {_RECORDS:,} a commit",
            peer_value=median_rate(alone),
        )
    ]


def _measure_beside_echo(quick: bool, folder: Path, requests: list[bytes]) -> tuple[float, float]:
    """Send the same bytes to the daemon and to the echo server in turn; return both rates."""
    scale = _QUICK if quick else _FULL
    burst, lines = b"".join(requests), len(requests)
    ours: list[Load] = []
    echo: list[Load] = []
    with (
        running_daemon(folder) as path,
        running_echo_server(folder) as echo_path,
        open_generator() as generator,
    ):
        for n in range(_PIPELINED):
            call(path, "record.set", name=make_name(n), value=msgspec.Raw(make_value(n)))
        for _ in range(scale.rounds):
            ours.append(generator.run(repeat_burst, path, burst, lines, scale.seconds))
            echo.append(generator.run(repeat_burst, echo_path, burst, lines, scale.seconds))
        call(path, "record.get", name=make_name(1))
    return median_rate(ours), median_rate(echo)


def _set_round(generator: Generator, path: str, seconds: float) -> Load:
    requests = [
        encode_request("record.set", n, name=make_name(n), value=msgspec.Raw(make_value(n)))
        for n in range(_RECORDS)
    ]
    bursts = [b"".join(requests[n : n + _PIPELINED]) for n in range(0, _RECORDS, _PIPELINED)]
    return generator.run(repeat_bursts, path, bursts, _PIPELINED, seconds)


def _insert_alone(folder: Path, count: int) -> float:
    values = [make_value(n).decode() for n in range(_RECORDS)]
    rows = [
        (rev, rev % _RECORDS, 1_700_000_000_000 + rev, values[rev % _RECORDS])
        for rev in range(1, count + 1)
    ]
    return insert_bare(folder / "bare.db", rows, _RECORDS)
