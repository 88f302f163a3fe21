"""Databases of tests."""

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

# Whether TEST_DATABASE_URL is PgBouncer's: then what the tests connect themselves keeps nothing prepared either.
POOLER = "TEST_POOLER" in os.environ


not_pooled = pytest.mark.skipif(POOLER, reason="PgBouncer stands between the service and what this is about")


# How a test reaches the database, whether a pooler stands before it or not.
settings_for = partial(Settings, pooler=POOLER)


open_database = partial(database.open_database, pooler=POOLER)


@asynccontextmanager
async def fresh_database(server_url: str) -> AsyncIterator[str]:
    """Make an empty database, yield its address, and drop it."""
    name = f"test_{uuid4().hex}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
