"""The command line, as real processes."""

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

from alerts_service.db.migrations import ADVISORY_LOCK_KEY
from tests.support.api import answers_to_a_lost_database, assert_error
from tests.support.database import not_pooled
from tests.support.processes import SERVE, environment, run, serving

TENANT = "123e4567-e89b-12d3-a456-426614174000"
BODY = {"tenant_id": TENANT, "rule_name": "r", "message": "m"}
LINE_KEYS = {"time", "level", "logger", "message"}
REQUEST_KEYS = {"request_id", "method", "path", "status", "duration_ms"}


def requests(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "alerts_service.access"]


def test_every_line_is_json(tmp_path: Path, empty_database: str) -> None:
    """Every line of the log is JSON, uvicorn's too, each request has one, and none holds a secret or a note."""
    with serving(tmp_path, DATABASE_URL=empty_database, INTERNAL_SERVICE_KEY="geheim") as service:
        with service.client(**{"X-Request-ID": "call-1", "Authorization": "Bearer geheim"}) as client:
            alert = client.post("/alerts", json={**BODY, "message": "geheim"}).json()
            client.put(f"/alerts/{alert['id']}/acknowledge?tenant_id={TENANT}", json={"note": "geheim"})
            refusals = [
                client.post("/internal/alerts", headers={"x-service-key": key}) for key in ("geheim", "geheim?")
            ]
        lines = service.stop()
    assert all(line.keys() >= LINE_KEYS for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["time"]) for line in lines)
    loggers = {line["logger"] for line in lines}
    assert loggers >= {"uvicorn.error", "alerts_service.db.migrations", "alerts_service.access"}
    assert "geheim" not in str(lines) + "".join(refusal.text for refusal in refusals)
    created, acknowledged, invalid, refused = [line for line in requests(lines) if line["request_id"] == "call-1"]
    assert created.keys() == LINE_KEYS | REQUEST_KEYS
    assert (created["method"], created["path"], created["status"]) == ("POST", "/alerts", 201)
    assert (acknowledged["path"], acknowledged["status"]) == (f"/alerts/{alert['id']}/acknowledge", 200)
    assert (invalid["status"], refused["status"]) == (422, 401)


def test_the_default_key_is_warned_of(tmp_path: Path, empty_database: str) -> None:
    """In development the published key works, and the log warns of it once."""
    with serving(tmp_path, DATABASE_URL=empty_database) as service:
        with service.client(**{"x-service-key": "nmc-internal-services-auth-key-phase1"}) as client:
            assert client.post("/internal/alerts", json=BODY).status_code == 201
        lines = service.stop()
    warnings = [line["message"] for line in lines if line["level"] == "WARNING"]
    assert len(warnings) == 1
    assert "INTERNAL_SERVICE_KEY" in warnings[0]


@pytest.mark.parametrize("options", [{}, {"AS_ALERTS_WORKERS": "2"}])
def test_the_published_key_is_refused_beyond_loopback(tmp_path: Path, options: dict[str, str]) -> None:
    ended = run(tmp_path, "--host", "192.0.2.1", **options)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "alerts-service: INTERNAL_SERVICE_KEY: the published default is accepted only on a loopback address"
    )
    assert "AS_ALERTS_ALLOW_PUBLISHED_KEY=true" in line
    allowed = run(tmp_path, "--host", "192.0.2.1", AS_ALERTS_ALLOW_PUBLISHED_KEY="true", **options)
    assert "cannot listen on 192.0.2.1" in allowed.stderr.splitlines()[-1]


