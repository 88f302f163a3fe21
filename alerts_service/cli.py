"""The command line: `alerts-service`, or `python -m alerts_service`."""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from importlib.metadata import version

import uvicorn
from msgspec import structs

from alerts_service.app import create_app
from alerts_service.bootstrap import STARTUP_FAILURE_EXIT_CODE, check_schema, connect, database_dsn, ready_database
from alerts_service.db.migrations import advisory_lock, migrate, pending
from alerts_service.db.pool import Connection
from alerts_service.db.queries import load_queries
from alerts_service.errors import DatabaseNotReady, StartupError
from alerts_service.logging_config import configure_logging
from alerts_service.retention.job import COUNT, PRUNE, PRUNE_KEYS, AlertBatch, ExpiredCounts, KeyBatch, Pruned, prune
from alerts_service.server.graceful_shutdown import GracefulServer, GracefulSupervisor
from alerts_service.server.http_protocol import protocol_factory
from alerts_service.settings import Settings, check_published_key, load_settings
from alerts_service.stats.controller import RECOUNT

KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, so that they close them first

DESCRIPTION = "Multi-tenant HTTP service that stores alerts in PostgreSQL."
COMMAND_HELP = """\
serve    run the HTTP server (the default)
migrate  apply pending schema migrations
check    check settings, database, schema and SQL files
recount  count the alerts again and correct the statistics
prune    delete resolved alerts after the retention period, and expired idempotency keys
key      print a new random key for INTERNAL_SERVICE_KEY
"""
EPILOG = """\
Settings are read from the environment and from .env in the working directory; .env.example documents them.
Options take precedence over settings.
"""


def main() -> None:
    """Run a command. A known failure is reported in one line, with exit code 1.

    SIGTERM ends the process at any time. The first process of a container would ignore it without a handler. The exit
    code is 0 for `serve`, as uvicorn completes its requests and then raises the signal again, and 143 for commands that
    were interrupted. A handler that raised an exception could leave asyncio in an inconsistent state.
    """
    parser = _create_parser()
    arguments = parser.parse_args()
    if arguments.command != "prune" and (arguments.dry_run or arguments.older_than is not None):
        parser.error("--dry-run and --older-than are options of prune")
    if arguments.command == "key":
        print(secrets.token_urlsafe(32))
        return
    exit_code = 0 if arguments.command == "serve" else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: os._exit(exit_code))
    try:
        settings = load_settings(
            AS_ALERTS_HOST=arguments.host,
            AS_ALERTS_PORT=arguments.port,
            AS_ALERTS_WORKERS=arguments.workers,
            AS_ALERTS_RETENTION_DAYS=arguments.older_than,
        )
        configure_logging(settings.log_level)
        if arguments.command == "serve":
            _serve(settings)
        elif arguments.dry_run:
            asyncio.run(_prune_dry_run(settings))
        else:
            asyncio.run(COMMANDS[arguments.command](settings))
    except StartupError as error:
        sys.exit(f"alerts-service: {error}")


def _create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alerts-service",
        usage="%(prog)s [COMMAND] [OPTIONS]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    commands = parser.add_argument_group("commands", COMMAND_HELP)
    choices = ("serve", *COMMANDS, "key")
    commands.add_argument(
        "command", nargs="?", choices=choices, default="serve", metavar="COMMAND", help=argparse.SUPPRESS
    )
    serve = parser.add_argument_group("options of serve")
    serve.add_argument("--host", metavar="ADDRESS", help="address to listen on (AS_ALERTS_HOST, default 127.0.0.1)")
    serve.add_argument(
        "--port", help="port to listen on; 0 selects a free port and logs it (AS_ALERTS_PORT, default 3101)"
    )
    serve.add_argument("--workers", metavar="N", help="number of server processes (AS_ALERTS_WORKERS, default 1)")
    pruning = parser.add_argument_group("options of prune")
    pruning.add_argument(
        "--older-than",
        metavar="DAYS",
        help="delete alerts that were resolved more than DAYS days ago (AS_ALERTS_RETENTION_DAYS)",
    )
    pruning.add_argument("--dry-run", action="store_true", help="count what would be deleted, and delete nothing")
    other = parser.add_argument_group("other options")
    other.add_argument("-h", "--help", action="help", help="show this help and exit")
    other.add_argument(
        "--version", action="version", version=version("as-alerts-service"), help="show the version and exit"
    )
    return parser


