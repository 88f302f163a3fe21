"""What the README says is so."""

import re
from pathlib import Path

from litestar.routes import HTTPRoute

from alerts_service.app import create_app
from alerts_service.settings import Settings
from tests.support.processes import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
APP = create_app(Settings(internal_service_key="a-key-for-tests"))
DOCUMENT = APP.openapi_schema.to_schema()


def test_every_route_is_in_the_readme() -> None:
    """The README's table names every documented route with the statuses of the OpenAPI document, and no other."""
    routes = {
        (f"{method.upper()} {path}", frozenset(operation["responses"]) - said_below_the_table(path))
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \|.*\| ([\d, ]+) \|$", README, re.MULTILINE)
    assert {(route, frozenset(statuses.split(", "))) for route, statuses in rows} == routes


def said_below_the_table(path: str) -> set[str]:
    return set() if path.startswith("/health") else {"500", "503"}


def test_every_route_is_documented() -> None:
    """No route but the documentation's own is left out of the OpenAPI document."""
    paths = {route.path_format for route in APP.routes if isinstance(route, HTTPRoute)}
    undocumented = {path for path in paths if not path.startswith("/docs")} - DOCUMENT["paths"].keys()
    assert undocumented == {"/openapi.json"}


def test_the_links_lead_somewhere() -> None:
    """Every file that the README links to exists."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_command_line_is_as_the_readme_says(tmp_path: Path) -> None:
    """Every option and command that the README names is one that `--help` knows."""
    shown = run(tmp_path, "--help").stdout
    named = set(re.findall(r"`(--\w+)", README)) | set(re.findall(r"`alerts-service (\w+)`", README))
    assert named >= {"--host", "--port", "--workers", "migrate", "check"}
    assert [word for word in sorted(named) if word not in shown] == []
