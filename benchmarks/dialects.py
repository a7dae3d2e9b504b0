"""AimX beside JSON-RPC, on one daemon in one run. Limit: within 10 % of it.

Once `record.get`, 64 in one send and the next 64 when those are answered; once events, 64
writes at a time to 100 subscribers over the Unix socket, each burst when all have had the
last. Rounds alternate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from benchmarks.daemon import Daemon, call, encode_request, running_full_daemon
from benchmarks.load import Generator, Load, open_generator, repeat_burst
from benchmarks.observations import make_name, make_value
from benchmarks.report import Figure, median_rate
from benchmarks.subscribers import deliver_bursts

__all__ = ["measure"]

_PIPELINED: Final = 64
_SUBSCRIBERS: Final = 100
_TARGET: Final = "≥ 0.9x"
_DIALECTS: Final = ("AimX", "JSON-RPC")
_SUBSCRIBE: Final = {
    "AimX": b'{"t":"sub","id":1,"topic":"#"}\n',
    "JSON-RPC": encode_request("record.subscribe", name="#"),
}


class _Scale(msgspec.Struct, frozen=True):
    rounds: int
    seconds: float


_FULL: Final = _Scale(rounds=15, seconds=0.5)
_QUICK: Final = _Scale(rounds=5, seconds=0.2)


def measure(quick: bool, folder: Path) -> list[Figure]:
    """Measure both, each dialect in turn."""
    scale = _QUICK if quick else _FULL
    gets: dict[str, list[Load]] = {name: [] for name in _DIALECTS}
    events: dict[str, list[Load]] = {name: [] for name in _DIALECTS}
    with running_full_daemon(folder) as daemon, open_generator() as generator:
        for n in range(_PIPELINED):
            value = msgspec.Raw(make_value(n))
            call(daemon.path, "record.set", name=make_name(n), value=value)
        for _ in range(scale.rounds):
            for name in _DIALECTS:
                gets[name].append(_get_round(generator, daemon, name, scale.seconds))
                events[name].append(_event_round(generator, daemon, name, scale.seconds))
    return [
        _figure(f"AimX record.get, {_PIPELINED} pipelined", gets),
        _figure(f"AimX events to {_SUBSCRIBERS}, {_PIPELINED} pipelined", events),
    ]


def _figure(benchmark: str, rounds: dict[str, list[Load]]) -> Figure:
    return Figure(
        benchmark=benchmark,
        value=median_rate(rounds["AimX"]),
        unit="/s",
        target=_TARGET,
        peer="JSON-RPC",
        peer_value=median_rate(rounds["JSON-RPC"]),
    )


def _get_round(generator: Generator, daemon: Daemon, dialect: str, seconds: float) -> Load:
    requests = [_encode(dialect, "record.get", n, name=make_name(n)) for n in range(_PIPELINED)]
    return generator.run(repeat_burst, daemon.path, b"".join(requests), _PIPELINED, seconds)


def _event_round(generator: Generator, daemon: Daemon, dialect: str, seconds: float) -> Load:
    burst = b"".join(
        _encode(dialect, "record.set", n, name=make_name(n), value=msgspec.Raw(make_value(n)))
        for n in range(_PIPELINED)
    )
    return generator.run(
        deliver_bursts,
        daemon.path,
        daemon.path,
        _SUBSCRIBE[dialect],
        burst,
        _PIPELINED,
        _SUBSCRIBERS,
        seconds,
    )


def _encode(dialect: str, method: str, id: int, **params: object) -> bytes:
    if dialect == "JSON-RPC":
        return encode_request(method, id, **params)
    frame = {"t": "req", "id": id, "method": method, "params": params}
    return msgspec.json.encode(frame) + b"\n"
