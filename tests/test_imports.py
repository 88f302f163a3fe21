"""The direction of imports between the packages of the service and between the tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASE = {"errors", "settings", "logging_config", "memory"}
FEATURES = {"alerts", "history", "stats", "health", "retention"}

# What each package may import beside itself. Every other module puts the packages together and may import all but
# `server`, which only the command line imports.
ALLOWED = {
    **{name: {"errors"} for name in BASE},
    "db": {"errors"},
    "embedded": {"errors"},
    "web": {"db", *BASE},
    "server": {"web", "errors"},
    **{name: {"web", "db", *BASE} for name in FEATURES},
}
COMPOSITION = {"", "__init__", "__main__", "main", "app", "bootstrap", "cli"}


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name of each module of a folder with each dotted name that it imports."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)


def part(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def is_allowed(module: str, imported: str) -> bool:
    importer, target = part(module), part(imported)
    if importer == target:
        return True
    if importer in COMPOSITION:
        return target != "server" or importer == "cli"
    return target in ALLOWED[importer] or imported.startswith("alerts_service.alerts.structs.")


def test_imports_go_one_way() -> None:
    edges = [(module, name) for module, name in imports("alerts_service") if name.startswith("alerts_service.")]
    assert len(edges) > 100
    assert [edge for edge in edges if not is_allowed(*edge)] == []


def test_every_module_has_a_place_in_the_order() -> None:
    names = {path.stem for path in (ROOT / "alerts_service").iterdir() if path.name != "__pycache__"}
    assert names <= ALLOWED.keys() | COMPOSITION | {"py", "sql"}


def test_no_test_module_imports_another() -> None:
    edges = [(module, name) for module, name in imports("tests") if ".test_" in name or name.startswith("test_")]
    assert edges == []
