"""AimDB's graph methods. recordd's records are independent: nodes, but no edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recordd.caller import Caller
from recordd.dispatch import Handler
from recordd.methods.reading import check_answer_size
from recordd_protocol.methods import Edge, Node, NoParams

__all__ = ["HANDLERS"]

_MIN_NODE_BYTES: Final = 100


def list_nodes(caller: Caller, params: NoParams) -> list[Node]:
    """Return every record as a node without links."""
    hub = caller.core.hub
    check_answer_size(caller, len(hub), _MIN_NODE_BYTES)
    states = [state for name in hub.names() if (state := hub.find(name))]
    return [
        Node(
            key=state.name,
            origin="passive",
            buffer_type=state.rule.buffer,
            buffer_capacity=state.rule.capacity if state.rule.buffer == "spmc_ring" else None,
            tap_count=0,
            has_outbound_link=False,
        )
        for state in states
    ]


def list_edges(caller: Caller, params: NoParams) -> list[Edge]:
    """Return no edges."""
    return []


def list_in_order(caller: Caller, params: NoParams) -> list[str]:
    """Return the names in the order in which the records came to exist."""
    return list(caller.core.hub.names())


HANDLERS: Final[Mapping[str, Handler]] = {
    "graph.nodes": list_nodes,
    "graph.edges": list_edges,
    "graph.topo_order": list_in_order,
}
