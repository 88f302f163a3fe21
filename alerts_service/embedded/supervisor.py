"""The supervisor process of an embedded PostgreSQL: `python -m alerts_service.embedded.supervisor DIRECTORY`.

The supervisor runs the server as its child while any process uses the server. Two lock files coordinate the processes.
The kernel releases a lock when its holder ends, even after `kill -9`:

    users.lock    shared by all processes that use the server; when no process holds it, the supervisor shuts down
    keeper.lock   held by the supervisor; the file contains "ready" while the server accepts connections

At startup the process imports only the standard library and this package, so that it starts quickly. psutil is imported
later, and only to stop processes of an earlier supervisor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from alerts_service.embedded.cluster import create_cluster, prepare_programs, prepare_sockets, rotate_log
from alerts_service.embedded.data_dir import PORT, DataDir, FileLock
from alerts_service.embedded.processes import account_for, read_status, start_process, stop_orphans

MAX_LOG_BYTES = 10_000_000
RESTART_PAUSE_SECONDS = 0.5


class Supervisor:
    """Runs the server, restarts it after a crash, and stops it when no process uses it.

    Exceptions are not handled. The last line of the traceback is written to the log. The process that waits for the
    server copies this line into its error message.
    """

    def __init__(self, data_dir: DataDir, lock: FileLock) -> None:
        self._data_dir, self._lock = data_dir, lock
        self._account = account_for(data_dir.cluster)
        self._programs = prepare_programs(data_dir, self._account)
        self._server: subprocess.Popen[bytes] | None = None
        self._is_ready = self._was_ready = False

    def run(self) -> None:
        """Run the server until no process holds `users.lock`, then stop the server."""
        create_cluster(self._data_dir, self._programs / "initdb", self._account)
        prepare_sockets(self._data_dir.sockets, self._account)
        with closing(FileLock(self._data_dir.users_lock)) as users_lock:
            try:
                while not users_lock.acquire():
                    self._poll()
                    time.sleep(0.05 if self._is_ready else 0.01)
            finally:
                self._shut_down_server()

    def _poll(self) -> None:
        """Start the server, restart it if it has ended, rotate its log, or update the status in the lock file."""
        if self._server is None:
            self._start_server()
        elif self._server.poll() is not None:
            self._restart_server()
        elif self._is_ready:
            rotate_log(self._data_dir, MAX_LOG_BYTES)
        elif read_status(self._data_dir.cluster) == (self._server.pid, "ready"):
            self._is_ready = self._was_ready = True
            self._lock.write(b"ready")

    def _start_server(self) -> None:
        stop_orphans(self._data_dir, self._account)
        sockets = str(self._data_dir.sockets).replace('"', '""')
        options = [f'unix_socket_directories="{sockets}"', "listen_addresses=", f"port={PORT}", "max_connections=100"]
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data_dir.cluster]
        self._server = start_process([*command, *(f"--{option}" for option in options)], self._account, signal.SIGINT)

    def _restart_server(self) -> None:
        """Restart the server. If it was never ready, exit with an error, as a restart would fail as well."""
        if not self._was_ready:
            sys.exit(f"error: {self._data_dir.last_log_error()}")
        if not self._is_ready:
            time.sleep(RESTART_PAUSE_SECONDS)
        self._is_ready = False
        self._lock.write(b"")
        self._start_server()

    def _shut_down_server(self) -> None:
        """Request a fast shutdown, then an immediate one, then kill the server."""
        self._lock.write(b"")
        for number, seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if self._server and self._server.poll() is None:
                self._server.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._server.wait(seconds)


def main() -> None:
    """Supervise the server of a data directory, unless another supervisor is running."""
    data_dir = DataDir(Path(sys.argv[1]))
    lock = FileLock(data_dir.supervisor_lock)
    if not lock.acquire():
        return
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # Only the release of `users.lock` ends the supervisor. PostgreSQL would inherit SIG_IGN, but not a handler.
        signal.signal(number, lambda *_: None)
    os.umask(0o077)
    rotate_log(data_dir, 0)  # so that the log contains only lines of this supervisor and its server
    Supervisor(data_dir, lock).run()


if __name__ == "__main__":
    main()
