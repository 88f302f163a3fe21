"""Starts and stops the processes of an embedded PostgreSQL, and selects their account."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from alerts_service.embedded.data_dir import Account, DataDir, open_directory, open_without_links

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def account_for(cluster: Path) -> Account | None:
    """Return the account that runs PostgreSQL for root: the owner of an existing cluster, else the default account.

    If this process does not run as root, return None: PostgreSQL then runs as the account of this process.
    """
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        status = cluster.lstat()
        if status.st_uid != 0:
            return Account(status.st_uid, status.st_gid)
    if account := Account.default():
        return account
    sys.exit(
        "error: PostgreSQL does not run as root, and the system has no account 'postgres' or 'nobody': "
        "create one of them, run the service as another account, or set DATABASE_URL"
    )


def call_as(account: Account | None, function: Callable[[], bool]) -> bool:
    """Call a function as an account, in a child process, and return its result.

    If the function raises an exception in the child process, the result is False. Without an account, the function is
    called in this process.
    """
    if account is None:
        return function()
    child = os.fork()
    if child == 0:
        with suppress(Exception):
            os.setgroups([])
            os.setgid(account.group)
            os.setuid(account.user)
            os._exit(0 if function() else 1)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def start_process(
    command: list[str | Path], account: Account | None, signal_on_exit: signal.Signals
) -> subprocess.Popen[bytes]:
    """Start a child process of the supervisor as an account.

    On Linux the kernel sends `signal_on_exit` to the child when the supervisor ends. On other systems the next
    supervisor stops the remaining processes.
    """
    identity: dict[str, Any] = {"user": account.user, "group": account.group, "extra_groups": []} if account else {}
    libc, supervisor = ctypes.CDLL(None), os.getpid()

    def exit_with_supervisor() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal_on_exit)
        if os.getppid() != supervisor:  # the supervisor ended before the call of prctl
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        preexec_fn=exit_with_supervisor if sys.platform == "linux" else None,  # noqa: PLW1509 - unsafe with threads only, and the supervisor has none
        **identity,
    )


def read_status(cluster: Path) -> tuple[int, str]:
    """Return the server's process ID and status, such as "ready", from `postmaster.pid`.

    If the file is missing or incomplete, return (0, "").
    """
    with suppress(OSError, ValueError, IndexError):
        with open(cluster / "postmaster.pid", opener=open_without_links) as file:
            pid, *_, status = file.read().splitlines()[:8]
        return int(pid), status.strip()
    return 0, ""


def stop_orphans(data_dir: DataDir, account: Account | None) -> None:
    """Stop processes that a killed supervisor or server left, and remove `postmaster.pid` and the socket files.

    The process ID in `postmaster.pid` may now belong to another program. Signals are therefore sent only to processes
    whose working directory is the cluster.
    """
    if (data_dir.cluster / "postmaster.pid").exists():
        import_module("psutil")  # before the change of account, as the account may not be able to read the package
        if not call_as(account, lambda: _stop_postgres_processes(data_dir.cluster)):
            sys.exit(f"error: another PostgreSQL runs on {data_dir.cluster} and cannot be stopped")
    with open_directory(data_dir.cluster) as cluster, open_directory(data_dir.sockets) as sockets:
        with suppress(FileNotFoundError):
            os.unlink("postmaster.pid", dir_fd=cluster)
        with os.scandir(sockets) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(".s.PGSQL.")]
        for name in names:
            os.unlink(name, dir_fd=sockets)


def _stop_postgres_processes(cluster: Path) -> bool:
    """Shut the server down, then stop its orphaned processes, and return whether all processes have ended."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 2), (signal.SIGKILL, 2)):
        server = read_status(cluster)[0]
        targets = [pid for pid in _processes_in(cluster) if pid == server or number != signal.SIGINT]
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while set(targets) & set(_processes_in(cluster)) and time.monotonic() < deadline:
            time.sleep(0.02)
    return not any(_processes_in(cluster))


def _processes_in(cluster: Path) -> Iterator[int]:
    """Yield the IDs of the PostgreSQL processes whose working directory is a cluster.

    Directories are compared by identity, as a cluster in another container may have the same path.
    """
    psutil = import_module("psutil")
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            directory = Path(f"/proc/{process.pid}/cwd" if sys.platform == "linux" else process.cwd())
            if process.name() == "postgres" and directory.samefile(cluster):
                yield process.pid
