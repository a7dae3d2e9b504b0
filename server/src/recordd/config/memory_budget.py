"""How much memory the settings let the daemon take, part by part."""

from __future__ import annotations

from typing import Final

from recordd.config.settings import Settings

__all__ = ["estimate_memory"]

_MIB: Final = 1 << 20
_BASE_BYTES: Final = 160 * _MIB
"""The interpreter and its libraries, 60 MiB; SQLite's caches; what malloc keeps."""

_RECORD_BYTES: Final = 1500
"""What a record takes beside its values: its state, its places in the hub and its views."""

_ENTRY_BYTES: Final = 200
"""An index entry in memory, of which there are twice `tail_rows` at times."""

_CONNECTION_BYTES: Final = 50_000
_READ_VALUES: Final = 32
"""Values that a reader fetches at once."""

_COPIES: Final = 3
"""Of what is written or answered: as it came, as a row, as it goes."""


def estimate_memory(settings: Settings) -> dict[str, int]:
    """Return the bytes of each part at its bound, by name; their sum is the most there can be."""
    largest_read = _READ_VALUES * settings.max_value_bytes + settings.max_reply_bytes
    return {
        "base": _BASE_BYTES,
        "records": settings.max_records * _RECORD_BYTES,
        "index tail": 2 * settings.tail_rows * _ENTRY_BYTES,
        "latest values": settings.max_latest_bytes,
        "answers waiting": 2 * settings.max_waiting_bytes,
        "write queue": _COPIES * settings.write_queue_bytes,
        "backlog": _COPIES * settings.backlog_bytes,
        "pages kept": settings.page_snapshot_bytes,
        "reads": settings.readers * _COPIES * largest_read,
        "connections": settings.max_connections * (settings.max_message_bytes + _CONNECTION_BYTES),
    }
