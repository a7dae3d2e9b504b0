"""One source of truth for names: table, OpenRPC, client, documentation agree."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import msgspec
import pytest

from recordd.methods import writing
from recordd.methods.openrpc import describe_api
from recordd.methods.table import TABLE
from recordd_client import AsyncClient, Client
from recordd_client.errors import ERROR_BY_REASON
from recordd_protocol.errors import Reason
from recordd_protocol.methods import METHODS, BackupStats, RetentionStats, RuleInfo, Stats
from tests.server.backends import make_full_backend, sqlite_options

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "protocol.md").read_text()
HELPERS = {"query_latest", "query_range"}
"""Client methods that are more than one call."""
BY_LEAVING = {"unsubscribe"}
"""Calls without a method: the end of a subscription's block ends its connection."""


def client_name(method: str) -> str:
    """The client's name of a method: the protocol's without its family, but for graphs."""
    return re.sub(r"^(record|server|rpc)\.", "", method).replace(".", "_")


def public_methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if name[0] != "_"}


def test_every_method_has_a_handler_and_nothing_else_has() -> None:
    assert list(TABLE) != []
    assert set(TABLE) == set(METHODS)


def test_the_methods_that_need_write_access_are_those_whose_handlers_write() -> None:
    needing = {method.name for method in METHODS.values() if method.access == "write"}
    assert needing == set(writing.HANDLERS)


@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_the_clients_have_every_method_and_no_other(client: type) -> None:
    assert public_methods(client) == {client_name(name) for name in METHODS} - BY_LEAVING | HELPERS


def test_both_clients_have_the_same_signatures_and_promises() -> None:
    for name in public_methods(Client):
        blocking, async_ = getattr(Client, name), getattr(AsyncClient, name)
        in_blocking, in_async = inspect.signature(blocking), inspect.signature(async_)
        assert in_blocking.parameters == in_async.parameters, name
        assert blocking.__doc__ == async_.__doc__, name
        if name != "subscribe":  # a block: `with` and `async with`
            assert in_blocking == in_async, name
            assert inspect.iscoroutinefunction(async_), name


def test_the_openrpc_document_lists_every_method_with_its_parameters() -> None:
    document = describe_api("0")
    assert [method["name"] for method in document["methods"]] == list(METHODS)
    for method in document["methods"]:
        fields = msgspec.structs.fields(METHODS[method["name"]].params)
        assert [p["name"] for p in method["params"]] == [f.encode_name for f in fields]
        assert [p["required"] for p in method["params"]] == [f.required for f in fields]
    assert set(document["components"]["errors"]) == {reason.word for reason in Reason}
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


def test_the_reference_has_a_section_for_every_method_naming_each_parameter() -> None:
    sections = dict(
        re.findall(r"^### `([a-z_.]+)`\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    )
    assert set(sections) == set(METHODS)
    for name, text in sections.items():
        for field in msgspec.structs.fields(METHODS[name].params):
            assert f"`{field.encode_name}`" in text, f"{name}: {field.encode_name}"


def test_the_reference_explains_every_field_of_the_statistics() -> None:
    text = REFERENCE.split("### `server.stats`")[1].split("\n### ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    structs = (Stats, RetentionStats, BackupStats)
    fields = {field.encode_name for s in structs for field in msgspec.structs.fields(s)}
    storage = make_full_backend("sqlite", sqlite_options("/nowhere/x.db")).statistics()
    assert fields | set(storage) <= explained
    for field in msgspec.structs.fields(RuleInfo):
        assert f'"{field.encode_name}"' in text


def test_the_reference_lists_every_reason_with_its_codes() -> None:
    for reason in Reason:
        row = rf"\| `{reason.word}` \| {reason.code} \| `{reason.aimx}` \| {'yes' if reason.retryable else 'no'} \|"
        assert re.search(row, REFERENCE), reason.word


def test_every_reason_has_its_exception() -> None:
    assert set(ERROR_BY_REASON) == set(Reason)


def test_the_service_file_is_one_that_systemd_accepts() -> None:
    """Skipped only where there is no systemd to ask; the continuous integration has one."""
    import shutil
    import subprocess

    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    unit = ROOT / "systemd" / "recordd.service"
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    hardened = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=12", str(unit)],
        capture_output=True,
        check=False,
    )
    assert hardened.returncode == 0
