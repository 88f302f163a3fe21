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
from alerts_service.retention.job import COUNT, PRUNE, PRUNE_KEYS, AlertBatch, KeyBatch, Pruned, prune
from alerts_service.server.graceful_shutdown import GracefulServer, GracefulSupervisor
from alerts_service.server.http_protocol import protocol_factory
from alerts_service.settings import Settings, check_published_key, load_settings
from alerts_service.stats.controller import RECOUNT

# Load balancers usually close idle connections after 60 seconds. The service keeps them longer, so that it never closes
# a connection while a load balancer sends a request on it.
KEEP_ALIVE_SECONDS = 75

DESCRIPTION = "Multi-tenant HTTP service that stores alerts in PostgreSQL."
COMMAND_HELP = """\
serve    run the HTTP server (the default)
migrate  apply pending schema migrations
check    check settings, database, schema and SQL files
recount  count all alerts and correct the statistics counters
prune    delete resolved alerts after the retention period, and expired idempotency keys
key      print a new random key for INTERNAL_SERVICE_KEY
"""
EPILOG = """\
Settings are read from the environment and from .env in the working directory; .env.example documents them.
Options take precedence over settings.
"""


def main() -> None:
    """Run a command. If it fails with a StartupError, report the error in one line and exit with code 1.

    The handler of SIGTERM ends the process at any time. Without a handler, the first process of a container would
    ignore the signal. The handler exits with code 143 for interrupted commands, and with code 0 for `serve`: uvicorn
    replaces the handler, completes its requests, restores the handler and raises the signal again. The handler does not
    raise an exception, as this could leave asyncio in an inconsistent state.
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
    with suppress(DatabaseNotReady):  # each worker retries the connection
        asyncio.run(_check_worker_startup(settings))
    supervisor = GracefulSupervisor(config, [config.bind_socket()])
    supervisor.run()
    if STARTUP_FAILURE_EXIT_CODE in [process.exitcode for process in supervisor.processes]:
        sys.exit(STARTUP_FAILURE_EXIT_CODE)


def _check_address(host: str, port: int) -> None:
    """Raise StartupError if the service cannot listen on the address, before the database is started or changed."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"AS_ALERTS_HOST, AS_ALERTS_PORT: cannot listen on {host}:{port}: {reason}") from None


async def _check_worker_startup(settings: Settings) -> None:
    """Raise an error that would occur in each worker, so that it is reported once.

    The check opens as many connections as all workers together.
    """
    create_app(settings)
    connections = settings.workers * (settings.pool_size + 1)  # each worker has one connection for health checks
    async with ready_database(structs.replace(settings, pool_size=connections - 1)):
        pass


@asynccontextmanager
async def _connect(settings: Settings) -> AsyncIterator[Connection]:
    async with database_dsn(settings) as dsn, connect(dsn, pooler=settings.pooler) as connection:
        yield connection


async def _migrate(settings: Settings) -> None:
    async with _connect(settings) as connection:
        applied = await migrate(connection)
    print("applied " + ", ".join(migration.name for migration in applied) if applied else "no pending migrations")


async def _check(settings: Settings) -> None:
    check_published_key(settings)
    create_app(settings)
    async with _connect(settings) as connection:
        if missing := await pending(connection):
            names = ", ".join(migration.name for migration in missing)
            raise StartupError(f"the schema lacks {names}: run `alerts-service migrate`, or start the service")
        count = await check_schema(connection, settings)
    print(f"settings, database, schema and {count} SQL files are valid")


async def _recount(settings: Settings) -> None:
    # The lock is necessary because two concurrent recounts would each apply the whole correction.
    async with _connect(settings) as connection, advisory_lock(connection):
        tenants = await connection.fetchval(load_queries()[RECOUNT.name].sql, column=1)
    print(f"tenants with corrected counts: {tenants}")


async def _prune(settings: Settings) -> None:
    days, queries, alerts, keys = _retention_days(settings), load_queries(), Pruned(), Pruned()
    async with _connect(settings) as connection:

        async def prune_keys(since: datetime | None) -> KeyBatch:
            (record,) = await connection.fetch(queries[PRUNE_KEYS.name].sql, [since])
            return PRUNE_KEYS.decode(record)

        async def prune_alerts(since: datetime | None) -> AlertBatch:
            (record,) = await connection.fetch(queries[PRUNE.name].sql, [days], [since], [None])
            return PRUNE.decode(record)

        try:
            await prune(prune_keys, keys)
            await prune(prune_alerts, alerts)
        finally:
            print(
                f"deleted alerts: {alerts.alerts}, deleted events: {alerts.events} "
                f"(retention in days: {days}, batches: {alerts.batches}, seconds: {alerts.seconds:.1f})\n"
                f"deleted expired idempotency keys: {keys.keys} (batches: {keys.batches}, seconds: {keys.seconds:.1f})"
            )


async def _prune_dry_run(settings: Settings) -> None:
    days = _retention_days(settings)
    async with _connect(settings) as connection:
        (record,) = await connection.fetch(load_queries()[COUNT.name].sql, [days])
    expired = COUNT.decode(record)
    print(
        f"alerts to delete: {expired.alerts}, events to delete: {expired.events} (retention in days: {days})\n"
        f"expired idempotency keys to delete: {expired.keys}"
    )


def _retention_days(settings: Settings) -> int:
    if settings.retention_days is None:
        raise StartupError("AS_ALERTS_RETENTION_DAYS: must be set for prune, unless --older-than DAYS is given")
    return settings.retention_days


COMMANDS = {"migrate": _migrate, "check": _check, "recount": _recount, "prune": _prune}
