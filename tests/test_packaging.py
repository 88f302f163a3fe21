"""The built wheel, installed without anything else in a virtual environment."""

import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest

from tests.support.database import fresh_database
from tests.support.processes import environment, serving

ROOT = Path(__file__).parent.parent
BODY = {"tenant_id": "123e4567-e89b-12d3-a456-426614174000", "rule_name": "r", "message": "m"}


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and its dependencies, nothing else, and return the folder of its commands."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python")]
    subprocess.run([*pip, "install", "--no-compile", "--quiet", str(wheel)], check=True, capture_output=True)
    return folder / "env/bin"


@pytest.mark.anyio
async def test_an_installed_wheel_serves_from_any_folder(bin_folder: Path, server_url: str, tmp_path: Path) -> None:
    """The SQL files and Swagger UI are found in the installed packages."""
    async with fresh_database(server_url) as url:
        command = [str(bin_folder / "alerts-service"), "--port", "{port}"]
        with serving(tmp_path, command, DATABASE_URL=url) as service:
            async with httpx.AsyncClient(base_url=service.url) as client:
                assert (await client.post("/alerts", json=BODY)).status_code == 201
                assert (await client.get("/docs/static/swagger-ui.css")).status_code == 200


def test_a_missing_embedded_extra_is_reported_with_a_remedy(bin_folder: Path, tmp_path: Path) -> None:
    command = [str(bin_folder / "alerts-service"), "check"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), text=True, capture_output=True, check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert "pip install 'as-alerts-service[embedded]'" in line
    assert "DATABASE_URL" in line
