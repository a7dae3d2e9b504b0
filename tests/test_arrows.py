"""The arrows between the distributions, and within the daemon, point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "recordd_protocol": ROOT / "protocol" / "src",
    "recordd_client": ROOT / "client" / "src",
    "recordd": ROOT / "server" / "src",
}
FORBIDDEN = {
    "recordd_protocol": {
        "recordd",
        "recordd_client",
        "trio",
        "trio_websocket",
        "apsw",
        "socket",
        "os",
    },
    "recordd_client": {"recordd", "apsw"},
    "recordd": {"recordd_client", "click", "rich"},
}
ALLOWED_OUTSIDE = {
    "recordd_protocol": {"msgspec"},
    "recordd_client": {
        "msgspec",
        "recordd_protocol",
        "trio",
        "trio_websocket",
        "wsproto",
        "click",
        "rich",
    },
    "recordd": {"msgspec", "recordd_protocol", "trio", "trio_websocket", "wsproto", "h11", "apsw"},
}


def imports_of(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module or ""


def imports_by_file(package: str) -> dict[Path, set[str]]:
    files = sorted((SOURCES[package] / package).rglob("*.py"))
    assert files, package
    return {file: set(imports_of(file)) for file in files}


@pytest.mark.parametrize("package", SOURCES)
def test_no_arrow_between_the_distributions_is_wrong(package: str) -> None:
    import sys

    for file, imported in imports_by_file(package).items():
        tops = {name.split(".")[0] for name in imported} - {package}
        assert not tops & FORBIDDEN[package], file
        outside = {top for top in tops if top not in sys.stdlib_module_names}
        assert outside <= ALLOWED_OUTSIDE[package], file


def test_the_command_line_and_blocking_client_do_not_import_trio() -> None:
    files = imports_by_file("recordd_client")
    async_side = {"aio.py", "async_connection.py", "async_streams.py", "async_updates.py"}
    for file, imported in files.items():
        if file.name not in async_side:
            assert not {"trio", "trio_websocket"} & imported, file


def test_the_core_knows_nothing_about_persistence() -> None:
    """Only the daemon and the command line, which put the parts together, name the package."""
    for file, imported in imports_by_file("recordd").items():
        inside = "persistence" in file.parts
        names_it = any(name.startswith("recordd.persistence") for name in imported)
        assert inside or not names_it or file.name in ("daemon.py", "cli.py"), file


def test_nothing_below_the_transports_knows_one() -> None:
    for file, imported in imports_by_file("recordd").items():
        if "transports" not in file.parts and file.name != "daemon.py":
            assert not any(name.startswith("recordd.transports") for name in imported), file
