"""README.md: its commands run, and it mentions every route, command and file that a reader looks for."""

import json
import re
import subprocess
from pathlib import Path

from litestar.routes import HTTPRoute

from alerts_service import cli
from alerts_service.app import create_app
from alerts_service.settings import Settings
from tests.support.processes import run, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
APP = create_app(Settings(internal_service_key="a-key-for-tests"))
MAX_LINES = 150


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_quick_start_creates_acknowledges_and_resolves_an_alert(tmp_path: Path, empty_database: str) -> None:
    """The commands run as they are written, except for the port and the id, which a reader copies from the response."""
    create, change = [block for block in code_blocks("bash") if "curl" in block]
    with serving(tmp_path, DATABASE_URL=empty_database) as service:
        create = create[: create.index("export ALERT")].replace("http://localhost:3101", service.url)
        alert = json.loads(shell(create))
        exports = f"export TENANT={alert['tenant_id']} ALERT={alert['id']}\n"
        change = change.replace("http://localhost:3101", service.url).replace("\ncurl", "\necho\ncurl")
        listed, acknowledged, resolved, events = map(json.loads, shell(exports + change).splitlines())
    assert alert["status"] == "triggered"
    assert [each["id"] for each in listed] == [alert["id"]]
    assert (acknowledged["status"], resolved["status"]) == ("acknowledged", "resolved")
    assert [event["type"] for event in events] == ["created", "acknowledged", "resolved"]


def shell(commands: str) -> str:
    script = "set -e\n" + commands.replace("curl ", "curl --silent --show-error --fail ")
    return subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True, timeout=30).stdout


def test_install_lines_name_extras_that_exist() -> None:
    extras = {extra for line in re.findall(r"pip install -e '\.\[(\w+)\]'", README) for extra in line.split(",")}
    project = (ROOT / "pyproject.toml").read_text()
    assert extras == {"embedded", "test", "dev"}
    assert [extra for extra in extras if not re.search(rf"^{extra} = \[", project, re.MULTILINE)] == []


def test_every_route_is_in_the_table() -> None:
    documented = set(re.findall(r"`((?:GET|POST|PUT) /[^`\s]*)`", README))
    routes = {
        f"{method.upper()} {path}"
        for path, operations in APP.openapi_schema.to_schema()["paths"].items()
        for method in operations
    }
    assert documented == routes


def test_every_route_is_in_the_openapi_document() -> None:
    paths = {route.path_format for route in APP.routes if isinstance(route, HTTPRoute)}
    undocumented = {path for path in paths if not path.startswith("/docs")} - set(APP.openapi_schema.paths or {})
    assert undocumented == {"/openapi.json"}


def test_links_lead_to_files() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_command_and_option_is_mentioned(tmp_path: Path) -> None:
    """Every command is mentioned, and every mentioned command and option exists."""
    usage = run(tmp_path, "--help").stdout
    commands = {"serve", *cli.COMMANDS, "key"}
    mentioned = set(re.findall(r"`alerts-service (\w+)", README)) | {"serve"}
    assert mentioned == commands
    assert [option for option in re.findall(r"`(--\w+)", README) if option not in usage] == []
