"""The strictness of the tests' own AimX client."""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.aimx_client import (
    CLOSE,
    MAX_BYTES,
    PONG,
    TEXT,
    WEBSOCKET_GUID,
    AimxClient,
    Refused,
    SpecViolation,
    WebSocketClient,
    connect_unix,
    connect_websocket,
    decode,
)

BAD_FRAMES = {
    "not JSON": b"{t}",
    "not UTF-8": b'{"t":"reply","id":1,"ok":"\xff"}',
    "NaN": b'{"t":"reply","id":1,"ok":NaN}',
    "raw control character": b'{"t":"reply","id":1,"ok":"\x01"}',
    "trailing text": b'{"t":"pong"} {"t":"pong"}',
    "array": b'[{"t":"pong"}]',
    "empty object": b"{}",
    "no t": b'{"id":1,"ok":1}',
    "unknown t": b'{"t":"hello"}',
    "t not a string": b'{"t":["pong"]}',
    "duplicate known key": b'{"t":"reply","id":1,"id":1,"ok":1}',
    "duplicate other key": b'{"t":"pong","rev":1,"rev":1}',
    "duplicate key in disguise": b'{"t":"pong","\\u0074":"pong"}',
    "wrong order": b'{"id":1,"t":"reply","ok":1}',
    "other key first": b'{"t":"reply","id":1,"msg":"x","err":"denied"}',
    "escape in t": b'{"t":"\\u0070ong"}',
    "escape in topic": b'{"t":"event","seq":1,"topic":"m\\u00fcnchen","sub":"3","data":1}',
    "escaped slash in topic": b'{"t":"event","seq":1,"topic":"a\\/b","sub":"3","data":1}',
    "escape in sub": b'{"t":"subscribed","sub":"\\u0033"}',
    "escape in err": b'{"t":"reply","id":1,"err":"not\\u005ffound"}',
    "null ok": b'{"t":"reply","id":1,"ok": null}',
    "null err": b'{"t":"reply","id":1,"err":null}',
    "err an object": b'{"t":"reply","id":1,"err":{"code":1}}',
    "neither ok nor err": b'{"t":"reply","id":1}',
    "both ok and err": b'{"t":"reply","id":1,"ok":1,"err":"denied"}',
    "reply without id": b'{"t":"reply","ok":1}',
    "negative id": b'{"t":"reply","id":-1,"ok":1}',
    "fractional id": b'{"t":"reply","id":1.0,"ok":1}',
    "id a string": b'{"t":"reply","id":"1","ok":1}',
    "id a boolean": b'{"t":"reply","id":true,"ok":1}',
    "id over 64 bits": b'{"t":"reply","id":18446744073709551616,"ok":1}',
    "seq a string": b'{"t":"event","seq":"1","sub":"3","data":1}',
    "sub a number": b'{"t":"event","seq":1,"sub":3,"data":1}',
    "topic null": b'{"t":"event","seq":1,"topic":null,"sub":"3","data":1}',
    "last a number": b'{"t":"snap","seq":1,"last":1,"topic":"a","sub":"3","data":1}',
    "snap without topic": b'{"t":"snap","seq":1,"sub":"3","data":1}',
    "event without data": b'{"t":"event","seq":1,"sub":"3"}',
    "pong with id": b'{"t":"pong","id":1}',
    "over 1 MiB": b'{"t":"reply","id":1,"ok":"%s"}' % (b"x" * MAX_BYTES),
}
GOOD_FRAMES = {
    "reply": b'{"t":"reply","id":18446744073709551615,"ok":{"ok":null,"t":"\\n","id":-1}}',
    "refusal": b'{"t":"reply","id":1,"err":"not_found","msg":"a \\"b\\"","skipped":2}',
    "spaces": b' { "t" : "snap" , "seq" : 1 ,"last":true, "topic":"\xc3\xbc","sub":"3", "data":[ ] } ',
    "data with every bracket": b'{"t":"event","seq":2,"sub":"3","data":"}],:{\\"","rev":1,"ts":2}',
    "pong": b'{"t":"pong"}\r',
}


