"""How much room of the disk an ordinary write needs, at most: reckoned, not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from recordd.persistence.sqlite.log_rows import LogRows

__all__ = ["ENTRY_BYTES", "Need"]

ENTRY_BYTES: Final = 64
"""What an entry of the index, with its timeline, takes of the file (measured: 39 to 43)."""

_CHARACTER_BYTES: Final = 4
"""At most, in UTF-8. To encode a value again only to count it costs more than to overrate it."""

_ROW_BYTES: Final = 128
"""What a row takes beside its value: its entry in the index, too."""

_BESIDE_BYTES: Final = 65_536
"""Pages between root and leaf that are split, and what folding takes beside the pages."""


class Need(msgspec.Struct, frozen=True):
    """What an ordinary write needs: `most_bytes` is more than the file can grow by it.

    `unmerged_rows` wait for the index behind it.
    """

    most_bytes: int
    unmerged_rows: int

    @classmethod
    def of(cls, groups: Sequence[LogRows], new: Sequence[tuple[int, str]], merged_rev: int) -> Need:
        """Return what groups of rows need, with the records that are new.

        A page is half full at worst.
        """
        rows = sum(map(len, groups))
        values = sum([sum(map(len, group.values)) for group in groups]) * _CHARACTER_BYTES
        names = sum([len(name) for _, name in new]) * _CHARACTER_BYTES
        ours = values + 2 * names + _ROW_BYTES * (rows + 2 * len(new))
        return cls(2 * ours + _BESIDE_BYTES, groups[-1].revs[-1] - merged_rev)
