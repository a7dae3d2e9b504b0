"""How much memory the settings let the daemon take, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recordd.config.settings import Settings

__all__ = ["RENDERED_BYTES", "estimate_memory"]

_MIB: Final = 1 << 20
_BASE_BYTES: Final = 80 * _MIB
"""The interpreter and its libraries, 60 MiB; what malloc keeps."""

_RECORD_BYTES: Final = 1500
"""What a record takes beside its values: its state, its places in the hub and its views."""

RENDERED_BYTES: Final = 32 * _MIB
"""Answers with latest values that are kept as text: some 30 of a thousand records each."""

_CONNECTION_BYTES: Final = 50_000
_COPIES: Final = 3
"""Of what is written or answered: as it came, as a row, as it goes."""


def estimate_memory(settings: Settings, backend: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of each part at its bound, by name; their sum is the most there can be.

    `backend` are the parts that the backend takes, as it estimates them.
    """
    return {
        "base": _BASE_BYTES,
        "records": settings.max_records * _RECORD_BYTES,
        "latest values": settings.max_latest_bytes,
        "answers waiting": 2 * settings.max_waiting_bytes,
        "write queue": _COPIES * settings.write_queue_bytes,
        "backlog": _COPIES * settings.backlog_bytes,
        "answers kept": RENDERED_BYTES,
        "pages kept": settings.page_snapshot_bytes,
        "connections": settings.max_connections * (settings.max_message_bytes + _CONNECTION_BYTES),
        **backend,
    }
