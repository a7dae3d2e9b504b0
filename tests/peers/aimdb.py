"""AimDB's own programs speak to a running daemon. Needs cargo; run by `make aimdb`.

Its command line, its MCP server, and its client library in a program of ours
(`aimdb_client/`) are built from crates.io on the first run, some minutes on two cores, and
kept in `~/.cache/recordd/aimdb`, or in `.venv` where there is no `~/.cache`. What the
registry does not have is said and fails nothing. Each has to cope with 20,000 records.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.daemon_process import DaemonProcess
from tests.wire import Wire

CACHE = Path.home() / ".cache"
HOUSE = Path(__file__).parents[2] / ".venv"
ROOT = CACHE / "recordd" / "aimdb" if CACHE.is_dir() else HOUSE / "aimdb"
CLIENT = Path(__file__).with_name("aimdb_client")
INSTALLED = {"aimdb": ("aimdb-cli", "0.7.0"), "aimdb-mcp": ("aimdb-mcp", "0.9.0")}
RECORDS = 20_000
TIMEOUT_S = 60.0
RULES = '[[record]]\nname = "temp.*"\nschema_type = "temperature"\n'
COMMANDS: list[tuple[list[str], list[str]]] = [
    (["instance", "list"], ["recordd", "3.0"]),
    (["instance", "info"], ["Server: recordd", "Max Subscriptions: 1024"]),
    (["instance", "ping"], ["Connection successful"]),
    (["record", "list"], ["temp.vienna", "single_latest", "list.0", f"list.{RECORDS - 1}"]),
    (["record", "list", "--format", "json-compact"], [f'"list.{RECORDS - 1}"', '"temperature"']),
    (["record", "get", "temp.vienna"], ['"celsius": 21.5']),
    (["record", "set", "temp.graz", "23"], ["Successfully set record: temp.graz"]),
    (["record", "get", "temp.graz"], ["23"]),
    (["graph", "nodes"], ["temp.vienna", "passive", f"list.{RECORDS - 1}"]),
    (["graph", "edges"], ["No graph edges found"]),
    (["graph", "order"], ["temp.graz", f"list.{RECORDS - 1}"]),
    (["graph", "dot"], ["digraph", f"list.{RECORDS - 1}"]),
    (["watch", "--count", "1", "temp.vienna"], ["seq:1", '{"celsius":21.5}']),
    (["watch", "--count", "2", "temp.#"], ["seq:1", "seq:2", "snapshot complete (2 records)"]),
    (["watch", "--count", "1", "temp.nowhere"], ["not found"]),
]
TOOLS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("discover_instances", {}, ["recordd"]),
    ("get_instance_info", {}, ["recordd", "3.0"]),
    ("list_records", {}, ["temp.vienna", f"list.{RECORDS - 1}"]),
    ("get_record", {"record_name": "temp.vienna"}, ["21.5"]),
    ("set_record", {"record_name": "temp.linz", "value": {"celsius": 3}}, ["celsius"]),
    ("query_schema", {"record_name": "temp.vienna"}, ["celsius"]),
    ("drain_record", {"record_name": "temp.linz"}, ["celsius"]),
    ("graph_nodes", {}, [f"list.{RECORDS - 1}"]),
    ("graph_edges", {}, []),
    ("graph_topo_order", {}, [f"list.{RECORDS - 1}"]),
    ("get_buffer_metrics", {"record_key": "temp.vienna"}, ["produced_count"]),
    ("get_stage_profiling", {"record_key": "temp.vienna"}, []),
    ("reset_stage_profiling", {}, []),
    ("reset_buffer_metrics", {}, ["true"]),
]


def main() -> int:
    """Build the programs if need be, and run each against a daemon."""
    if shutil.which("cargo") is None:
        print("aimdb: cargo is needed to build AimDB's programs", file=sys.stderr)
        return 1
    programs = {name: install(name, *crate) for name, crate in INSTALLED.items()}
    programs["aimdb-peer"] = build_client()
    with tempfile.TemporaryDirectory(prefix="recordd-aimdb-") as folder:
        # Where `instance list` looks.
        with tempfile.NamedTemporaryFile(prefix="recordd-", suffix=".sock", dir="/tmp") as name:
            path = name.name
        config = Path(folder) / "recordd.toml"
        config.write_text(RULES)
        daemon = DaemonProcess(Path(folder), "--socket", path, "--config", str(config)).start()
        try:
            fill(path)
            failed = [text for text in run_all(programs, path) if text]
        finally:
            daemon.stop(signal.SIGTERM)
    print("\n".join(failed) or "aimdb: all well")
    return 1 if failed else 0


def install(name: str, crate: str, version: str) -> Path | None:
    """Return a program of the registry, built; None, with a word, where there is none."""
    program = ROOT / "bin" / name
    if program.exists():
        return program
    command = ["cargo", "install", crate, "--version", version, "--locked", "--quiet"]
    # It states a newer compiler than it needs.
    command += ["--ignore-rust-version", "--root", str(ROOT)]
    return program if cargo(command) else None


def build_client() -> Path | None:
    """Return the program that uses AimDB's client library, built; cargo knows if it is there."""
    command = ["cargo", "build", "--release", "--quiet", "--ignore-rust-version"]
    built = cargo([*command, "--manifest-path", str(CLIENT / "Cargo.toml")])
    return ROOT / "target" / "release" / "aimdb-peer" if built else None


