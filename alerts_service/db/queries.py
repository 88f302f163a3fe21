"""The .sql files below sql/queries."""

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from alerts_service.errors import StartupError

CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b")
PARAMETER = re.compile(r"^-- \$(?P<number>\d+) (?P<name>\w+) (?P<type>[^?\n]+)\??$", re.MULTILINE)


class Parameter(Struct, frozen=True):
    """A line `-- $1 name type` of a query's header; a `?` behind the type where null is meant."""

    number: int
    name: str
    type: str


class Query(Struct, frozen=True):
    """A file below sql/queries."""

    path: Path
    sql: str
    parameters: tuple[Parameter, ...]

    @property
    def shared(self) -> bool:
        """Whether equal calls may have one answer: it changes nothing."""
        return CHANGES.search(self.sql) is None

    def values(self, arguments: Mapping[str, object]) -> tuple[object, ...]:
        """Put a call's arguments in the order of the parameters.

        Raises:
            KeyError, TypeError: the call has others than the file.
        """
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.path.stem} takes {[parameter.name for parameter in self.parameters]}")
        return tuple([arguments[parameter.name] for parameter in self.parameters])


def sql_folder() -> Path:
    """Find `sql/`: inside the installed package, or beside it in a checkout.

    Raises:
        StartupError: it is in neither place.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise StartupError(f"the SQL files are missing: no folder {package / 'sql'}")


def load_queries() -> dict[str, Query]:
    """Read every file below sql/queries, by its path without `.sql`."""
    root = sql_folder() / "queries"
    return {path.relative_to(root).with_suffix("").as_posix(): _read(path) for path in sorted(root.rglob("*.sql"))}


def _read(path: Path) -> Query:
    sql = path.read_text("utf-8")
    parameters = tuple(Parameter(int(line["number"]), line["name"], line["type"]) for line in PARAMETER.finditer(sql))
    return Query(path, sql, parameters)
