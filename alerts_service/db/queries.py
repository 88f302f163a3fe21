"""Loads the SQL files below sql/queries."""

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from alerts_service.errors import StartupError

COMMENT = re.compile("--.*")
WRITE_KEYWORD = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b|\bpg_(try_)?advisory_", re.IGNORECASE)
PARAMETER = re.compile(r"^-- \$(?P<number>\d+) (?P<name>\w+) (?P<type>[^?\n]+)(?P<nullable>\??)$", re.MULTILINE)


class Parameter(Struct, frozen=True):
    """A line `-- $1 name type` of the header of a file. If null is allowed, `?` follows the type."""

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
        """Whether the statement changes no data and takes no lock, so that equal calls can share a result."""
        return WRITE_KEYWORD.search(COMMENT.sub("", self.sql)) is None

    def arguments(self, parameters: Mapping[str, object]) -> tuple[object, ...]:
        """Return the values of named parameters in the order of the header.

        Raises:
            KeyError, TypeError: the names differ from those in the header.
        """
        if len(parameters) != len(self.parameters):
            raise TypeError(f"{self.path.stem} takes {[parameter.name for parameter in self.parameters]}")
        return tuple([parameters[parameter.name] for parameter in self.parameters])


def sql_directory() -> Path:
    """Return the directory `sql`: inside the installed package, or beside the package in a checkout.

    Raises:
        StartupError: neither directory exists.
    """
    package = Path(__file__).parent.parent
    for directory in (package / "sql", package.parent / "sql"):
        if directory.is_dir():
            return directory
    raise StartupError(f"SQL files not found: neither {package / 'sql'} nor {package.parent / 'sql'} is a directory")


def load_queries() -> dict[str, Query]:
    """Read every file below sql/queries. The key of a file is its path without `.sql`."""
    root = sql_directory() / "queries"
    return {path.relative_to(root).with_suffix("").as_posix(): _read(path) for path in sorted(root.rglob("*.sql"))}


def _read(path: Path) -> Query:
    sql = path.read_text("utf-8")
    parameters = [
        Parameter(int(line["number"]), line["name"], line["type"], nullable=bool(line["nullable"]))
        for line in PARAMETER.finditer(sql)
    ]
    return Query(path, sql, tuple(parameters))
