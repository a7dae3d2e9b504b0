"""The load generator: a C program, compiled when it is needed, run once for each measurement."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.wire.plans import Protocol

__all__ = ["Follower", "Load", "LoadGenerator", "Measured", "NoCompilerError", "build_generator"]

_SOURCE: Final = Path(__file__).with_name("loadgen.c")
_COMPILERS: Final = ("cc", "gcc", "clang")
_TIMEOUT_S: Final = 600


class NoCompilerError(Exception):
    """There is no C compiler on this machine."""


class Measured(msgspec.Struct, frozen=True):
    """A run's figures: what loadgen.c prints.

    `counted` requests (or deliveries, when there are subscribers) in `seconds`; `answered` has
    those of the warm-up too. CPU is for each request that was answered, in µs.
    """

    rate: float
    p50_us: float
    p99_us: float
    counted: int
    answered: int
    seconds: float
    bytes_in: int
    own_cpu_us: float
    server_cpu_us: float | None = None


class Follower(msgspec.Struct, frozen=True):
    """Subscribers beside a writer: how many, where, and the plan whose setup they send."""

    count: int
    address: str
    protocol: Protocol
    plan: str


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A load on one server: where, what, and how much at a time.

    With `is_once` each request of the plan goes out once, and the next as soon as one is
    answered; otherwise `in_flight` go out together until the time is up. Before each that counts
    there is a rest of `rest_us`.
    """

    address: str
    protocol: Protocol
    plan: str
    connections: int = 1
    in_flight: int = 1
    is_once: bool = False
    rest_us: int = 0
    followers: Follower | None = None
    pid: int = 0

    def arguments(self, seconds: float, warm_up_s: float) -> list[str]:
        """Return the arguments of loadgen.c."""
        words = [self.address, self.protocol, self.plan]
        words += ["--connections", str(self.connections), "--in-flight", str(self.in_flight)]
        words += ["--seconds", f"{seconds:g}", "--warm-up", f"{warm_up_s:g}"]
        if self.is_once:
            words += ["--once", "--sliding"]
        if self.rest_us:
            words += ["--rest", str(self.rest_us)]
        if self.pid:
            words += ["--pid", str(self.pid)]
        if (group := self.followers) is not None:
            words += ["--fan-out", str(group.count), group.address, group.protocol, group.plan]
        return words


class LoadGenerator:
    """The program, compiled."""

    def __init__(self, program: Path) -> None:
        self._program: Final = program

    def run(self, load: Load, seconds: float = 1.0, warm_up_s: float = 0.1) -> Measured:
        """Put the load on its server and measure.

        Raises:
            RuntimeError: the server refused a request, or was silent.
        """
        printed = self._call(load.arguments(seconds, warm_up_s))
        measured = msgspec.json.decode(printed, type=Measured)
        if not measured.counted:
            raise RuntimeError("nothing was answered in time")
        return measured

    def show(self, load: Load) -> bytes:
        """Send each request of the plan once; return the bytes that came.

        Raises:
            RuntimeError: as `run`.
        """
        return self._call([*load.arguments(0, 0), "--show"])

    def _call(self, arguments: Sequence[str]) -> bytes:
        done = subprocess.run(
            [str(self._program), *arguments], capture_output=True, timeout=_TIMEOUT_S
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip())
        return done.stdout


def build_generator(
    folder: Path, compilers: Sequence[str] = _COMPILERS, flags: Sequence[str] = ("-O2",)
) -> LoadGenerator:
    """Compile the program into `folder`.

    Raises:
        NoCompilerError: none of `compilers` is there.
        subprocess.CalledProcessError: it cannot be compiled.
    """
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        raise NoCompilerError(
            f"the load generator is a C program and there is no compiler ({', '.join(compilers)})"
        )
    program = folder / "loadgen"
    subprocess.run([compiler, *flags, "-o", str(program), str(_SOURCE)], check=True)
    return LoadGenerator(program)
