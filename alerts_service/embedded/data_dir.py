"""The folder of an embedded PostgreSQL, and the locks in it, as its keeper and its users both see them."""

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

PORT = 5432  # there is no TCP port: it is part of the socket's name
ELSEWHERE = "set AS_ALERTS_DATA_DIR to another folder, or set DATABASE_URL"


class Folder:
    """Everything that belongs to one database."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.users, self.keeper = root / "users.lock", root / "keeper.lock"
        self.cluster, self.sockets = root / "pgdata", root / "run"
        self.log, self.older_log = root / "postgres.log", root / "postgres.log.1"

    def complaint(self) -> str:
        """The one line of the log that tells most: the last error, or else simply the last line."""
        with open(self.log, errors="replace", opener=open_file) as log:
            lines = [line for line in log.read().splitlines() if line.strip()]
        errors = [line for line in lines if re.search("FATAL:|PANIC:|ERROR:|[Ee]rror:", line)]
        return re.sub("^.*?(FATAL|PANIC|ERROR|error): +", "", (errors or lines or ["the log is empty"])[-1])


class Lock:
    """An open lock file: what it holds ends with it, or with the process."""

    def __init__(self, path: Path) -> None:
        self.file = open_file(path, os.O_RDWR | os.O_CREAT)

    def take(self, *, shared: bool = False) -> bool:
        """Try to take the lock, without waiting, and tell whether it is ours."""
        with suppress(BlockingIOError):
            fcntl.flock(self.file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        return False

    def write(self, text: bytes) -> None:
        """Replace the file's text, for whoever reads it without holding the lock."""
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, text, 0)

    def close(self) -> None:
        """Let go."""
        os.close(self.file)


class Account(NamedTuple):
    """The account that runs PostgreSQL when root runs the service: PostgreSQL refuses to run as root."""

    user: int
    group: int

    @classmethod
    def default(cls) -> Account | None:
        """Return the account that owns a new cluster, or None if the system has no account for it."""
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                return cls(*pwd.getpwnam(name)[2:4])
        return None


def open_file(path: str | Path, flags: int) -> int:
    """Open a file, but never a symbolic link; a file that this creates is private. Also an `opener` of `open`."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a folder, but never a symbolic link, so that its files are found by its descriptor."""
    descriptor = open_file(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def insecure(path: Path) -> str | None:
    """Return the reason why another account could replace the data folder or files in it, with a remedy, or None.

    Root and the account of this process may own the folder and its ancestors. The account that runs PostgreSQL for root
    may own the folder. Missing folders are not judged.
    """
    folder = Folder(path.resolve())
    owners = {0, os.geteuid()}
    account = Account.default() if os.geteuid() == 0 else None
    with suppress(FileNotFoundError):
        for step in _steps(path.absolute()):
            status = step.lstat()
            link, is_root = step.is_symlink(), step.resolve() == folder.root
            if is_root and not link and account:
                owners.add(account.user)
            if status.st_uid not in owners:
                return f"{step} is owned by user ID {status.st_uid}; give it to root or to the service's account"
            sticky = status.st_mode & stat.S_ISVTX and not is_root
            if status.st_mode & 0o022 and not link and not sticky:
                mode = f"{stat.S_IMODE(status.st_mode):04o}"
                return f"{step} is writable by other accounts (mode {mode}); run chmod go-w {step}"
    for file in (folder.users, folder.keeper, folder.log, folder.older_log, folder.cluster, folder.sockets):
        if file.is_symlink():
            return f"{file} is a symbolic link; remove it"
    return None


def _steps(path: Path) -> Iterator[Path]:
    """Yield every folder and symbolic link through which the system finds the path.

    Raises:
        OSError: one of them is missing, or the links form a loop.
    """
    for step in (*reversed(path.parents), path):
        yield step
        if step.is_symlink():
            step.stat()
            yield from _steps(step.parent / step.readlink())
