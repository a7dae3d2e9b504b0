"""The routes of the port. To add one: a responder, its line in `ROUTES`, its test and its docs."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

import msgspec

from recordd.http.head import Head
from recordd.http.responses import BadRequest, Response
from recordd.http.routing import Resource, Routes, Upgrade
from recordd.methods.caller import Caller
from recordd.transports.websocket import serve_websocket
from recordd_protocol import PROTOCOL_VERSION

__all__ = ["ROUTES"]


async def show_health(head: Head, caller: Caller) -> Response:
    """Answer that the daemon serves."""
    health = {
        "status": "ok",
        "clients": caller.core.admission.statistics().connections,
        "uptime_secs": int(caller.core.uptime_s),
    }
    return Response(200, msgspec.json.encode(health))


async def show_version(head: Head, caller: Caller) -> Response:
    """Answer which AimX is spoken: AimDB's browser apps ask before they connect."""
    return Response(200, msgspec.json.encode({"aimx": PROTOCOL_VERSION}))


def check_version(head: Head) -> None:
    """Refuse a client that asks for another major version of AimX; one that asks for none may.

    Raises:
        BadRequest: 426, with the words that AimDB's clients look for.
    """
    for version in parse_qs(head.query, keep_blank_values=True).get("v", ()):
        if version.split(".", 1)[0] != PROTOCOL_VERSION.split(".", 1)[0]:
            raise BadRequest(
                426, f"incompatible AimX protocol version (server speaks {PROTOCOL_VERSION})"
            )


ROUTES: Final[Routes] = {
    "/ws": Upgrade(check_version, serve_websocket),
    "/health": Resource({"GET": show_health}),
    "/version": Resource({"GET": show_version}),
}