def cargo(command: list[str]) -> bool:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target")}
    if subprocess.run(command, check=False, timeout=2400, env=environment).returncode == 0:
        return True
    print(f"aimdb: not built, left out: {' '.join(command)}")
    return False


def fill(path: str) -> None:
    """Write the records that the programs ask for."""
    with Wire(Path(path)) as wire:
        wire.call("record.set", name="temp.vienna", value={"celsius": 21.5})
        for start in range(0, RECORDS, 10_000):
            rows = [{"name": f"list.{n}", "value": n} for n in range(start, start + 10_000)]
            assert wire.call("record.set_many", records=rows)["last_rev"] == start + 10_001


def run_all(programs: dict[str, Path | None], path: str) -> Iterator[str | None]:
    """Run what could be built; yield what is wrong with each."""
    if program := programs["aimdb"]:
        for command, expected in COMMANDS:
            options = [] if command == ["instance", "list"] else ["--connect", path]
            yield check([str(program), *options, *command], expected)
    if program := programs["aimdb-mcp"]:
        yield from ask_mcp(program, path)
    if program := programs["aimdb-peer"]:
        yield check([str(program), path, str(RECORDS)], ["aimdb-client: ok"])


def check(command: list[str], expected: list[str]) -> str | None:
    """Run a command to its end; return what it lacks."""
    name = " ".join([Path(command[0]).name, *command[1:]])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"{name}: no end after {TIMEOUT_S:g} s"
    return judge(name, done.stdout + done.stderr, expected)


def ask_mcp(program: Path, path: str) -> Iterator[str | None]:
    """Call every tool of the MCP server that talks to an instance."""
    process = subprocess.Popen(
        [program, "--connect", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    hello = {"protocolVersion": "2024-11-05", "capabilities": {}}
    calls = [("initialize", {**hello, "clientInfo": {"name": "t", "version": "0"}})]
    calls += [("tools/call", {"name": tool, "arguments": args}) for tool, args, _ in TOOLS]
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": n, "method": method, "params": params})
        for n, (method, params) in enumerate(calls)
    ]
    try:
        out, _ = process.communicate("\n".join(lines).encode() + b"\n", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        yield f"aimdb-mcp: no end after {TIMEOUT_S:g} s"
        return
    answers = {answer.get("id"): answer for answer in map(json.loads, out.splitlines())}
    for number, (tool, _, expected) in enumerate(TOOLS, 1):
        answer = answers.get(number, {"error": "no answer"})
        text = json.dumps(answer, ensure_ascii=False)
        wrong = "error" in answer or answer["result"].get("isError")
        yield judge(f"aimdb-mcp {tool}", text, expected, is_refused=bool(wrong))


def judge(name: str, text: str, expected: list[str], *, is_refused: bool = False) -> str | None:
    """Say how it went; return what is wrong."""
    missing = [wanted for wanted in expected if wanted not in text]
    if not missing and not is_refused:
        print(f"{name}: ok")
        return None
    return f"{name}: {'refused' if is_refused else f'lacks {missing}'}: {text[:300]}"


if __name__ == "__main__":
    sys.exit(main())
