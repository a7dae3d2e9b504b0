"""AimX 3.0 from its specification alone: a second opinion on the daemon's frames."""

import base64
import contextlib
import email
import hashlib
import itertools
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Self

Frame = dict[str, Any]
MAX_BYTES = 1 << 20
KEYS = "t id seq last method topic sub params payload data ok err"  # in their order
MEMBERS = {"reply": "id ok? err?", "pong": "", "subscribed": "sub"}
MEMBERS |= {"snap": "seq last? topic sub data", "event": "seq topic? sub data"}
CONTINUATION, TEXT, CLOSE, PING, PONG = 0, 1, 8, 9, 10
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_JSON = json.JSONDecoder(parse_constant=int)  # int("NaN") raises ValueError


class SpecViolation(AssertionError):
    """The server sent what the specification forbids."""


class Refused(Exception):
    """A reply's `err` and `msg`, or status and body of a refused WebSocket handshake."""

    def __init__(self, err: str, msg: str) -> None:
        self.err, self.msg = err, msg


def violate_if(broken: object, rule: str, evidence: object) -> None:
    if broken:
        raise SpecViolation(f"{rule}: {str(evidence)[:300]}")


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Frame:
    """Decode one frame of the server as strictly as the strictest peer would."""
    violate_if(len(data) > max_bytes, f"frame over {max_bytes >> 20} MiB", len(data))
    try:
        text = data.decode("utf-8")
        frame = _JSON.decode(text)
    except ValueError as error:
        raise SpecViolation(f"not UTF-8 JSON ({error}): {data[:300]!r}") from error
    violate_if(not isinstance(frame, dict), "not a JSON object", text)
    members = _members(text)
    for key, raw in members:
        _check_member(key, raw)
    _check_shape([key for key, _ in members], frame)
    return dict(frame)


def _members(text: str) -> list[tuple[str, str]]:
    """Top-level keys and the raw text of their values; `text` is a valid JSON object."""
    pieces, pos = [], text.index("{") + 1
    while text[pos] != "}":
        start, pos = pos, pos + 1
        if text[start] not in " \t\r\n,:":
            _, pos = _JSON.raw_decode(text, start)
            pieces.append(text[start:pos])
    return list(zip(map(json.loads, pieces[::2]), pieces[1::2], strict=True))


def _check_member(key: str, raw: str) -> None:
    if key in ("t", "method", "topic", "sub", "err"):
        violate_if(not raw.startswith('"') or "\\" in raw, f"{key}: no string or escaped", raw)
    elif key in ("id", "seq"):
        violate_if(not raw.isdecimal() or int(raw) >= 1 << 64, f"{key} is not unsigned", raw)
    violate_if(key == "last" and raw not in ("true", "false"), "last is not a boolean", raw)
    violate_if(key == "ok" and raw == "null", "null as ok", raw)


def _check_shape(keys: list[str], frame: Frame) -> None:
    violate_if(len(frame) != len(keys), "duplicate key", keys)
    order = KEYS.split()
    ranks = [order.index(key) if key in order else len(order) for key in keys]
    violate_if(ranks != sorted(ranks), "wrong key order", keys)
    tag = frame.get("t", "")
    violate_if(tag not in MEMBERS, "unknown t", frame)
    members, known = MEMBERS[tag].split(), set(order[1:]).intersection(keys)
    required = {member for member in members if not member.endswith("?")}
    allowed = {member.rstrip("?") for member in members}
    violate_if(not required <= known <= allowed, f"wrong members of {tag}", frame)
    violate_if(tag == "reply" and len(known) != 2, "neither or both of ok and err", frame)


