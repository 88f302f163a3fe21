"""The data directory of an embedded PostgreSQL, and its lock files. The service and the supervisor use this module."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":
    import fcntl
    import pwd

PORT = 5432  # part of the socket's file name; the server opens no TCP port
USE_ANOTHER = "set AS_ALERTS_DATA_DIR to another directory, or set DATABASE_URL"


class DataDir:
    """The paths of an embedded PostgreSQL: cluster, sockets, logs and lock files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.users_lock = root / "users.lock"
        self.supervisor_lock = root / "keeper.lock"  # renaming it would let supervisors of two versions run at a time
        self.cluster, self.sockets = root / "pgdata", root / "run"
        self.log, self.old_log = root / "postgres.log", root / "postgres.log.1"

    def last_log_error(self) -> str:
        """Return the last error in PostgreSQL's log. If the log contains no error, return its last line."""
        with open(self.log, errors="replace", opener=open_without_links) as log:
            lines = [line for line in log.read().splitlines() if line.strip()]
        errors = [line for line in lines if re.search("FATAL:|PANIC:|ERROR:|[Ee]rror:", line)]
        return re.sub("^.*?(FATAL|PANIC|ERROR|error): +", "", (errors or lines or ["the log is empty"])[-1])


class FileLock:
    """An open lock file. The kernel releases the lock when the file is closed or the process ends, even by a signal.

    Locks of two FileLocks conflict even within one process.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_without_links(path, os.O_RDWR | os.O_CREAT)

    def acquire(self, *, shared: bool = False) -> bool:
        """Try to acquire the lock without waiting, and return whether it was acquired."""
        with suppress(BlockingIOError):
            fcntl.flock(self.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        return False

    def write(self, text: bytes) -> None:
        """Replace the text of the file, which other processes read without holding the lock."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text, 0)

    def close(self) -> None:
        """Release the lock."""
        os.close(self.descriptor)


class Account(NamedTuple):
    """The account that runs PostgreSQL when root runs the service, as PostgreSQL does not run as root."""

    user: int
    group: int

    @classmethod
    def default(cls) -> Account | None:
        """Return the account that owns a new cluster, or None if the system has no account for it."""
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                return cls(*pwd.getpwnam(name)[2:4])
        return None


def open_without_links(path: str | Path, flags: int) -> int:
    """Open a file, but never a symbolic link. Other accounts cannot read a created file.

    The function can be passed to `open` as its `opener`.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """Open a directory, but never a symbolic link, and yield its file descriptor."""
    descriptor = open_without_links(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def find_insecure_path(path: Path) -> str | None:
    """Find a path through which another account could replace the data directory or files in it.

    Root and the account of this process may own the directory and its ancestors. The account that runs PostgreSQL for
    root may own the directory. Missing directories are ignored. Return a description of the path with a remedy, or None
    if all paths are secure.
    """
    data_dir = DataDir(path.resolve())
    owners = {0, os.geteuid()}
    account = Account.default() if os.geteuid() == 0 else None
    with suppress(FileNotFoundError):
        for component in _components(path.absolute()):
            status = component.lstat()
            is_link, is_root = component.is_symlink(), component.resolve() == data_dir.root
            if is_root and not is_link and account:
                owners.add(account.user)
            if status.st_uid not in owners:
                return f"{component} is owned by user ID {status.st_uid}; give it to root or to the service's account"
            is_sticky = status.st_mode & stat.S_ISVTX and not is_root
            if status.st_mode & 0o022 and not is_link and not is_sticky:
                mode = f"{stat.S_IMODE(status.st_mode):04o}"
                return f"{component} is writable by other accounts (mode {mode}); run chmod go-w {component}"
    for file in (
        data_dir.users_lock,
        data_dir.supervisor_lock,
        data_dir.log,
        data_dir.old_log,
        data_dir.cluster,
        data_dir.sockets,
    ):
        if file.is_symlink():
            return f"{file} is a symbolic link; remove it"
    return None


def _components(path: Path) -> Iterator[Path]:
    """Yield every directory and symbolic link through which the system resolves the path.

    Raises:
        OSError: a directory or the target of a link is missing, or the links form a loop.
    """
    for component in (*reversed(path.parents), path):
        yield component
        if component.is_symlink():
            component.stat()
            yield from _components(component.parent / component.readlink())