def test_a_command_that_does_not_listen_accepts_the_published_key(tmp_path: Path, empty_database: str) -> None:
    for command in ("migrate", "recount"):
        ended = run(tmp_path, command, DATABASE_URL=empty_database, AS_ALERTS_HOST="192.0.2.1")
        assert ended.returncode == 0, ended.stderr
    checked = run(tmp_path, "check", DATABASE_URL=empty_database, AS_ALERTS_HOST="192.0.2.1")
    assert "the published default is accepted only" in checked.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_alerts_survive_a_restart(tmp_path: Path, data_dir: Path, number: signal.Signals) -> None:
    """An alert is still there after the service, embedded database and all, was stopped and started again."""
    folder = str(data_dir / "served")
    with serving(tmp_path, AS_ALERTS_DATA_DIR=folder) as service:
        with service.client() as client:
            alert = client.post("/alerts", json=BODY).json()
        service.stop(number)
        assert service.process.returncode == 0
    with serving(tmp_path, AS_ALERTS_DATA_DIR=folder) as service, service.client() as client:
        assert client.get(f"/alerts/{alert['id']}").json() == alert


def test_several_workers(tmp_path: Path, data_dir: Path) -> None:
    """Two workers share the embedded database and serve the same alerts, their logs JSON too."""
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
async def test_too_few_connections_for_all_workers(tmp_path: Path, empty_database: str) -> None:
    """Where the server does not give all workers their connections, the start is one line and exit code 1."""
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


def test_the_specifications_way(tmp_path: Path, empty_database: str) -> None:
    """`python -m uvicorn alerts_service.main:app` serves as well, and its request lines are the service's own."""
    command = (sys.executable, "-m", "uvicorn", "alerts_service.main:app", "--host", "127.0.0.1", "--port", "{port}")
    with serving(tmp_path, command, DATABASE_URL=empty_database) as service:
        with service.client() as client:
            assert client.post("/alerts", json=BODY).status_code == 201
        lines = service.stop()
    assert [line["path"] for line in requests(lines)][-1] == "/alerts"
    assert not [line for line in lines if line["logger"] == "uvicorn.access"]


@pytest.mark.anyio
async def test_an_absent_database_is_awaited(tmp_path: Path, tenant: UUID) -> None:
    """Where nobody listens yet the process waits for the database, says so once, and can be stopped at any time."""
    with serving(tmp_path, DATABASE_URL="postgresql://u:geheim@127.0.0.1:1/d") as service:
        async with httpx.AsyncClient(base_url=service.url, verify=False) as client:
            for path in ("/health", "/health/details"):
                assert_error(await client.get(path), 503, "Service unavailable", "the database does not answer")
            for method, path, body in answers_to_a_lost_database(tenant):
                assert_error(await client.request(method, path, json=body), 500, "Database connection error")
        await asyncio.sleep(1.2)
        started = time.monotonic()
        lines = service.stop()
        assert (service.process.returncode, time.monotonic() - started < 1) == (0, True)
    (waiting,) = [line for line in lines if line["logger"] == "alerts_service.bootstrap"]
    assert "Waiting for the database: DATABASE_URL: no connection to" in waiting["message"]
    reasons = {line["reason"] for line in lines if line.get("status") in {500, 503}}
    assert reasons == {"the database does not answer", "Database connection error"}
    assert "geheim" not in str(lines)


SERVING = [pytest.param(arguments, marks=not_pooled) for arguments in ((), ("--workers", "2"))]


@pytest.mark.parametrize("arguments", [*SERVING, ("migrate",), ("check",)])
def test_a_database_that_does_not_exist(tmp_path: Path, server_url: str, arguments: tuple[str, ...]) -> None:
    """What waiting cannot mend, here a wrong name, ends every command at once with one line."""
    ended = run(
        tmp_path, *arguments, DATABASE_URL=urlsplit(server_url)._replace(path=f"/absent_{uuid4().hex}").geturl()
    )
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if "DATABASE_URL: no connection to the database" in line]
    assert "does not exist" in line
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "complaint", "arguments"),
    [
        ({"AS_ALERTS_PORT": "http"}, "AS_ALERTS_PORT: ", ()),
        ({"ENVIRONMENT": "production"}, "DATABASE_URL: must be set", ()),
        ({"DATABASE_URL": "mysql://u:geheim@127.0.0.1/d"}, "DATABASE_URL: Expected", ()),
        ({"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:x/d"}, "DATABASE_URL: not an address", ("check",)),
        *(
            ({"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/d"}, "DATABASE_URL: no connection to", command)
            for command in (("migrate",), ("check",))
        ),
    ],
)
def test_a_start_that_cannot_be(
    tmp_path: Path, settings: dict[str, str], complaint: str, arguments: tuple[str, ...]
) -> None:
    """What keeps the service from starting is one clear line, without a traceback or a password, and an exit code."""
    ended = run(tmp_path, *arguments, **settings)
    assert ended.returncode != 0
    assert complaint in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if complaint in line]) == 1
    assert "Traceback" not in ended.stderr
    assert "---" not in ended.stderr
    assert "geheim" not in ended.stderr


