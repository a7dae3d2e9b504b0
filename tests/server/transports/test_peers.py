"""What the system tells of a peer."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from recordd.methods.peer import Peer
from recordd.transports.peers import find_peer


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell")
async def test_the_peer_of_a_unix_socket_is_a_user() -> None:
    near, far = trio.socket.socketpair()
    async with trio.SocketStream(near) as stream:
        assert find_peer(stream, "unix") == Peer("unix", uid=os.getuid())
        far.close()


async def test_the_peer_of_a_tcp_socket_is_an_address() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        async with client, await listener.accept() as stream:
            assert find_peer(stream, "http") == Peer("http", address="127.0.0.1")


async def test_a_peer_that_has_left_is_nobody_in_particular() -> None:
    near, far = trio.socket.socketpair()
    stream = trio.SocketStream(near)
    for sock in (near, far):
        sock.close()
    assert find_peer(stream, "websocket").address is None