class AimxClient:
    """A blocking client, one message a line; `events` holds what came during other waits."""

    websocket = False
    max_bytes = MAX_BYTES
    close_code: int | None = None

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self.events: list[Frame] = []
        self._ids = itertools.count(1)
        self._unsubscribed: set[str] = set()
        self._seqs: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    close = __exit__

    def send(self, frame: Mapping[str, object]) -> None:
        """Send a frame, its keys in the order given."""
        self.send_raw(json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode())

    def send_raw(self, message: bytes) -> None:
        """Send any bytes as one message."""
        self.sock.sendall(message + b"\n")

    def receive(self) -> Frame | None:
        """Return the connection's next frame, checked; None at its end."""
        if (message := self._receive_message()) is None:
            return None
        frame = decode(message, self.max_bytes)
        if "seq" in frame:
            violate_if(self.websocket and "topic" not in frame, "no topic", frame)
            self._track(frame["sub"], frame["seq"])
        violate_if(frame["t"] == "subscribed" and not self.websocket, "not on Unix", frame)
        return frame

    def _receive_message(self) -> bytes | None:
        while (line := self._until(b"\n")) in (b"\n", b"\r\n"):
            pass
        return line and line[:-1].removesuffix(b"\r")

    def _track(self, sub: str, seq: int) -> None:
        seqs = self._seqs.setdefault(sub, [0])
        if seq <= seqs[-1] and sub in self._unsubscribed:  # the id has been given anew
            self._unsubscribed.remove(sub)
            seqs[:] = [0]
        violate_if(seq <= seqs[-1], f"seq of {sub} after {seqs[-1]} does not increase", seq)
        seqs.append(seq)

    def gaps(self, sub: int | str) -> int:
        """Count the sequence numbers that the subscription has missed."""
        seqs = self._seqs.get(str(sub), [0])
        return seqs[-1] - len(seqs) + 1

    def _wait_for(self, wanted: Callable[[Frame], bool]) -> Frame:
        while (frame := self.receive()) is not None:
            if wanted(frame):
                return frame
            self.events.append(frame)
        raise ConnectionError(f"closed by the server (code {self.close_code})")

    def request(self, method: str, params: object = None) -> Any:
        number = next(self._ids)
        frame = {"t": "req", "id": number, "method": method}
        self.send(frame if params is None else {**frame, "params": params})
        reply = self._wait_for(lambda frame: frame.get("id") == number)
        if "err" in reply:
            raise Refused(reply["err"], reply.get("msg", ""))
        return reply["ok"]

    def hello(self, client: str = "test", version: str = "3.0") -> Any:
        return self.request("hello", {"client": client, "version": version})

    def subscribe(self, topic: str) -> int:
        """Ask for a subscription and return its id; `next_event` raises if it is refused."""
        number = next(self._ids)
        self.send({"t": "sub", "id": number, "topic": topic})
        return number

    def unsubscribe(self, sub: int | str) -> None:
        self._unsubscribed.add(str(sub))
        self.send({"t": "unsub", "sub": str(sub)})

    def write(self, topic: str, payload: object) -> None:
        """Write a value; nothing answers."""
        wrapped = payload if self.websocket else {"value": payload}
        self.send({"t": "write", "topic": topic, "payload": wrapped})

    def ping(self) -> None:
        self.send({"t": "ping"})
        self._wait_for(lambda frame: frame["t"] == "pong")

    def next_event(self) -> Frame:
        """Return the next snap, event or subscribed; raise `Refused` at a refusal."""
        frame = self.events.pop(0) if self.events else self._wait_for(bool)
        if "err" in frame:
            raise Refused(frame["err"], frame.get("msg", ""))
        violate_if("ok" in frame or frame["t"] == "pong", "an answer not waited for", frame)
        return frame

    def _need(self, count: int) -> bool:
        """Buffer `count` bytes; False if the stream ended before the first of them."""
        while len(self._buffer) < count:
            with contextlib.suppress(ConnectionResetError):
                if chunk := self.sock.recv(65536):
                    self._buffer += chunk
                    continue
            violate_if(self._buffer, "stream ended inside a frame", self._buffer)
            return False
        return True

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return bytes(taken)

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            size = len(self._buffer)
            violate_if(size > self.max_bytes + 1, f"frame over {self.max_bytes >> 20} MiB", size)
            if not self._need(len(self._buffer) + 1):
                return None
        return self._take(self._buffer.index(end) + len(end))


