"""A PostgreSQL server of the Debian package `postgresql`, which a test may kill and restart."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.processes import free_port

USER = "postgres"
TIMEOUT_SECONDS = 30
DEFAULT_CONFIGURATION = {
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
}


class Postgres:
    """A server with a data directory made by initdb or pg_basebackup; it keeps its port when it is restarted."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self.dsn = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it accepts connections.

        Raises:
            AssertionError: the server has exited or timed out; the message is its log.
        """
        log = self.data_dir.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program_path("postgres"), "-D", self.data_dir, "-p", str(self.port)],
                cwd="/",
                user=os_user(),
                group=os_user(),
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text())
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        command = [program_path("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def stop(self) -> None:
        """Shut the server down in fast mode: open connections are closed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=TIMEOUT_SECONDS)
            self.process = None

    def kill(self) -> None:
        """Send SIGKILL to the postmaster and all its children, and wait until they have exited."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()
        self.process = None
        _, alive = psutil.wait_procs(children, timeout=TIMEOUT_SECONDS)
        assert not alive, alive


@contextmanager
def running_postgres(*, wal_dir: Path | None = None, **configuration: str) -> Iterator[Postgres]:
    """Run a server with a new cluster until the end of the block.

    Args:
        wal_dir: folder of the write-ahead log; without it, the log is in the data directory
        configuration: parameters of postgresql.conf
    """
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    home.chmod(0o755)
    server = Postgres(home / "data", free_port())
    server.data_dir.mkdir(mode=0o700)
    if user := os_user():
        shutil.chown(server.data_dir, user, user)
    try:
        options = ("-U", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        run_program("initdb", "-D", server.data_dir, *options, *(("-X", wal_dir) if wal_dir else ()))
        lines = [f"{name} = '{value}'\n" for name, value in {**DEFAULT_CONFIGURATION, **configuration}.items()]
        with (server.data_dir / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)


def run_program(name: str, *arguments: str | Path) -> None:
    """Run a program of PostgreSQL, as the operating system user of the servers, and assert that it succeeds."""
    result = subprocess.run(
        [program_path(name), *arguments],
        cwd="/",
        user=os_user(),
        group=os_user(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def program_path(name: str) -> str:
    """Return the path of a program of the newest installed version.

    Raises:
        AssertionError: it is not installed. The test fails instead of being skipped, because no fault test is optional.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert versions, f"no {name} below /usr/lib/postgresql: apt-get install postgresql"
    return str(versions[-1])


def os_user() -> str | None:
    """Return the user to run PostgreSQL as: the Debian user if the test runs as root, which PostgreSQL refuses."""
    return pwd.getpwnam(USER).pw_name if os.getuid() == 0 else None
