"""One write to many subscribers, and writes beside subscribers that never read.

`fanout`: 1,000 connections with a subscription each, and a writer that sends its next
write, or burst of 64, when all of them have had the last. Limits: over the Unix socket
150,000 deliveries/s of single writes and 1,000,000/s of bursts; over WebSocket 15,000 and
400,000. Beside it a bare server that gives the same bytes to as many sockets, without
storing, matching or encoding anything.

`slow`: the time of a `record.set` of 2 kB, p99, beside 200 subscribers that read nothing: when
they are stuck, and before, while each event still goes to a socket or a queue; and by how
much the daemon grows for each. Limits: twice the time without them, 2 MiB.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import Daemon, encode_request, running_full_daemon
from benchmarks.load import Generator, Load, open_generator
from benchmarks.observations import make_name, make_value
from benchmarks.peers import running_bare_fanout
from benchmarks.report import Figure, median_rate, quantile
from benchmarks.subscribers import Address, deliver_bursts, time_writes_beside_stuck

__all__ = ["measure", "measure_slow"]

_SUBSCRIBERS: Final = 1000
_STUCK: Final = 200
_PIPELINED: Final = 64
_SLOW_VALUE_BYTES: Final = 2000
_FILLING: Final = 750
"""Writes after which a subscriber is stuck for certain: its socket takes some 200 kB, and 1 MiB
waits in the daemon."""
_TARGETS: Final = {1: ("150,000", "15,000"), _PIPELINED: ("1,000,000", "400,000")}
# Every subscription has an id of its own here, so that none shares the bytes of its events.
_SUBSCRIBE_APART: Final = b'{"t":"sub","id":%d,"topic":"#"}\n{"t":"ping"}\n'
_SUBSCRIBE: Final = encode_request("record.subscribe", name="#", snapshot=False)


class _Scale(msgspec.Struct, frozen=True):
    """How many rounds, and their length; how many writes are timed."""

    rounds: int
    seconds: float
    writes: int


_FULL: Final = _Scale(rounds=7, seconds=1.5, writes=2000)
_QUICK: Final = _Scale(rounds=3, seconds=0.4, writes=1500)


def measure(quick: bool, folder: Path) -> list[Figure]:
    """Measure deliveries over both transports, single writes and bursts."""
    scale = _QUICK if quick else _FULL
    with (
        running_full_daemon(
            folder, max_connections="1100", max_connections_per_address="1100"
        ) as daemon,
        running_bare_fanout(folder) as bare,
        open_generator() as generator,
    ):
        figures = []
        for updates, targets in _TARGETS.items():
            rounds = _measure_rounds(generator, daemon, bare, updates, scale)
            what = "one write" if updates == 1 else f"{updates} pipelined"
            for name, target in zip(("Unix socket", "WebSocket"), targets, strict=True):
                figures.append(
                    Figure(
                        benchmark=f"fan-out to {_SUBSCRIBERS:,}, {what}, {name}",
                        value=median_rate(rounds[name]),
                        unit="/s",
                        target=f"≥ {target}/s",
                        peer="bare server, Unix socket",
                        peer_value=median_rate(rounds["bare"]),
                    )
                )
    return figures


def measure_slow(quick: bool, folder: Path) -> list[Figure]:
    """Measure writes with and without subscribers that never read."""
    scale = _QUICK if quick else _FULL
    filling: dict[int, list[float]] = {0: [], _STUCK: []}
    stuck: dict[int, list[float]] = {0: [], _STUCK: []}
    grown = []
    with running_full_daemon(folder) as daemon, open_generator() as generator:
        value = msgspec.Raw(b'"%b"' % (b"x" * _SLOW_VALUE_BYTES))
        names = [make_name(n % 100) for n in range(scale.writes)]
        writes = [encode_request("record.set", name=name, value=value) for name in names]
        for _ in range(scale.rounds):
            for subscribers in filling:
                seconds, growth = generator.run(
                    time_writes_beside_stuck,
                    daemon.path,
                    _SUBSCRIBE_APART,
                    writes,
                    subscribers,
                    daemon.pid,
                )
                filling[subscribers].append(quantile(seconds[:_FILLING], 0.99) * 1000)
                stuck[subscribers].append(quantile(seconds[_FILLING:], 0.99) * 1000)
                grown.append(growth / _STUCK / 2**20 if subscribers else 0.0)
    return [
        _slow_figure(f"record.set beside {_STUCK} stuck subscribers, p99", stuck, "≤ 2x"),
        _slow_figure("the same while what they do not read fills up, p99", filling),
        Figure(
            benchmark="memory of a stuck subscriber", value=max(grown), unit="MiB", target="≤ 2 MiB"
        ),
    ]


def _slow_figure(benchmark: str, p99s: dict[int, list[float]], target: str = "") -> Figure:
    return Figure(
        benchmark=benchmark,
        value=statistics.median(p99s[_STUCK]),
        unit="ms",
        target=target,
        peer="without them",
        peer_value=statistics.median(p99s[0]),
    )


def _measure_rounds(
    generator: Generator, daemon: Daemon, bare: str, updates: int, scale: _Scale
) -> dict[str, list[Load]]:
    """Let the transports and the bare server take turns."""
    burst = b"".join(_encode_set(n) for n in range(updates))
    addresses: dict[str, Address] = {
        "Unix socket": daemon.path,
        "WebSocket": ("127.0.0.1", daemon.port),
        "bare": bare,
    }
    rounds: dict[str, list[Load]] = {name: [] for name in addresses}
    for _ in range(scale.rounds):
        for name, address in addresses.items():
            writer = bare if name == "bare" else daemon.path
            load = generator.run(
                deliver_bursts,
                address,
                writer,
                _SUBSCRIBE,
                burst,
                updates,
                _SUBSCRIBERS,
                scale.seconds,
            )
            rounds[name].append(load)
    return rounds


def _encode_set(number: int) -> bytes:
    return encode_request(
        "record.set", number, name=make_name(number), value=msgspec.Raw(make_value(number))
    )