class WebSocketClient(AimxClient):
    """One message a text frame, on the client's side of RFC 6455."""

    websocket = True
    _parts: tuple[bytes, ...] = ()

    def upgrade(self, host: str, target: str, headers: Mapping[str, str]) -> None:
        """Perform the opening handshake."""
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade"}
        fields |= {"Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13", **headers}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        self.sock.sendall("\r\n".join([*lines, "\r\n"]).encode())
        status, _, rest = (self._until(b"\r\n\r\n") or b"- closed").partition(b"\r\n")
        answer = email.message_from_bytes(rest)
        if (code := status.split()[1].decode()) != "101":
            self._need(length := int(answer.get("Content-Length", "0")))
            raise Refused(code, self._take(length).decode())
        digest = hashlib.sha1((key + WEBSOCKET_GUID).encode(), usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        violate_if(answer["Sec-WebSocket-Accept"] != accept, "wrong accept key", rest)

    def send_raw(self, message: bytes, opcode: int = TEXT, fin: bool = True) -> None:
        size, mask = len(message), os.urandom(4)
        extended = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8)
        head = bytes([fin << 7 | opcode, 128 | {0: size, 2: 126, 8: 127}[len(extended)]])
        masked = bytes(byte ^ key for byte, key in zip(message, itertools.cycle(mask)))
        self.sock.sendall(head + extended + mask + masked)

    def _receive_message(self) -> bytes | None:
        while self.close_code is None and (frame := self._take_frame()):
            fin, opcode, payload = frame
            if opcode in (CLOSE, PING, PONG):
                self._control(fin, opcode, payload)
                continue
            violate_if(opcode != (CONTINUATION if self._parts else TEXT), "out of order", opcode)
            parts = (*self._parts, payload)
            self._parts = () if fin else parts
            if fin:
                return b"".join(parts)
        return None

    def _take_frame(self) -> tuple[bool, int, bytes] | None:
        if not self._need(2):
            return None
        first, length = self._buffer[:2]
        violate_if(first & 0x70 or length & 0x80, "reserved bit or mask", (first, length))
        start, least = {126: (4, 126), 127: (10, 65536)}.get(length, (2, 0))
        self._need(start)
        length = int.from_bytes(self._buffer[2:start]) if least else length
        violate_if(not least <= length <= MAX_BYTES, "length over 1 MiB or not minimal", length)
        self._need(start + length)
        return first >= 0x80, first & 0x0F, self._take(start + length)[start:]

    def _control(self, fin: bool, opcode: int, payload: bytes) -> None:
        violate_if(not fin or len(payload) > 125, "fragmented or long control frame", payload)
        if opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2]) or 1005
        if opcode != PONG:
            with contextlib.suppress(OSError):
                self.send_raw(payload, PONG if opcode == PING else CLOSE)


def connect_unix(
    path: str | os.PathLike[str], timeout_s: float = 10.0, max_bytes: int = MAX_BYTES
) -> AimxClient:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(AimxClient(socket.socket(socket.AF_UNIX)))
        client.max_bytes = max_bytes
        client.sock.settimeout(timeout_s)
        client.sock.connect(os.fspath(path))
        stack.pop_all()
    return client


def connect_websocket(
    host: str, port: int, timeout_s: float = 10.0, query: str = "v=3.0", **headers: str
) -> WebSocketClient:
    """Connect to `/ws`; headers by name; `Refused` unless the status is 101."""
    with contextlib.ExitStack() as stack:
        sock = socket.create_connection((host, port), timeout_s)
        client = stack.enter_context(WebSocketClient(sock))
        client.upgrade(f"{host}:{port}", f"/ws?{query}" if query else "/ws", headers)
        stack.pop_all()
    return client
