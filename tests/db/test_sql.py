"""SQL is what stands in a file or a constant; values reach it as parameters alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNS_SQL = {"cursor", "execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare"}
PACKAGE = Path(__file__).parents[2] / "alerts_service"
MODULES = sorted(PACKAGE.rglob("*.py"))


def statements(module: Path) -> Iterator[ast.expr]:
    """What a module hands to asyncpg as SQL."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_SQL:
            yield node.args[0]


def is_fixed(sql: ast.expr) -> bool:
    """Whether it is a literal, a constant, or the text of a file."""
    literal = isinstance(sql, ast.Constant)
    constant = isinstance(sql, ast.Name) and sql.id.isupper()
    return literal or constant or (isinstance(sql, ast.Attribute) and sql.attr == "sql")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_value_is_formatted_into_sql(module: Path) -> None:
    """Every statement that a module runs is a literal, a constant, or the text of a .sql file."""
    assert [ast.unparse(sql) for sql in statements(module) if not is_fixed(sql)] == []


def test_the_modules_that_run_sql_are_known() -> None:
    """Only these talk to the database, so that there is one place to look."""
    assert {str(module.relative_to(PACKAGE)) for module in MODULES if list(statements(module))} == {
        "cli.py",
        "db/database.py",
        "db/migrations.py",
        "db/pool.py",
        "db/schema_check.py",
        "db/transaction.py",
    }
