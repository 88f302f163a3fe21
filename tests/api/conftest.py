"""Fixtures of the API tests."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import client_for
from tests.support.routes import SECRET_TEXT, TwoTenants, create_party
from tests.support.tokens import JWT_SECRET


@pytest.fixture
async def world(app: AlertsApp, settings: Settings) -> AsyncIterator[TwoTenants]:
    guarded = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    connection = await asyncpg.connect(settings.database_url)
    async with client_for(guarded) as client:
        attacker, victim = await create_party(client, uuid4(), "mine"), await create_party(client, uuid4(), SECRET_TEXT)
        yield TwoTenants(client, connection, attacker, victim)
    await connection.close()
