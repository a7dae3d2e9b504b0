"""The methods: one module a family, each with its handlers by name. Together, the table."""

from __future__ import annotations

from typing import Final

from recordd.methods import following, graph, querying, reading, server, writing
from recordd.methods.dispatch import Binding, bind

__all__ = ["TABLE"]

TABLE: Final[dict[str, Binding]] = bind(
    {
        **server.HANDLERS,
        **reading.HANDLERS,
        **querying.HANDLERS,
        **writing.HANDLERS,
        **following.HANDLERS,
        **graph.HANDLERS,
    }
)