@pytest.fixture
def unix() -> Iterator[tuple[AimxClient, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(2)
    with AimxClient(ours) as client, theirs:
        yield client, theirs


@pytest.fixture
def websocket() -> Iterator[tuple[WebSocketClient, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(2)
    with WebSocketClient(ours) as client, theirs:
        yield client, theirs


def unmask(frame: bytes) -> tuple[int, bytes]:
    """First byte and payload of a short masked frame."""
    assert frame[1] == 0x80 | (len(frame) - 6)
    return frame[0], bytes(byte ^ frame[2 + index % 4] for index, byte in enumerate(frame[6:]))


def event(sub: int, seq: int, topic: str = "") -> bytes:
    named = {"topic": topic} if topic else {}
    return json.dumps({"t": "event", "seq": seq, **named, "sub": str(sub), "data": seq}).encode()


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_rejected(frame: bytes) -> None:
    with pytest.raises(SpecViolation):
        decode(frame)


@pytest.mark.parametrize("frame", GOOD_FRAMES.values(), ids=GOOD_FRAMES)
def test_a_good_frame_is_read(frame: bytes) -> None:
    assert decode(frame) == json.loads(frame)


def test_a_frame_of_exactly_1_mib_passes(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    frame = b'{"t":"reply","id":1,"ok":"%s"}'
    frame %= b"x" * (MAX_BYTES - len(frame) + 2)
    sender = threading.Thread(target=server.sendall, args=(frame + b"\r\n",))
    sender.start()
    assert client.receive() == json.loads(frame)
    sender.join()


def test_an_endless_line_is_rejected(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    sender = threading.Thread(target=server.sendall, args=(b" " * (MAX_BYTES + 2),))
    sender.start()
    with pytest.raises(SpecViolation, match="1 MiB"):
        client.receive()
    sender.join()


def test_request_keeps_events_for_later(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    server.sendall(b"\n\r\n" + event(7, 1) + b'\n{"t":"reply","id":1,"ok":[1]}\r\n')
    server.sendall(b'{"t":"reply","id":2,"err":"denied","msg":"no"}\n')
    assert client.request("record.list") == [1]
    with pytest.raises(Refused) as refusal:
        client.hello()
    assert (refusal.value.err, refusal.value.msg) == ("denied", "no")
    assert client.next_event()["data"] == 1
    sent = [json.loads(line) for line in server.recv(4096).splitlines()]
    assert sent[0] == {"t": "req", "id": 1, "method": "record.list"}
    assert sent[1]["params"] == {"client": "test", "version": "3.0"}


def test_the_other_requests_on_a_line(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    server.sendall(b'{"t":"reply","id":1,"err":"not_found"}\n{"t":"pong"}\n')
    sub = client.subscribe("tür.#")
    client.write("cfg", None)
    client.ping()
    client.unsubscribe(sub)
    with pytest.raises(Refused):
        client.next_event()
    assert server.recv(4096).decode().splitlines() == [
        '{"t":"sub","id":1,"topic":"tür.#"}',
        '{"t":"write","topic":"cfg","payload":{"value":null}}',
        '{"t":"ping"}',
        '{"t":"unsub","sub":"1"}',
    ]


def test_gaps_are_counted_for_each_subscription(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    server.sendall(b"".join(event(*pair) + b"\n" for pair in [(1, 1), (2, 3), (1, 2), (2, 7)]))
    for _ in range(4):
        client.next_event()
    assert (client.gaps(1), client.gaps("2"), client.gaps(3)) == (0, 5, 0)


@pytest.mark.parametrize("seqs", [[0], [1, 1], [2, 1]])
def test_seq_must_increase(unix: tuple[AimxClient, socket.socket], seqs: list[int]) -> None:
    client, server = unix
    server.sendall(b"".join(event(1, seq) + b"\n" for seq in seqs))
    with pytest.raises(SpecViolation, match="increase"):
        [client.next_event() for _ in seqs]


def test_an_id_given_anew_starts_again(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    client.unsubscribe(1)
    server.sendall(b"".join(event(1, seq) + b"\n" for seq in [1, 2, 3, 1, 2, 1]))
    assert [client.next_event()["seq"] for _ in range(5)] == [1, 2, 3, 1, 2]
    with pytest.raises(SpecViolation, match="increase"):
        client.next_event()


def test_frames_of_the_other_transport(
    unix: tuple[AimxClient, socket.socket], websocket: tuple[WebSocketClient, socket.socket]
) -> None:
    unix[1].sendall(b'{"t":"subscribed","sub":"3"}\n')
    websocket[1].sendall(bytes([0x81, len(event(1, 1))]) + event(1, 1))
    for client, _ in (unix, websocket):
        with pytest.raises(SpecViolation):
            client.receive()


def test_the_end_of_the_stream(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    server.sendall(b'{"t":"pong"}\n')
    server.shutdown(socket.SHUT_WR)
    client.ping()
    assert client.receive() is None
    with pytest.raises(ConnectionError):
        client.request("record.list")


def test_a_torn_line_is_rejected(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    server.sendall(b'{"t":"pong"}')
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(SpecViolation, match="ended"):
        client.receive()


def test_a_timeout_loses_nothing(unix: tuple[AimxClient, socket.socket]) -> None:
    client, server = unix
    client.sock.settimeout(0.01)
    server.sendall(b'{"t":')
    with pytest.raises(TimeoutError):
        client.receive()
    server.sendall(b'"pong"}\n')
    assert client.receive() == {"t": "pong"}


def test_fragments_with_a_ping_between(websocket: tuple[WebSocketClient, socket.socket]) -> None:
    client, server = websocket
    server.sendall(b'\x01\x05{"t":' + b"\x89\x02hi" + b'\x00\x02"p' + b'\x80\x05ong"}')
    assert client.receive() == {"t": "pong"}
    assert unmask(server.recv(64)) == (0x80 | PONG, b"hi")
    server.sendall(b"\x88\x05\x03\xf1bye")
    assert client.receive() is None
    assert client.close_code == 1009
    assert unmask(server.recv(64)) == (0x80 | CLOSE, b"\x03\xf1bye")
    assert client.receive() is None


def test_a_long_frame_arrives(websocket: tuple[WebSocketClient, socket.socket]) -> None:
    client, server = websocket
    for size, head in ((200, b"\x81\x7e\x00\xc8"), (70000, b"\x81\x7f" + (70000).to_bytes(8))):
        server.sendall(head + b'{"t":"pong"}'.ljust(size))
        assert client.receive() == {"t": "pong"}


@pytest.mark.parametrize(
    ("size", "head"),
    [(125, b"\xfd"), (126, b"\xfe\x00\x7e"), (65535, b"\xfe\xff\xff"), (65536, None)],
)
def test_the_client_masks_and_measures(
    websocket: tuple[WebSocketClient, socket.socket], size: int, head: bytes | None
) -> None:
    client, server = websocket
    head = head or b"\xff" + size.to_bytes(8)
    client.send_raw(b"x" * size)
    sent = bytearray()
    while len(sent) < 1 + len(head) + 4 + size:
        sent += server.recv(1 << 20)
    assert sent[: 1 + len(head)] == b"\x81" + head
    mask, masked = sent[1 + len(head) :][:4], sent[1 + len(head) + 4 :]
    assert {byte ^ mask[index % 4] for index, byte in enumerate(masked)} == {ord("x")}


def test_the_payload_is_the_value(websocket: tuple[WebSocketClient, socket.socket]) -> None:
    client, server = websocket
    client.write("cfg", 1)
    first, payload = unmask(server.recv(128))
    assert (first, payload) == (0x80 | TEXT, b'{"t":"write","topic":"cfg","payload":1}')


@pytest.mark.parametrize(
    "frame",
    [
        b"\x82\x01x",
        b"\xc1\x00",
        b"\x81\x8c0000" + b"x" * 12,
        b"\x80\x01x",
        b"\x01\x00\x81\x00",
        b"\x09\x00",
        b"\x89\x7e\x00\x7e" + b"x" * 126,
        b"\x81\x7e\x00\x01x",
        b"\x81\x7f" + (MAX_BYTES + 1).to_bytes(8),
        b"\x81\x00",
        b"\x81\x05{",
        b"\x8b\x00",
    ],
    ids=[
        "binary",
        "reserved bit",
        "masked",
        "stray continuation",
        "text inside a message",
        "fragmented ping",
        "long ping",
        "length not minimal",
        "over 1 MiB",
        "empty text",
        "torn",
        "unknown opcode",
    ],
)
def test_bad_websocket_frames(
    websocket: tuple[WebSocketClient, socket.socket], frame: bytes
) -> None:
    client, server = websocket
    server.sendall(frame)
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(SpecViolation):
        client.receive()


def answer_handshake(listener: socket.socket, answer: str, requests: list[str]) -> None:
    connection, _ = listener.accept()
    with connection:
        requests.append(connection.recv(4096).decode())
        key = requests[-1].split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        digest = hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()
        accept = base64.b64encode(digest).decode()
        connection.sendall(answer.format(accept=accept).replace("\n", "\r\n").encode())


def handshake(answer: str) -> tuple[WebSocketClient, str]:
    requests: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer_handshake, args=(listener, answer, requests))
        server.start()
        try:
            host, port = listener.getsockname()
            client = connect_websocket(host, port, 2.0, Authorization="Bearer x")
        finally:
            server.join()
    return client, requests[0]


def test_the_handshake_and_what_comes_with_it() -> None:
    answer = "HTTP/1.1 101 X\nupgrade: websocket\nsec-websocket-accept: {accept}\n\n\x01\x00"
    client, request = handshake(answer)
    with client:
        assert request.startswith("GET /ws?v=3.0 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert "\r\nAuthorization: Bearer x\r\n" in request
        assert request.endswith("\r\n\r\n")
        assert client.receive() is None


def test_the_handshake_refused() -> None:
    with pytest.raises(Refused) as refusal:
        handshake("HTTP/1.1 426 Upgrade Required\nContent-Length: 4\n\nnope")
    assert (refusal.value.err, refusal.value.msg) == ("426", "nope")
    with pytest.raises(SpecViolation, match="accept"):
        handshake("HTTP/1.1 101 X\nSec-WebSocket-Accept: x\n\n")


def test_no_socket_there() -> None:
    with pytest.raises(FileNotFoundError):
        connect_unix("/nonexistent/aimx.sock")
