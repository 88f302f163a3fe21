"""The command line, run as real processes."""

import asyncio
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.cli import COMMANDS
from alerts_service.db.migrations import ADVISORY_LOCK_KEY
from tests.support.api import assert_error, data_requests
from tests.support.database import not_pooled
from tests.support.processes import SERVE, environment, run, serving

TENANT = "123e4567-e89b-12d3-a456-426614174000"
BODY = {"tenant_id": TENANT, "rule_name": "r", "message": "m"}
LINE_KEYS = {"time", "level", "logger", "message"}
REQUEST_KEYS = {"request_id", "method", "path", "status", "duration_ms"}
WAITING_FOR_ADVISORY_LOCK = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""


def request_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "alerts_service.access"]


def test_log_lines_are_json_with_one_line_per_request_and_without_secrets(tmp_path: Path, empty_database: str) -> None:
    with serving(tmp_path, DATABASE_URL=empty_database, INTERNAL_SERVICE_KEY="secret") as service:
        with service.client(**{"X-Request-ID": "call-1", "Authorization": "Bearer secret"}) as client:
            alert = client.post("/alerts", json={**BODY, "message": "secret"}).json()
            client.put(f"/alerts/{alert['id']}/acknowledge?tenant_id={TENANT}", json={"note": "secret"})
            rejections = [
                client.post("/internal/alerts", headers={"x-service-key": key}) for key in ("secret", "secret?")
            ]
        lines = service.stop()
    assert all(line.keys() >= LINE_KEYS for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["time"]) for line in lines)
    loggers = {line["logger"] for line in lines}
    assert loggers >= {"uvicorn.error", "alerts_service.db.migrations", "alerts_service.access"}
    assert "secret" not in str(lines) + "".join(rejection.text for rejection in rejections)
    created, acknowledged, invalid, unauthorized = [
        line for line in request_lines(lines) if line["request_id"] == "call-1"
    ]
    assert created.keys() == LINE_KEYS | REQUEST_KEYS
    assert (created["method"], created["path"], created["status"]) == ("POST", "/alerts", 201)
    assert (acknowledged["path"], acknowledged["status"]) == (f"/alerts/{alert['id']}/acknowledge", 200)
    assert (invalid["status"], unauthorized["status"]) == (422, 401)


def test_the_published_key_is_accepted_in_development_with_one_warning(tmp_path: Path, empty_database: str) -> None:
    with serving(tmp_path, DATABASE_URL=empty_database) as service:
        with service.client(**{"x-service-key": "nmc-internal-services-auth-key-phase1"}) as client:
            assert client.post("/internal/alerts", json=BODY).status_code == 201
        lines = service.stop()
    warnings = [line["message"] for line in lines if line["level"] == "WARNING"]
    assert len(warnings) == 1
    assert "INTERNAL_SERVICE_KEY" in warnings[0]


@pytest.mark.parametrize("options", [{}, {"AS_ALERTS_WORKERS": "2"}])
def test_the_published_key_is_rejected_on_an_address_that_is_not_loopback(
    tmp_path: Path, options: dict[str, str]
) -> None:
    ended = run(tmp_path, "--host", "192.0.2.1", **options)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "alerts-service: INTERNAL_SERVICE_KEY: the default service key is accepted only on a loopback address"
    )
    assert "AS_ALERTS_ALLOW_PUBLISHED_KEY=true" in line
    allowed = run(tmp_path, "--host", "192.0.2.1", AS_ALERTS_ALLOW_PUBLISHED_KEY="true", **options)
    assert "cannot listen on 192.0.2.1" in allowed.stderr.splitlines()[-1]


def test_commands_that_do_not_listen_accept_the_published_key(tmp_path: Path, empty_database: str) -> None:
    for command in ("migrate", "recount"):
        ended = run(tmp_path, command, DATABASE_URL=empty_database, AS_ALERTS_HOST="192.0.2.1")
        assert ended.returncode == 0, ended.stderr
    checked = run(tmp_path, "check", DATABASE_URL=empty_database, AS_ALERTS_HOST="192.0.2.1")
    assert "the default service key is accepted only" in checked.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_alerts_survive_a_restart_with_the_embedded_database(
    tmp_path: Path, data_dir: Path, number: signal.Signals
) -> None:
    folder = str(data_dir / "served")
    with serving(tmp_path, AS_ALERTS_DATA_DIR=folder) as service:
        with service.client() as client:
            alert = client.post("/alerts", json=BODY).json()
        service.stop(number)
        assert service.process.returncode == 0
    with serving(tmp_path, AS_ALERTS_DATA_DIR=folder) as service, service.client() as client:
        assert client.get(f"/alerts/{alert['id']}").json() == alert


