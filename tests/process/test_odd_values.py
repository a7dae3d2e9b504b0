"""Odd values, names and times: accepted and read back equal by all, or refused with a reason.

2,000 here; `make soak-values` sends 200,000 (RECORDD_ODD_VALUES). They go in by both dialects
over both transports, in batches and one by one, with ordinary writes between them that must
not notice. What was accepted is read back by all four ways and compared as Python's json
reads it, as msgspec does and, where there is node, as JavaScript does.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from recordd_protocol.errors import Reason
from tests.broken_daemon import BrokenDaemon
from tests.conftest import StartDaemon
from tests.daemon_process import DaemonProcess
from tests.odd_values import MIN_TS, Case, make_case
from tests.wire import WebSocketWire, Wire

CASES = int(os.environ.get("RECORDD_ODD_VALUES", "2000"))
SEED = int(os.environ.get("RECORDD_SEED", "0")) or random.randrange(1 << 32)
GROUP = 25
SETTINGS = {"RECORDD_MIN_TS": str(MIN_TS), "RECORDD_MAX_RECORDS": "1000000"}
NODE = shutil.which("node")
SCRIPT = Path(__file__).parents[1] / "odd_values.js"
REASONS = {reason.word for reason in Reason} | {reason.aimx for reason in Reason}
SILENT = (TimeoutError, AssertionError, ConnectionError, msgspec.MsgspecError)
"""What a connection comes to on which an answer is missing, or is none."""


class Link(Protocol):
    """A connection, whole messages."""

    may_break: bool

    def send(self, messages: Sequence[bytes]) -> None: ...
    def receive(self) -> bytes: ...


class Lines:
    may_break = False

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def send(self, messages: Sequence[bytes]) -> None:
        self.wire.send(*messages)

    def receive(self) -> bytes:
        answer = self.wire.receive_raw()
        assert answer, "the daemon closed the connection"
        return answer


class Frames:
    may_break = True

    def __init__(self, wire: WebSocketWire) -> None:
        self.wire = wire

    def send(self, messages: Sequence[bytes]) -> None:
        self.wire.sock.sendall(b"".join(map(self.wire.encode, messages)))

    def receive(self) -> bytes:
        return self.wire.receive_raw()


class _Row(msgspec.Struct):
    value: msgspec.Raw
    ts: int


class _Answer(msgspec.Struct):
    """An answer in either dialect."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"")
    ok: msgspec.Raw = msgspec.Raw(b"")
    error: Any = None
    err: str = ""
    msg: str = ""

    @property
    def reason(self) -> str:
        """Why it was refused; empty where it was not."""
        return self.err or (self.error["data"]["reason"] if self.error else "")

    @property
    def has_words(self) -> bool:
        return bool(self.msg or (self.error and self.error["message"]))


class Dialect(Protocol):
    name: str

    def write(self, case: Case, id: int) -> bytes: ...
    def read(self, name: str, id: int) -> bytes: ...


class JsonRpc:
    name = "jsonrpc"

    def write(self, case: Case, id: int) -> bytes:
        return self._encode("record.set", id, _params_of(case))

    def read(self, name: str, id: int) -> bytes:
        return self._encode("record.get", id, json.dumps({"name": name}))

    def _encode(self, method: str, id: int, params: str) -> bytes:
        return f'{{"id":{id},"params":{params},"jsonrpc":"2.0","method":"{method}"}}'.encode()


class Aimx:
    name = "aimx"

    def write(self, case: Case, id: int) -> bytes:
        return self._encode("record.set", id, _params_of(case))

    def read(self, name: str, id: int) -> bytes:
        return self._encode("record.get", id, json.dumps({"name": name}))

    def _encode(self, method: str, id: int, params: str) -> bytes:
        return f'{{"t":"req","params":{params},"id":{id},"method":"{method}"}}'.encode()


def _params_of(case: Case) -> str:
    ts = f',"ts":{case.ts_text}' if case.ts_text else ""
    return f'{{"name":{case.name_text},"value":{case.value_text}{ts}}}'


