"""The arrows between the distributions, and within the daemon, point one way."""

from __future__ import annotations

import ast
import functools
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

ARROWS = {
    "conformance": {"persistence", "extending"},
    "__main__": {"cli"},
    "cli": {
        "daemon",
        "persistence/sqlite",
        "persistence",
        "extending",
        "config",
        "system",
    },
    "daemon": {
        "running",
        "http",
        "transports",
        "methods",
        "persistence",
        "core",
        "extending",
        "config",
        "system",
    },
    "http": {"transports", "methods", "core", "config"},
    "transports": {"session", "methods", "core", "connections", "config", "system"},
    "session": {
        "methods",
        "following",
        "core",
        "writing",
        "connections",
        "extending",
        "system",
    },
    "methods": {
        "following",
        "core",
        "writing",
        "hub",
        "connections",
        "extending",
        "config",
        "system",
    },
    "following": {"hub", "connections", "extending", "system"},
    "persistence/sqlite": {"persistence", "extending", "system"},
    "persistence": {"core", "writing", "hub", "extending", "config", "system"},
    "running": {"core", "writing", "extending"},
    "core": {"writing", "hub", "connections", "extending", "config", "system"},
    "writing": {"hub", "extending", "system"},
    "hub": {"extending", "config", "system"},
    "connections": {"config", "system"},
    "extending": {"system"},
    "config": {"system"},
    "system": set(),
}
"""The rooms of the daemon, from the top down, and those that each imports from."""


def imports_of(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in it; and names, which may be modules."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
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
        beside = {"pytest"} if file.parent.name == "conformance" else set()  # an extra needs it
        assert outside <= ALLOWED_OUTSIDE[package] | beside, file


def test_the_command_line_and_blocking_client_do_not_import_trio() -> None:
    files = imports_by_file("recordd_client")
    for file, imported in files.items():
        if not file.name.startswith("trio_"):
            assert not {"trio", "trio_websocket"} & imported, file


def room_of(path: Path) -> str:
    """Return the folder of a module of the daemon, or its name where it is in none."""
    inside = path.relative_to(SOURCES["recordd"] / "recordd")
    return inside.stem if len(inside.parts) == 1 else str(inside.parent)


def find_module(name: str) -> Path | None:
    """Return the file of a dotted name that a module of the daemon imports."""
    path = SOURCES["recordd"].joinpath(*name.split("."))
    if path.is_dir():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.exists() else None


def arrows_between_rooms() -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for file, imported in imports_by_file("recordd").items():
        room = room_of(file)
        targets = {room_of(found) for name in imported if (found := find_module(name))}
        arrows.setdefault(room, set()).update(targets - {room, "__init__"})
    del arrows["__init__"]  # the version alone
    return arrows


def test_every_arrow_between_rooms_is_one_of_the_plan() -> None:
    assert arrows_between_rooms() == ARROWS


def test_every_arrow_of_the_plan_points_down() -> None:
    rooms = list(ARROWS)
    for room, targets in ARROWS.items():
        assert {rooms.index(target) > rooms.index(room) for target in targets} <= {True}, room


def test_the_core_knows_nothing_about_persistence() -> None:
    """Only the daemon and the command line, which put the parts together, name the package."""
    knows = {room for room, targets in ARROWS.items() if "persistence" in targets}
    assert knows <= {"conformance", "daemon", "cli", "persistence/sqlite"}


def test_the_daemon_never_imports_the_conformance_suite() -> None:
    assert not [room for room, targets in ARROWS.items() if "conformance" in targets]


def test_only_who_builds_a_core_knows_the_handlers() -> None:
    """A session finds the table in its core: nothing that serves imports a method's module."""
    knows = {
        room_of(file)
        for file, imported in imports_by_file("recordd").items()
        if "recordd.methods.table" in imported
    }
    assert knows == {"daemon"}


def test_nothing_below_the_transports_knows_one() -> None:
    knows = {room for room, targets in ARROWS.items() if "transports" in targets}
    assert knows <= {"daemon", "http"}
