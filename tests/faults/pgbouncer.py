"""Debian's PgBouncer in transaction mode, told what the README says."""

import re
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.postgres import USER, Postgres, user
from tests.support.processes import free_port

README = Path(__file__).parents[2] / "README.md"
PROGRAM = "/usr/sbin/pgbouncer"
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={port} {connect_query}
{settings}
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
default_pool_size = {pool_size}
server_round_robin = 1
max_client_conn = 500
"""


@contextmanager
def pgbouncer(database: Postgres, *, pool_size: int = 20, told: bool = True) -> Iterator[str]:
    """Run one before a server, whose sessions are told what they should be or not, and yield its address."""
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port, configuration, log = free_port(), home / "pgbouncer.ini", home / "log"
    text = CONFIGURATION.format(
        port=database.port,
        listen_port=port,
        pool_size=pool_size,
        # Any database, by any user of the address, unless a user is named.
        connect_query=f"user={USER} {connect_query() if told else ''}",
        settings=settings(),
    )
    configuration.write_text(text)
    for path in (home, configuration):
        path.chmod(0o755)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, configuration], cwd="/", user=user(), group=user(), stdout=output, stderr=output
        )
    try:
        _wait(port, process, log)
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


def connect_query() -> str:
    """The setting as the README has it."""
    (line,) = re.findall(r"connect_query='[^']*'", README.read_text())
    return str(line)


def settings() -> str:
    """Find the section of PgBouncer's own settings as the README has it."""
    (section,) = re.findall(r"^ *(\[pgbouncer\][^`]*)```", README.read_text(), re.MULTILINE)
    return textwrap.dedent(f"  {section}")


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 10
    while subprocess.run(["/usr/bin/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
