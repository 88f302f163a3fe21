"""Databases for tests, and settings that fit a direct connection and one through PgBouncer."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from alerts_service.db import database
from alerts_service.settings import Settings

# Whether TEST_DATABASE_URL is an address of PgBouncer. Connections of the tests then cache no prepared statements.
POOLER = "TEST_POOLER" in os.environ
not_pooled = pytest.mark.skipif(POOLER, reason="tests a direct connection to PostgreSQL")

# With the setting `pooler` that fits TEST_DATABASE_URL.
settings_for = partial(Settings, pooler=POOLER)
open_database = partial(database.open_database, pooler=POOLER)


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """Create an empty database, yield its URL, and drop it."""
    name = f"test_{uuid4().hex}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