@pytest.mark.parametrize(("host", "reason"), [("127.0.0.1", "already in use"), ("no.such.host.invalid", "")])
def test_an_address_that_cannot_be_listened_on(tmp_path: Path, host: str, reason: str) -> None:
    """A taken port or a host that is not ours is one line, before a database is started or changed."""
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


def test_migrate_and_check(tmp_path: Path, data_dir: Path) -> None:
    """`check` finds an old schema, `migrate` brings it up to date, and then `check` is content."""
    settings = {"AS_ALERTS_DATA_DIR": str(data_dir / "check")}
    before = run(tmp_path, "check", **settings)
    assert (before.returncode, "the schema lacks 0001_create_alerts" in before.stderr) == (1, True)
    assert run(tmp_path, "migrate", **settings).stdout.startswith("applied 0001_create_alerts, 0002")
    assert run(tmp_path, "migrate", **settings).stdout == "nothing to apply\n"
    after = run(tmp_path, "check", **settings)
    assert (after.returncode, "are in order" in after.stdout) == (0, True)


@pytest.mark.anyio
@pytest.mark.parametrize(("command", "code"), [("migrate", 143), ("serve", 0)])
async def test_what_waits_for_another_can_be_stopped(
    tmp_path: Path, empty_database: str, command: str, code: int
) -> None:
    """SIGTERM ends what waits at once, and `migrate` not with 0: what it waited for is not done."""
    connection = await asyncpg.connect(empty_database)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        given = environment(DATABASE_URL=empty_database)
        process = await asyncio.create_subprocess_exec(*SERVE, command, cwd=tmp_path, env=given, stderr=DEVNULL)
        for _ in range(500):
            if await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                break
            await asyncio.sleep(0.02)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == code
    assert await connection.fetchval("SELECT to_regclass('alerts')") is None
    await connection.close()


def test_a_fresh_key(tmp_path: Path) -> None:
    """`key` prints another key every time, one that the setting takes, whatever the settings are meanwhile."""
    keys = [run(tmp_path, "key", ENVIRONMENT="production").stdout for _ in range(2)]
    assert all(re.fullmatch(r"[\w-]{43}\n", key, re.ASCII) for key in keys)
    assert keys[0] != keys[1]


def test_help_and_version(tmp_path: Path) -> None:
    """`--help` names the commands and options, `--version` the version."""
    shown = run(tmp_path, "--help").stdout
    for word in ("serve", "migrate", "check", "--host", "--port", "--workers"):
        assert word in shown
    assert run(tmp_path, "--version").stdout == version("as-alerts-service") + "\n"


def test_options_go_before_settings(tmp_path: Path, empty_database: str) -> None:
    """`--host` and `--port` go before the settings, which would not serve."""
    command = (sys.executable, "-m", "alerts_service", "serve", "--host", "localhost", "--port", "{port}")
    (tmp_path / ".env").write_text("AS_ALERTS_HOST=192.0.2.1\nAS_ALERTS_PORT=1\n")
    with (
        serving(tmp_path, command, port_setting=None, DATABASE_URL=empty_database) as service,
        service.client() as client,
    ):
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("option", [("--port", "99999"), ("--port", "http"), ("--workers", "0"), ("--workers", "-3")])
def test_a_wrong_option(tmp_path: Path, option: tuple[str, str]) -> None:
    """A wrong option stops the start with one line, as the setting does."""
    ended = run(tmp_path, *option)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"AS_ALERTS_{option[0][2:].upper()}: " in line
