"""The rooms of the package, and the direction of their imports."""

import ast
from pathlib import Path

import pytest

from .service import ROOT

PACKAGE = ROOT / "todo_api"

# Each room, and the rooms that its modules may import from besides their own.
ROOMS = {
    "settings": set[str](),
    "queries": set(),
    "postgres": {"queries", "settings"},
    "observability": {"queries", "postgres"},
    "http": {"observability"},
    "resources": {"queries", "http"},
    "operations": {"queries", "http", "observability", "postgres"},
    "app": {"settings", "queries", "postgres", "observability", "http", "resources", "operations"},
    "server": {"settings", "observability", "http", "app"},
    "commands": {"settings", "queries", "postgres", "observability", "http", "resources", "app", "server"},
    "__main__": {"commands"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module: list[str]) -> str:
    """The first part below the package, of a path or of a dotted name."""
    return module[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of the package that a module names in an import, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("todo_api."):
            found.add(str(node.module).removeprefix("todo_api."))
        elif isinstance(node, ast.ImportFrom) and node.module == "todo_api":
            found |= {
                alias.name for alias in node.names if alias.name not in ("VERSION", "OperatorError", "folder")
            }
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path: Path) -> None:
    """A module imports from its own room and from those that the table allows."""
    room = room_of(list(path.relative_to(PACKAGE).parts))
    others = {room_of(name.split(".")) for name in imports(path)}
    assert others <= ROOMS[room] | {room}


def test_a_resource_knows_no_other() -> None:
    """Tasks and users share the problem types and the request, and import nothing of one another."""
    for path in (PACKAGE / "resources").rglob("*.py"):
        about = {name.split(".")[1] for name in imports(path) if name.startswith("resources.")}
        own = path.relative_to(PACKAGE / "resources").parts[0].removesuffix(".py")
        assert about <= {own, "problems", "request"}


@pytest.mark.parametrize("word", ["task", "user"])
def test_http_serves_any_resource(word: str) -> None:
    """No name in the room for HTTP is that of a task or a user."""
    for path in (PACKAGE / "http").glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert [] == [name for name in names if word in name.lower()]


def test_modules_are_small() -> None:
    """A module that passes 250 lines holds two things."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in MODULES}
    assert {} == {name: length for name, length in lengths.items() if length > 250}
