"""The options of the SQLite backend: its `[backend]` table."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from recordd.extending.backend import BackendOptions
from recordd.extending.options import option, read_options
from recordd_protocol.addresses import default_state_directory

__all__ = ["OpenOptions", "SqliteOptions", "read_open_options"]


def _default_database() -> str:
    return default_state_directory(os.environ) + "/recordd.db"


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may state."""

    database: Annotated[str, option("path", "the backend's file")] = msgspec.field(
        default_factory=_default_database
    )
    reserve_bytes: Annotated[
        int, option("bytes", "room for deleting on a full disk, a file beside; 0: none", ge=0)
    ] = 16 << 20
    synchronous: Annotated[
        Literal["full", "normal"],
        option("mode", "full: an acknowledged write survives a power cut; normal: a crash only"),
    ] = "full"
    readers: Annotated[
        int,
        option(
            "threads", "history queries at the same time, each on its own connection", ge=1, le=64
        ),
    ] = 2
    tail_rows: Annotated[
        int, option("rows", "indexed in memory before they are merged to disk", ge=1, le=1 << 20)
    ] = 65_536
    recent_bytes: Annotated[
        int,
        option("bytes", "newest rows of records that are asked for, in memory; 0: none", ge=0),
    ] = 64 << 20

    def __post_init__(self) -> None:
        if "\0" in self.database:
            raise ValueError("database: a path holds no NUL")
        if self.database.startswith((":", "file:")):
            raise ValueError('database: must be a path; the backend "memory" needs none')
        if not self.database:
            raise ValueError('database: must not be empty; the backend "memory" needs none')


class OpenOptions(SqliteOptions, frozen=True, kw_only=True):
    """The options, the database by its real name, and what the daemon says beside."""

    query_timeout_s: float
    accept_loss: bool


def read_open_options(options: BackendOptions) -> OpenOptions:
    """Read the table.

    Raises:
        OptionError: an option is none, or its value is none for it.
    """
    table = msgspec.structs.asdict(read_options(SqliteOptions, options))
    # What stands beside the file has its real name: a link is not another database.
    table["database"] = os.path.realpath(table["database"])
    return OpenOptions(
        **table, query_timeout_s=options.query_timeout_s, accept_loss=options.accept_loss
    )
