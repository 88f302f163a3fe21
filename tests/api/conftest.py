"""Fixtures of the API tests."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.bootstrap import ready_database
from alerts_service.db.database import Database
from alerts_service.db.migrations import migrate
from alerts_service.db.pool import Connection
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import client_for
from tests.support.database import settings_for
from tests.support.processes import ServiceProcess, serving
from tests.support.routes import SECRET_TEXT, TwoTenants, create_party
from tests.support.sockets import RawConnection, raw_connections
from tests.support.tokens import JWT_SECRET


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to the database that the tests share."""
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def two_tenants(app: AlertsApp, settings: Settings, connection: Connection) -> AsyncIterator[TwoTenants]:
    """Two tenants with alerts, and a client of an application that requires tokens."""
    token_app = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    async with client_for(token_app) as client:
        attacker, victim = await create_party(client, uuid4(), "mine"), await create_party(client, uuid4(), SECRET_TEXT)
        yield TwoTenants(client, connection, attacker, victim)


@pytest.fixture
async def own_database(empty_database: str) -> AsyncIterator[Database]:
    """A database for one test alone: pruning deletes the expired rows of every tenant."""
    async with ready_database(settings_for(database_url=empty_database, retention_days=7, pool_size=4)) as database:
        yield database


@pytest.fixture
async def own_client(own_database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(create_app(settings_for(), own_database)) as client:
        yield client


@pytest.fixture
async def own_connection(empty_database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database)
    await migrate(connection)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def ndjson_service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A process that waits for one second for a request, or for the next line of an NDJSON request."""
    cwd = tmp_path_factory.mktemp("cwd")
    with serving(cwd, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="1") as service:
        yield service


@pytest.fixture
def raw_connection(ndjson_service: ServiceProcess) -> Iterator[RawConnection]:
    with raw_connections(ndjson_service, 1) as (connection,):
        yield connection