def _serve(settings: Settings) -> None:
    check_published_key(settings)
    _check_address(settings.host, settings.port)
    config = uvicorn.Config(
        "alerts_service.main:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=protocol_factory(settings.request_timeout),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    if settings.workers == 1:
        server = GracefulServer(config)
        with suppress(KeyboardInterrupt):
            server.run()
        sys.exit(None if server.started else STARTUP_FAILURE_EXIT_CODE)
    with suppress(DatabaseNotReady):  # each worker retries
        asyncio.run(_check_worker_startup(settings))
    supervisor = GracefulSupervisor(config, [config.bind_socket()])
    supervisor.run()
    if STARTUP_FAILURE_EXIT_CODE in [process.exitcode for process in supervisor.processes]:
        sys.exit(STARTUP_FAILURE_EXIT_CODE)


def _check_address(host: str, port: int) -> None:
    """Fail before the database is started or changed if the address cannot be listened on."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"AS_ALERTS_HOST, AS_ALERTS_PORT: cannot listen on {host}:{port}: {reason}") from None


async def _check_worker_startup(settings: Settings) -> None:
    """Fail once, with exit code 1, on anything that would fail in each worker.

    This includes a server that does not accept the connections of all workers at a time.
    """
    create_app(settings)
    connections = settings.workers * (settings.pool_size + 1)  # each worker has one for health checks
    async with ready_database(structs.replace(settings, pool_size=connections - 1)):
        pass


@asynccontextmanager
async def _connect(settings: Settings) -> AsyncIterator[Connection]:
    async with database_dsn(settings) as dsn, connect(dsn, pooler=settings.pooler) as connection:
        yield connection


async def _migrate(settings: Settings) -> None:
    async with _connect(settings) as connection:
        applied = await migrate(connection)
    print("applied " + ", ".join(migration.name for migration in applied) if applied else "nothing to apply")


async def _check(settings: Settings) -> None:
    check_published_key(settings)
    create_app(settings)
    async with _connect(settings) as connection:
        if missing := await pending(connection):
            names = ", ".join(migration.name for migration in missing)
            raise StartupError(f"the schema lacks {names}: run `alerts-service migrate`, or start the service")
        count = await check_schema(connection, settings)
    print(f"settings, database, schema and {count} SQL files are in order")


async def _recount(settings: Settings) -> None:
    # Two recounts at a time would each apply the whole correction.
    async with _connect(settings) as connection, advisory_lock(connection):
        tenants = await connection.fetchval(load_queries()[RECOUNT.name].sql, column=1)
    print(f"corrected the counts of {tenants} tenants")


async def _prune(settings: Settings) -> None:
    days, queries, alerts, keys = _retention_days(settings), load_queries(), Pruned(), Pruned()
    async with _connect(settings) as connection:

        async def prune_keys(since: datetime | None) -> KeyBatch:
            (record,) = await connection.fetch(queries[PRUNE_KEYS.name].sql, [since])
            return KeyBatch(*record[1:])

        async def prune_alerts(since: datetime | None) -> AlertBatch:
            (record,) = await connection.fetch(queries[PRUNE.name].sql, [days], [since], [None])
            return AlertBatch(*record[1:])

        try:
            await prune(prune_keys, keys)
            await prune(prune_alerts, alerts)
        finally:
            print(
                f"deleted {alerts.alerts} alerts resolved more than {days} days ago and their {alerts.events} events "
                f"in {alerts.batches} batches and {alerts.seconds:.1f} s\n"
                f"deleted {keys.keys} expired idempotency keys in {keys.batches} batches and {keys.seconds:.1f} s"
            )


async def _prune_dry_run(settings: Settings) -> None:
    days = _retention_days(settings)
    async with _connect(settings) as connection:
        (record,) = await connection.fetch(load_queries()[COUNT.name].sql, [days])
    due = ExpiredCounts(*record[1:])
    print(
        f"would delete {due.alerts} alerts resolved more than {days} days ago and their {due.events} events\n"
        f"would delete {due.keys} expired idempotency keys"
    )


def _retention_days(settings: Settings) -> int:
    if settings.retention_days is None:
        raise StartupError("AS_ALERTS_RETENTION_DAYS: must be set to prune, or pass --older-than DAYS")
    return settings.retention_days


COMMANDS = {"migrate": _migrate, "check": _check, "recount": _recount, "prune": _prune}
