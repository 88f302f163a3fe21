"""PgBouncer of the Debian package, in transaction mode, configured by pgbouncer.ini in this folder."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.postgres import USER, Postgres, os_user
from tests.support.processes import free_port

CONFIGURATION = Path(__file__).with_name("pgbouncer.ini")
PROGRAM = "/usr/sbin/pgbouncer"


@contextmanager
def running_pgbouncer(database: Postgres, *, pool_size: int = 20, connect_query: bool = True) -> Iterator[str]:
    """Run PgBouncer in front of a server until the end of the block, and yield its DSN.

    Args:
        database: the server
        pool_size: maximum number of server connections
        connect_query: whether to keep the `connect_query` of pgbouncer.ini
    """
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port, configuration, log = free_port(), home / "pgbouncer.ini", home / "log"
    configuration.write_text(render_configuration(database, port, pool_size, connect_query=connect_query))
    for path in (home, configuration):
        path.chmod(0o755)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, configuration], cwd="/", user=os_user(), group=os_user(), stdout=output, stderr=output
        )
    try:
        _wait_until_ready(port, process, log)
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


def render_configuration(database: Postgres, port: int, pool_size: int, *, connect_query: bool) -> str:
    """Return pgbouncer.ini with the addresses of the test, for any database, without passwords and Unix sockets."""
    text = CONFIGURATION.read_text()
    for pattern, replacement in {
        r"^alerts = host=127\.0\.0\.1 port=5432": f"* = host=127.0.0.1 port={database.port} user={USER}",
        r" connect_query='[^']*'": r"\g<0>" if connect_query else "",
        r"^listen_port = .*": f"listen_port = {port}\nunix_socket_dir =\nmax_client_conn = 500\nserver_round_robin = 1",
        r"^auth_type = .*\nauth_file = .*": "auth_type = any",
        r"^default_pool_size = .*": f"default_pool_size = {pool_size}",
    }.items():
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert count == 1, f"{CONFIGURATION.name} has no line {pattern}"
    return text


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 10
    while subprocess.run(["/usr/bin/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