def test_workers_share_the_embedded_database(tmp_path: Path, data_dir: Path) -> None:
    command = (sys.executable, "-m", "alerts_service", "--workers", "2")
    with serving(tmp_path, command, AS_ALERTS_DATA_DIR=str(data_dir / "served")) as service:
        for _ in range(20):
            with service.client() as client:
                alert = client.post("/alerts", json=BODY).json()
            with service.client() as client:
                assert client.get(f"/alerts/{alert['id']}").json() == alert
        lines = service.stop()
    assert sum("Started server process" in line["message"] for line in lines) == 2


@not_pooled
@pytest.mark.anyio
async def test_too_few_connections_for_all_workers_stop_the_start(tmp_path: Path, empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    role, address = f"role_{uuid4().hex}", urlsplit(empty_database)
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 7")
    await connection.execute(f"ALTER DATABASE {address.path[1:]} OWNER TO {role}")
    url = address._replace(netloc=f"{role}:x@{address.netloc.rpartition('@')[2]}").geturl()
    ended = run(tmp_path, "--workers", "2", DATABASE_URL=url)
    assert ended.returncode == 1
    assert "cannot open 12 database connections: too many connections" in ended.stderr.splitlines()[-1]
    await connection.execute(f"ALTER DATABASE {address.path[1:]} OWNER TO current_user")
    await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()


def test_uvicorn_can_serve_the_application_with_its_own_access_log(tmp_path: Path, empty_database: str) -> None:
    """The specification starts the service as `python -m uvicorn alerts_service.main:app`."""
    command = (sys.executable, "-m", "uvicorn", "alerts_service.main:app", "--host", "127.0.0.1", "--port", "{port}")
    with serving(tmp_path, command, DATABASE_URL=empty_database) as service:
        with service.client() as client:
            assert client.post("/alerts", json=BODY).status_code == 201
        lines = service.stop()
    assert [line["path"] for line in request_lines(lines)][-1] == "/alerts"
    assert not [line for line in lines if line["logger"] == "uvicorn.access"]


@pytest.mark.anyio
async def test_an_unreachable_database_is_retried_and_logged_once(tmp_path: Path, tenant: UUID) -> None:
    """Requests are answered with errors meanwhile, and SIGTERM stops the service at once."""
    with serving(tmp_path, DATABASE_URL="postgresql://u:secret@127.0.0.1:1/d") as service:
        async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
            for path in ("/health", "/health/details"):
                assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
            for method, path, body in data_requests(tenant):
                assert_error(await client.request(method, path, json=body), 500, "Database connection error")
        await asyncio.sleep(1.2)
        started = time.monotonic()
        lines = service.stop()
        assert (service.process.returncode, time.monotonic() - started < 1) == (0, True)
    (unreachable,) = [line for line in lines if line["logger"] == "alerts_service.bootstrap"]
    assert (unreachable["message"], unreachable["retry_in"]) == ("database unreachable, retrying", 0.5)
    assert unreachable["reason"].startswith("DATABASE_URL: no connection to the database: ")
    reasons = {line["reason"] for line in lines if line.get("status") in {500, 503}}
    assert reasons == {"the database does not answer", "Database connection error"}
    assert "secret" not in str(lines)


SERVING = [pytest.param(arguments, marks=not_pooled) for arguments in ((), ("--workers", "2"))]


@pytest.mark.parametrize("arguments", [*SERVING, ("migrate",), ("check",)])
def test_a_database_that_does_not_exist_ends_every_command(
    tmp_path: Path, server_url: str, arguments: tuple[str, ...]
) -> None:
    ended = run(
        tmp_path, *arguments, DATABASE_URL=urlsplit(server_url)._replace(path=f"/absent_{uuid4().hex}").geturl()
    )
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if "DATABASE_URL: no connection to the database" in line]
    assert "does not exist" in line
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "message", "arguments"),
    [
        ({"AS_ALERTS_PORT": "http"}, "AS_ALERTS_PORT: ", ()),
        ({"ENVIRONMENT": "production"}, "DATABASE_URL: must be set", ()),
        ({"DATABASE_URL": "mysql://u:secret@127.0.0.1/d"}, "DATABASE_URL: must be a PostgreSQL URL", ()),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:x/d"}, "DATABASE_URL: must be a PostgreSQL URL", ("check",)),
        *(
            ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, "DATABASE_URL: no connection to", command)
            for command in (("migrate",), ("check",))
        ),
    ],
)
def test_a_startup_error_is_one_line_without_traceback_or_password(
    tmp_path: Path, settings: dict[str, str], message: str, arguments: tuple[str, ...]
) -> None:
    ended = run(tmp_path, *arguments, **settings)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if message in line]) == 1
    assert "Traceback" not in ended.stderr
    assert "---" not in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(("host", "reason"), [("127.0.0.1", "already in use"), ("no.such.host.invalid", "")])
