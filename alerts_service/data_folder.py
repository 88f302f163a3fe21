"""The folder of an embedded PostgreSQL, and the locks in it, as its keeper and its users both see them."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PORT = 5432  # there is no TCP port: it is part of the socket's name
ELSEWHERE = "set AS_ALERTS_DATA_DIR to another folder, or set DATABASE_URL"


class Folder:
    """Everything that belongs to one database."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.users, self.keeper = root / "users.lock", root / "keeper.lock"
        self.cluster, self.sockets, self.log = root / "pgdata", root / "run", root / "postgres.log"

    def complaint(self) -> str:
        """The one line of the log that tells most: the last error, or else simply the last line."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.search("FATAL:|PANIC:|ERROR:|[Ee]rror:", line)]
        return re.sub("^.*?(FATAL|PANIC|ERROR|error): +", "", (errors or lines or ["the log is empty"])[-1])


class Lock:
    """An open lock file: what it holds ends with it, or with the process."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

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