class Suite:
    """Writes cases and reads them back; `findings` has what was not as it should be."""

    def __init__(self, daemon: DaemonProcess, seed: int, timeout_s: float) -> None:
        self.findings: list[str] = []
        self.accepted = 0
        self.refused = 0
        self._daemon = daemon
        self._timeout_s = timeout_s
        self._chance = random.Random(seed)
        self._written = 0
        self._pairs: list[tuple[str, str]] = []

    def run(self, cases: int) -> None:
        """Write and read so many; stop at the first dozen findings."""
        with contextlib.ExitStack() as stack:
            links: list[Link] = []
            for _ in ("jsonrpc", "aimx"):
                unix = stack.enter_context(Wire(self._daemon.socket_path, self._timeout_s))
                web = stack.enter_context(WebSocketWire(self._daemon.port, self._timeout_s))
                links += [Lines(unix), Frames(web)]
            dialects: list[Dialect] = [JsonRpc(), JsonRpc(), Aimx(), Aimx()]
            lanes = list(zip(links, dialects, strict=True))
            while self._written < cases and len(self.findings) < 12:
                link, dialect = self._chance.choice(lanes)
                try:
                    group = self._write_group(link, dialect)
                    for link, dialect in lanes:
                        self._read_group(link, dialect, group)
                except SILENT as error:
                    self.findings.append(f"{dialect.name}: an answer is missing: {error!r}")
                    return
                if len(self._pairs) > 8000:
                    self._ask_node()
            self._ask_node()

    def _write_group(self, link: Link, dialect: Dialect) -> list[Case]:
        cases = [self._make(link.may_break) for _ in range(GROUP)]
        messages = [dialect.write(case, number) for number, case in enumerate(cases)]
        is_batch = isinstance(dialect, JsonRpc) and self._chance.random() < 0.5
        link.send([b"[%b]" % b" ,\t".join(messages)] if is_batch else messages)
        received = [link.receive()] if is_batch else [link.receive() for _ in cases]
        answers = msgspec.json.decode(received[0], type=list[_Answer]) if is_batch else [
            msgspec.json.decode(message, type=_Answer) for message in received
        ]  # fmt: skip
        by_id = {answer.id: answer for answer in answers}
        for number, case in enumerate(cases):
            self._judge(case, by_id[number], f"{dialect.name} {'batch' * is_batch}")
        return cases

    def _make(self, may_break: bool) -> Case:
        """Make the next case; every fifth is an ordinary one."""
        number = self._written
        self._written += 1
        if number % 5 == 0:
            name = f"plain.{number}"
            return Case(f'"{name}"', str(number), "", name, True)
        return make_case(self._chance, number, may_break=may_break)

    def _judge(self, case: Case, answer: _Answer, where: str) -> None:
        is_accepted = not answer.reason
        self.accepted += is_accepted
        self.refused += not is_accepted
        if is_accepted != case.is_accepted:
            told = f"{where}: {answer.reason or 'accepted'} {answer.msg or answer.error}"
            self.findings.append(f"{told}: {case.name_text} {case.ts_text} {case.value_text:.200}")
        elif answer.reason and (answer.reason not in REASONS or not answer.has_words):
            self.findings.append(f"{where}: refused without a reason: {answer}")

    def _read_group(self, link: Link, dialect: Dialect, cases: list[Case]) -> None:
        cases = [case for case in cases if case.name]
        link.send([dialect.read(case.name, number) for number, case in enumerate(cases)])
        for _ in cases:
            message = link.receive()
            answer = msgspec.json.decode(message, type=_Answer)
            case = cases[answer.id]
            if not case.is_accepted:
                if answer.reason not in ("not_found", "invalid_params"):
                    self.findings.append(f"{dialect.name}: refused, and there: {case}")
            elif not answer.reason:
                self._compare(case, message, answer)
            elif not (dialect.name == "aimx" and case.value_text.strip() == "null"):
                self.findings.append(f"{dialect.name}: {answer.reason}: {case}")

    def _compare(self, case: Case, message: bytes, answer: _Answer) -> None:
        got = answer.ok
        if answer.result:
            row = msgspec.json.decode(answer.result, type=_Row)
            got = row.value
            if case.ts_text not in ("", "null") and row.ts != int(case.ts_text):
                self.findings.append(f"ts {case.ts_text} came back as {row.ts}")
        sent, read = case.value_text.encode(), bytes(got)
        is_same = (
            _is_same(json.loads(sent), _value_in(json.loads(message)))
            and _is_same(msgspec.json.decode(sent), msgspec.json.decode(read))
            and (sent.strip() == read.strip() or b"\n" in sent)
        )
        if not is_same:
            self.findings.append(f"{sent[:200]!r} came back as {read[:200]!r}")
        self._pairs.append((case.value_text, message.decode()))

    def _ask_node(self) -> None:
        """Have JavaScript compare what was collected."""
        pairs, self._pairs = self._pairs, []
        if NODE is None:
            return
        lines = "\n".join(map(json.dumps, pairs))
        done = subprocess.run(
            [NODE, SCRIPT], input=lines, capture_output=True, text=True, timeout=300, check=True
        )
        for number in map(int, done.stdout.split()):
            self.findings.append(f"JavaScript sees another value: {str(pairs[number])[:400]}")


def _value_in(message: dict[str, Any]) -> Any:
    return message["ok"] if "ok" in message else message["result"]["value"]


def _is_same(one: Any, other: Any) -> bool:
    """Compare by type and value; `repr` tells -0.0 from 0.0, and 1 from 1.0."""
    return repr(one) == repr(other)


def run_suite(daemon: DaemonProcess, cases: int, timeout_s: float = 20.0) -> Suite:
    suite = Suite(daemon, SEED, timeout_s)
    suite.run(cases)
    return suite


@pytest.mark.timeout(60 + CASES / 50)
def test_odd_values_are_read_back_equal_or_refused_with_a_reason(
    start_daemon: StartDaemon,
) -> None:
    """About 3 s: 2,000 writes, each read back four ways."""
    daemon = start_daemon(**SETTINGS)
    suite = run_suite(daemon, CASES)
    assert suite.findings == [], f"RECORDD_SEED={SEED}"
    assert min(suite.accepted, suite.refused) > CASES // 10
    assert "Traceback" not in daemon.log
    print(f"{suite.accepted} accepted and read back four ways, {suite.refused} refused")


@pytest.fixture
def broken(short_path: Path, request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    daemon = BrokenDaemon(request.param, short_path, **SETTINGS).start()
    yield daemon
    daemon.stop()


@pytest.mark.parametrize(
    "broken", ["round-numbers", "take-anything", "mend-nothing"], indirect=True
)
def test_a_broken_daemon_is_found_out(broken: DaemonProcess) -> None:
    """The negative control; about a second each. A missing answer is a finding, soon."""
    assert run_suite(broken, 1000, timeout_s=2).findings != []