def test_an_address_that_cannot_be_listened_on_is_reported_before_the_database_is_started(
    tmp_path: Path, host: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = run(
            tmp_path,
            AS_ALERTS_HOST=host,
            AS_ALERTS_PORT=port,
            AS_ALERTS_DATA_DIR=str(tmp_path / "data"),
            AS_ALERTS_ALLOW_PUBLISHED_KEY="true",
        )
    assert ended.returncode == 1
    assert f"AS_ALERTS_HOST, AS_ALERTS_PORT: cannot listen on {host}:{port}" in ended.stderr.splitlines()[-1]
    assert reason in ended.stderr
    assert not (tmp_path / "data").exists()


def test_check_reports_migrations_that_migrate_applies(tmp_path: Path, data_dir: Path) -> None:
    settings = {"AS_ALERTS_DATA_DIR": str(data_dir / "check")}
    before = run(tmp_path, "check", **settings)
    assert (before.returncode, "the schema lacks 0001_create_alerts" in before.stderr) == (1, True)
    assert run(tmp_path, "migrate", **settings).stdout.startswith("applied 0001_create_alerts, 0002")
    assert run(tmp_path, "migrate", **settings).stdout == "no pending migrations\n"
    after = run(tmp_path, "check", **settings)
    assert (after.returncode, "are valid" in after.stdout) == (0, True)


@pytest.mark.anyio
@pytest.mark.parametrize(("command", "code"), [("migrate", 143), ("serve", 0)])
async def test_sigterm_ends_a_command_that_waits_for_the_migration_lock(
    tmp_path: Path, empty_database: str, command: str, code: int
) -> None:
    """`migrate` ends with 143, as the migrations were not applied."""
    connection = await asyncpg.connect(empty_database)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        variables = environment(DATABASE_URL=empty_database)
        process = await asyncio.create_subprocess_exec(*SERVE, command, cwd=tmp_path, env=variables, stderr=DEVNULL)
        for _ in range(500):
            if await connection.fetchval(WAITING_FOR_ADVISORY_LOCK):
                break
            await asyncio.sleep(0.02)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == code
    assert await connection.fetchval("SELECT to_regclass('alerts')") is None
    await connection.close()


def test_key_prints_a_new_key_whatever_the_settings_are(tmp_path: Path) -> None:
    keys = [run(tmp_path, "key", ENVIRONMENT="production").stdout for _ in range(2)]
    assert all(re.fullmatch(r"[\w-]{43}\n", key, re.ASCII) for key in keys)
    assert keys[0] != keys[1]


def test_help_describes_every_command_and_option_in_a_line(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help").stdout
    for command in ("serve", *COMMANDS, "key"):
        assert re.search(rf"^  {command} +\w+ .+$", shown, re.MULTILINE), command
    for option in ("--host", "--port", "--workers", "--older-than", "--dry-run", "--help", "--version"):
        assert re.search(rf"^  (-\w, )?{option}\b.* \w+ .+$", shown, re.MULTILINE), option


def test_version_prints_the_version_of_the_package(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == version("as-alerts-service") + "\n"


def test_options_take_precedence_over_settings(tmp_path: Path, empty_database: str) -> None:
    command = (sys.executable, "-m", "alerts_service", "serve", "--host", "localhost", "--port", "{port}")
    (tmp_path / ".env").write_text("AS_ALERTS_HOST=192.0.2.1\nAS_ALERTS_PORT=1\n")
    with (
        serving(tmp_path, command, port_setting=None, DATABASE_URL=empty_database) as service,
        service.client() as client,
    ):
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("option", [("--port", "99999"), ("--port", "http"), ("--workers", "0"), ("--workers", "-3")])
def test_a_rejected_option_is_reported_by_the_name_of_its_setting(tmp_path: Path, option: tuple[str, str]) -> None:
    ended = run(tmp_path, *option)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"AS_ALERTS_{option[0][2:].upper()}: " in line
