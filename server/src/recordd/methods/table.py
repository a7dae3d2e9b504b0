"""The whole table of methods: every family's handlers, bound. Only who builds a core imports it."""

from __future__ import annotations

from typing import Final

from recordd.core import CoreBuilder
from recordd.methods import following, graph, querying, reading, server, writing
from recordd.methods.dispatch import MethodTable, bind

__all__ = ["TABLE", "with_methods"]

TABLE: Final = bind(
    {
        **server.HANDLERS,
        **reading.HANDLERS,
        **querying.HANDLERS,
        **writing.HANDLERS,
        **following.HANDLERS,
        **graph.HANDLERS,
    },
    {**reading.RUN_HANDLERS, **writing.RUN_HANDLERS},
)


def with_methods(builder: CoreBuilder) -> None:
    """Give a core its methods; an extension like others."""
    builder.extensions.insert(MethodTable, TABLE)
