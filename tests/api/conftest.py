"""Fixtures of the API tests."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import client_of
from tests.support.routes import MARK, World, side
from tests.support.tokens import SECRET


@pytest.fixture
async def world(app: AlertsApp, settings: Settings) -> AsyncIterator[World]:
    guarded = create_app(replace(settings, tenant_jwt_secret=SECRET), app.state.database)
    connection = await asyncpg.connect(settings.database_url)
    async with client_of(guarded) as client:
        attacker, victim = await side(client, uuid4(), "mine"), await side(client, uuid4(), MARK)
        yield World(client, connection, attacker, victim)
    await connection.close()
