"""The built wheel, alone in an environment of its own."""

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
    """An empty environment into which pip installed the wheel and what it asks for, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python")]
    subprocess.run([*pip, "install", "--no-compile", "--quiet", str(wheel)], check=True, capture_output=True)
    return folder / "env/bin"


@pytest.mark.anyio
async def test_the_wheel_serves_from_any_folder(bin_folder: Path, server_url: str, tmp_path: Path) -> None:
    """An installed wheel serves from any folder: its SQL files and Swagger UI are inside what pip installed."""
    async with fresh_database(server_url) as url:
        command = [str(bin_folder / "alerts-service"), "--port", "{port}"]
        with serving(tmp_path, command, DATABASE_URL=url) as service:
            async with httpx.AsyncClient(base_url=service.url) as client:
                assert (await client.post("/alerts", json=BODY)).status_code == 201
                assert (await client.get("/docs/static/swagger-ui.css")).status_code == 200


def test_without_the_embedded_extra(bin_folder: Path, tmp_path: Path) -> None:
    """Without DATABASE_URL and without the embedded extra, one line says what to do."""
    service = [str(bin_folder / "alerts-service"), "check"]
    ended = subprocess.run(service, cwd=tmp_path, env=environment(), text=True, capture_output=True, check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert "embedded" in line
    assert "DATABASE_URL" in line
