"""A standby server that replicates a primary."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tests.faults.postgres import USER, Postgres, os_user, run_program
from tests.support.processes import free_port


@contextmanager
def running_standby(primary: Postgres) -> Iterator[Postgres]:
    """Copy a running primary, and run the copy as its standby until the end of the block."""
    standby = Postgres(primary.data_dir.with_name("standby"), free_port())
    standby.data_dir.mkdir(mode=0o700)
    if user := os_user():
        shutil.chown(standby.data_dir, user, user)
    source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", USER)
    run_program("pg_basebackup", "-D", standby.data_dir, *source, "-R", "-c", "fast", "-X", "stream", "--no-sync")
    with (standby.data_dir / "postgresql.conf").open("a") as file:
        file.write("synchronous_standby_names = ''\n")  # once promoted, it has no standby that its commits could await
    try:
        standby.start()
        yield standby
    finally:
        standby.stop()


def read_write_dsn(first: Postgres, second: Postgres) -> str:
    """Return a connection string with both hosts, which connects to the one that accepts writes."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in (first, second))
    return f"postgresql://{USER}@{hosts}/postgres?target_session_attrs=read-write"


async def wait_for_synchronous_standby(primary: Postgres, seconds: float = 20) -> None:
    """Wait until a commit on the primary waits for its standby."""
    connection = await asyncpg.connect(primary.dsn)
    deadline = time.monotonic() + seconds
    while await connection.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state <> 'async'") == 0:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await connection.close()


async def promote(standby: Postgres) -> None:
    """Promote a standby to primary, and wait until the promotion is complete."""
    connection = await asyncpg.connect(standby.dsn)
    assert await connection.fetchval("SELECT pg_promote(wait => true)")
    await connection.close()
