"""A second server that follows a first one."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tests.faults.postgres import USER, Postgres, run, user
from tests.support.processes import free_port


@contextmanager
def standby(primary: Postgres) -> Iterator[Postgres]:
    """Copy a running primary, follow it, and remove the copy in the end."""
    follower = Postgres(primary.folder.with_name("standby"), free_port())
    follower.folder.mkdir(mode=0o700)
    if owner := user():
        shutil.chown(follower.folder, owner, owner)
    source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", USER)
    run("pg_basebackup", "-D", follower.folder, *source, "-R", "-c", "fast", "-X", "stream", "--no-sync")
    with (follower.folder / "postgresql.conf").open("a") as file:
        file.write("synchronous_standby_names = ''\n")  # when it is promoted nobody follows it
    try:
        follower.start()
        yield follower
    finally:
        follower.stop()


def both(first: Postgres, second: Postgres) -> str:
    """Name two servers, of which the one that takes writes is meant."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in (first, second))
    return f"postgresql://{USER}@{hosts}/postgres?target_session_attrs=read-write"


async def follows(primary: Postgres, seconds: float = 20) -> None:
    """Return when what is committed on the primary waits for its standby."""
    connection = await asyncpg.connect(primary.dsn)
    deadline = time.monotonic() + seconds
    while await connection.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state <> 'async'") == 0:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await connection.close()


async def promote(follower: Postgres) -> None:
    """Make a standby the primary, and return when it is."""
    connection = await asyncpg.connect(follower.dsn)
    assert await connection.fetchval("SELECT pg_promote(wait => true)")
    await connection.close()
