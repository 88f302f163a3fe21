"""Fixtures: a PostgreSQL server, databases, the application, and a client that calls it in the event loop of the test.

Most tests share one database. Each test uses a tenant of its own, so that it sees no alerts of other tests.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.app import create_app
from alerts_service.embedded import handle as embedded
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import SERVICE_KEY, client_for
from tests.support.database import POOLER, fresh_database, settings_for

SERVER_DIR = "TEST_SERVER_DIR"
# Keeps the handle of the supervisor process, which outlives this worker while others use the server: subprocess.Popen
# warns when it is deleted before its process has ended.
STARTED: list[embedded.EmbeddedPostgres] = []

if POOLER:
    pytest.MonkeyPatch().setattr(asyncpg, "connect", partial(asyncpg.connect, statement_cache_size=0))


def make_data_dir() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="alerts-"))
    folder.chmod(0o755)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Choose one data directory for all workers, which inherit the variable. A new cluster costs 2 s of CPU time."""
    if not hasattr(config, "workerinput"):
        os.environ[SERVER_DIR] = str(make_data_dir())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(SERVER_DIR), ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With PgBouncer, run only the tests that use the server of TEST_DATABASE_URL."""
    if POOLER:
        selected = [item for item in items if "server_url" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in selected])
        items[:] = selected


@pytest.fixture(scope="session", autouse=True)
def anyio_backend() -> str:
    """Applies to every test, as synchronous tests use databases too, whose fixtures are asynchronous."""
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """Return a folder that PostgreSQL's account can reach, with a path that is short enough for a socket."""
    folder = make_data_dir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Return the URL of TEST_DATABASE_URL, else of the embedded PostgreSQL, which the processes of a run share."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    postgres = embedded.start(Path(os.environ[SERVER_DIR]))
    STARTED.append(postgres)
    yield postgres.dsn
    postgres.stop()


@pytest.fixture
async def empty_database(server_url: str) -> AsyncIterator[str]:
    async with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
async def settings(server_url: str) -> AsyncIterator[Settings]:
    async with fresh_database(server_url) as url:
        yield settings_for(database_url=url, internal_service_key=SERVICE_KEY)


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[AlertsApp]:
    app = create_app(settings)
    async with app.lifespan():
        yield app


@pytest.fixture(scope="session")
async def client(app: AlertsApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(app) as client:
        yield client


@pytest.fixture
def tenant() -> UUID:
    return uuid4()
