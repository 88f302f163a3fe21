"""Connection pool and uvicorn settings of the peers."""

import os
from typing import TYPE_CHECKING, Any

import asyncpg
import uvicorn

if TYPE_CHECKING:
    from asyncpg import Pool, Record


async def open_pool() -> "Pool[Record]":
    """Open a pool of POOL_SIZE connections, as many as the service has."""
    size = int(os.environ["POOL_SIZE"])
    return await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=size, max_size=size)


def serve(app: Any) -> None:
    """Run uvicorn with the settings of the service, without an access log."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
