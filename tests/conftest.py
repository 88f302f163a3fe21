"""A real PostgreSQL, the real application, and a client that stays in the test's own loop.

Tests share one database and keep out of each other's way by their tenants: every test takes a fresh one.
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

if POOLER:
    pytest.MonkeyPatch().setattr(asyncpg, "connect", partial(asyncpg.connect, statement_cache_size=0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Through a pooler, leave out what never reaches the server of TEST_DATABASE_URL."""
    if POOLER:
        reaching = [item for item in items if "server_url" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in reaching])
        items[:] = reaching


@pytest.fixture(scope="session", autouse=True)
def anyio_backend() -> str:
    """For every test, since those that start processes take databases too, whose fixtures are asynchronous."""
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A folder that another user may reach (PostgreSQL does not run as root), short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="alerts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url(data_dir: Path) -> Iterator[str]:
    """The PostgreSQL server of TEST_DATABASE_URL, else the embedded one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    postgres = embedded.start(data_dir)
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
