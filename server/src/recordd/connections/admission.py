"""Who may connect: how many at once, from where, and how many places the Unix socket keeps."""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from recordd.config.settings import Settings

__all__ = ["Admission", "AdmissionStatistics"]


class AdmissionStatistics(msgspec.Struct, frozen=True):
    """Connections of now, and those let in and turned away since the start."""

    connections: int
    connections_total: int
    connections_refused: int
    accept_errors: int


class Admission:
    """Counts the connections that are open, and decides about one more.

    An address is None for a connection of the Unix socket: who may use that is on this
    machine and has the rights to it, and must not be locked out by those who are not.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit: Final = settings.max_connections
        self._per_address: Final = settings.max_connections_per_address
        # Never more than half: a small limit still leaves room for both.
        reserve = min(settings.reserved_unix_connections, self._limit // 2)
        self._limit_of_others: Final = self._limit - reserve if settings.socket else self._limit
        self._count = 0
        self._total = 0
        self._refused = 0
        self._accept_errors = 0
        self._by_peer: Final[dict[str, int]] = {}

    def statistics(self) -> AdmissionStatistics:
        """Return how many came, and what became of them."""
        return AdmissionStatistics(
            connections=self._count,
            connections_total=self._total,
            connections_refused=self._refused,
            accept_errors=self._accept_errors,
        )

    def refuse(self, address: str | None) -> str | None:
        """Return why one more connection is not admitted, which counts; None where it is."""
        reason = self._find_reason(address)
        self._refused += reason is not None
        return reason

    def note_accept_error(self) -> None:
        """Count a connection that the system had no room for."""
        self._accept_errors += 1

    def _find_reason(self, address: str | None) -> str | None:
        if self._count >= self._limit:
            return f"max_connections: {self._limit} connections are open: try again later"
        if address is None:
            return None
        if sum(self._by_peer.values()) >= self._limit_of_others:
            return (
                f"max_connections: {self._limit_of_others} connections are open, the others are"
                " reserved_unix_connections: try again later"
            )
        if self._by_peer.get(_peer_of(address), 0) >= self._per_address:
            return (
                f"max_connections_per_address: {self._per_address} connections are open from"
                f" {address}: try again later"
            )
        return None

    def enter(self, address: str | None) -> None:
        """Count a connection in."""
        self._count += 1
        self._total += 1
        if address is not None:
            peer = _peer_of(address)
            self._by_peer[peer] = self._by_peer.get(peer, 0) + 1

    def leave(self, address: str | None) -> None:
        """Count it out."""
        self._count -= 1
        if address is not None:
            peer = _peer_of(address)
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]


def _peer_of(address: str) -> str:
    """Return whose address it is: of IPv6 a machine has a whole /64 to itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
