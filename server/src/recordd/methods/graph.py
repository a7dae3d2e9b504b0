"""AimDB's graph methods. recordd's records are independent: nodes, but no edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recordd.hub.records import RecordState
from recordd.methods.caller import Caller
from recordd.methods.dispatch import Handler
from recordd.methods.listing import Listing
from recordd.methods.outcome import Answer
from recordd_protocol.methods import Node, NoParams

__all__ = ["HANDLERS"]

_MIN_NODE_BYTES: Final = 100
_MIN_NAME_BYTES: Final = 4


def list_nodes(caller: Caller, params: NoParams) -> Listing:
    """Return every record as a node without links."""
    return Listing(
        caller.core.hub.catalogue.states_after(-1), _make_node, min_row_bytes=_MIN_NODE_BYTES
    )


def list_edges(caller: Caller, params: NoParams) -> Answer:
    """Return no edges."""
    return Answer([])


def list_in_order(caller: Caller, params: NoParams) -> Listing:
    """Return the names in the order in which the records came to exist."""
    return Listing(list(caller.core.hub.catalogue.names()), str, min_row_bytes=_MIN_NAME_BYTES)


def _make_node(state: RecordState) -> Node:
    return Node(
        key=state.name,
        origin="passive",
        buffer_type=state.rule.buffer,
        buffer_capacity=state.rule.capacity if state.rule.buffer == "spmc_ring" else None,
        tap_count=0,
        has_outbound_link=False,
    )


HANDLERS: Final[Mapping[str, Handler]] = {
    "graph.nodes": list_nodes,
    "graph.edges": list_edges,
    "graph.topo_order": list_in_order,
}
