"""Loads the SQL files below sql/queries."""

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from alerts_service.errors import StartupError

WRITE_KEYWORD = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b")
PARAMETER = re.compile(r"^-- \$(?P<number>\d+) (?P<name>\w+) (?P<type>[^?\n]+)(?P<nullable>\??)$", re.MULTILINE)


class Parameter(Struct, frozen=True):
    """A line `-- $1 name type` of the header of a file; `?` after the type means that null is allowed."""

    number: int
    name: str
    type: str
    nullable: bool = False


class Query(Struct, frozen=True):
    """A file below sql/queries."""

    path: Path
    sql: str
    parameters: tuple[Parameter, ...]

    @property
    def read_only(self) -> bool:
        """Whether the statement changes nothing, so that equal calls can share a result."""
        return WRITE_KEYWORD.search(self.sql) is None

    def values(self, parameters: Mapping[str, object]) -> tuple[object, ...]:
        """Return the values of named parameters in the order of the file.

        Raises:
            KeyError, TypeError: the names are not those of the file.
        """
        if len(parameters) != len(self.parameters):
            raise TypeError(f"{self.path.stem} takes {[parameter.name for parameter in self.parameters]}")
        return tuple([parameters[parameter.name] for parameter in self.parameters])


def sql_folder() -> Path:
    """Return the folder `sql`: inside the installed package, or beside the package in a checkout.

    Raises:
        StartupError: neither folder exists.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise StartupError(f"SQL files not found: neither {package / 'sql'} nor {package.parent / 'sql'} is a folder")


def load_queries() -> dict[str, Query]:
    """Read every file below sql/queries; the key is its path without `.sql`."""
    root = sql_folder() / "queries"
    return {path.relative_to(root).with_suffix("").as_posix(): _read(path) for path in sorted(root.rglob("*.sql"))}


def _read(path: Path) -> Query:
    sql = path.read_text("utf-8")
    parameters = [
        Parameter(int(line["number"]), line["name"], line["type"], nullable=bool(line["nullable"]))
        for line in PARAMETER.finditer(sql)
    ]
    return Query(path, sql, tuple(parameters))
