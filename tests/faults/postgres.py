"""A PostgreSQL of Debian's that a test may kill."""

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
SECONDS = 30
CONFIGURATION = {
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
}


class Postgres:
    """A server on a folder that initdb or pg_basebackup made, always on the same port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.dsn = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it takes connections, or raise with what it wrote instead."""
        log = self.folder.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [binary("postgres"), "-D", self.folder, "-p", str(self.port)],
                cwd="/",
                user=user(),
                group=user(),
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text())
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it takes connections."""
        question = [binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(question, check=False).returncode == 0

    def stop(self) -> None:
        """End it in good order, without waiting for those who are connected."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=SECONDS)
            self.process = None

    def kill(self) -> None:
        """Kill the postmaster and its children, whatever they are at, with -9, and return when all are gone."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()
        self.process = None
        _, alive = psutil.wait_procs(children, timeout=SECONDS)
        assert not alive, alive


@contextmanager
def postgres(*, log_folder: Path | None = None, **configuration: str) -> Iterator[Postgres]:
    """Make a cluster, its write-ahead log in a folder apart if need be, start it, and remove it in the end."""
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    home.chmod(0o755)
    server = Postgres(home / "data", free_port())
    server.folder.mkdir(mode=0o700)
    if owner := user():
        shutil.chown(server.folder, owner, owner)
    try:
        options = ("-U", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        run("initdb", "-D", server.folder, *options, *(("-X", log_folder) if log_folder else ()))
        lines = [f"{name} = '{value}'\n" for name, value in {**CONFIGURATION, **configuration}.items()]
        with (server.folder / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)


def run(name: str, *arguments: str | Path) -> None:
    """Run a program of PostgreSQL's to its end, as the user that its servers run as."""
    done = subprocess.run(
        [binary(name), *arguments], cwd="/", user=user(), group=user(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def binary(name: str) -> str:
    """Find a program of the newest version. Where there is none a test fails: it is no test that may be left out."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert versions, f"no {name} below /usr/lib/postgresql: apt-get install postgresql"
    return str(versions[-1])


def user() -> str | None:
    """PostgreSQL does not run as root: then Debian's own user."""
    return pwd.getpwnam(USER).pw_name if os.getuid() == 0 else None
