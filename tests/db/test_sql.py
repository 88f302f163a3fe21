"""The SQL that the package executes: literals, constants and files, never formatted strings."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNS_SQL = {"cursor", "execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare"}
PACKAGE = Path(__file__).parents[2] / "alerts_service"
MODULES = sorted(PACKAGE.rglob("*.py"))


def executed_statements(module: Path) -> Iterator[ast.expr]:
    """Yield the expressions that a module passes to asyncpg as SQL."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_SQL:
            yield node.args[0]


def is_fixed(sql: ast.expr) -> bool:
    """Return whether an expression is a literal, a constant, or the text of an SQL file."""
    literal = isinstance(sql, ast.Constant)
    constant = isinstance(sql, ast.Name) and sql.id.isupper()
    return literal or constant or (isinstance(sql, ast.Attribute) and sql.attr == "sql")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_value_is_formatted_into_sql(module: Path) -> None:
    assert [ast.unparse(sql) for sql in executed_statements(module) if not is_fixed(sql)] == []


def test_only_known_modules_execute_sql() -> None:
    assert {str(module.relative_to(PACKAGE)) for module in MODULES if list(executed_statements(module))} == {
        "cli.py",
        "db/database.py",
        "db/migrations.py",
        "db/pool.py",
        "db/schema_check.py",
        "db/transaction.py",
    }
