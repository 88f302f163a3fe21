"""The command line: `alerts-service`, or `python -m alerts_service`."""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version

import uvicorn
from msgspec import structs

from alerts_service.app import create_app
from alerts_service.bootstrap import FAILED, connected, ready_database, server, verify
from alerts_service.db.migrations import alone, migrate, pending
from alerts_service.db.queries import load_queries
from alerts_service.errors import DatabaseNotReady, StartupError
from alerts_service.logging_config import configure_logging
from alerts_service.retention.job import COUNT, PRUNE, PRUNE_KEYS, AlertBatch, Due, KeyBatch, Pruned, prune
from alerts_service.server.graceful_shutdown import GracefulServer, GracefulSupervisor
from alerts_service.server.http_protocol import protocol_factory
from alerts_service.settings import Settings, check_published_key, load_settings
from alerts_service.stats.controller import RECOUNT

KEEP_ALIVE_SECONDS = 75  # longer than balancers keep theirs, so that they close first


def main() -> None:
    """Do what the command line says; a failure that we know is one line and exit code 1.

    SIGTERM ends it at any time, for a container's first process would not hear it otherwise: serving with 0 (uvicorn
    finishes its requests first and raises it again in the end), another command with 143, as what it was to do is not
    done. An exception instead, raised wherever the program is at that moment, would leave asyncio in an unknown state.
    """
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.command != "prune" and (arguments.dry_run or arguments.older_than is not None):
        parser.error("--dry-run and --older-than are options of prune")
    if arguments.command == "key":
        print(secrets.token_urlsafe(32))
        return
    done = 0 if arguments.command == "serve" else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: os._exit(done))
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
            asyncio.run(_count_due(settings))
        else:
            asyncio.run(COMMANDS[arguments.command](settings))
    except StartupError as error:
        sys.exit(f"alerts-service: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alerts-service",
        description="Keeps the alerts of NeverMissCall. Settings come from the environment and from .env.",
    )
    commands = (
        "serve (the default); migrate the schema and stop; check settings, database, schema and SQL files; recount the "
        "alerts and correct the counts of the statistics; prune alerts that were resolved long enough ago, and expired "
        "idempotency keys; print a fresh key for INTERNAL_SERVICE_KEY"
    )
    parser.add_argument("command", nargs="?", choices=("serve", *COMMANDS, "key"), default="serve", help=commands)
    parser.add_argument("--host", help="address to listen on (AS_ALERTS_HOST)")
    parser.add_argument("--port", help="port to listen on (AS_ALERTS_PORT)")
    parser.add_argument("--workers", help="processes that serve (AS_ALERTS_WORKERS)")
    parser.add_argument(
        "--older-than", metavar="DAYS", help="prune what was resolved so long ago (AS_ALERTS_RETENTION_DAYS)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count what prune would delete")
    parser.add_argument("--version", action="version", version=version("as-alerts-service"))
    return parser


def _serve(settings: Settings) -> None:
    check_published_key(settings)
    _try_to_listen(settings.host, settings.port)
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
        sys.exit(None if server.started else FAILED)
    with suppress(DatabaseNotReady):  # the workers wait
        asyncio.run(_rehearse(settings))
    supervisor = GracefulSupervisor(config, [config.bind_socket()])
    supervisor.run()
    if FAILED in [process.exitcode for process in supervisor.processes]:
        sys.exit(FAILED)


def _try_to_listen(host: str, port: int) -> None:
    """Fail before the database is touched where the address is not ours to listen on."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"AS_ALERTS_HOST, AS_ALERTS_PORT: cannot listen on {host}:{port}: {reason}") from None


async def _rehearse(settings: Settings) -> None:
    """Fail here, once and with exit code 1, on what would fail in a worker; they all need their connections at once."""
    create_app(settings)
    async with ready_database(structs.replace(settings, pool_size=settings.workers * (settings.pool_size + 1) - 1)):
        pass


async def _migrate(settings: Settings) -> None:
    async with server(settings) as dsn, connected(dsn, pooler=settings.pooler) as connection:
        applied = await migrate(connection)
    print("applied " + ", ".join(migration.name for migration in applied) if applied else "nothing to apply")


async def _check(settings: Settings) -> None:
    check_published_key(settings)
    create_app(settings)
    async with server(settings) as dsn, connected(dsn, pooler=settings.pooler) as connection:
        if due := await pending(connection):
            names = ", ".join(migration.name for migration in due)
            raise StartupError(f"the schema lacks {names}: run `alerts-service migrate`, or start the service")
        count = await verify(connection, settings)
    print(f"settings, database, schema and {count} SQL files are in order")


async def _recount(settings: Settings) -> None:
    # Two at a time would correct everything twice.
    async with server(settings) as dsn, connected(dsn, pooler=settings.pooler) as connection, alone(connection):
        tenants = await connection.fetchval(load_queries()[RECOUNT.name].sql, column=1)
    print(f"corrected the counts of {tenants} tenants")


async def _prune(settings: Settings) -> None:
    days, queries, alerts, keys = _retention(settings), load_queries(), Pruned(), Pruned()
    async with server(settings) as dsn, connected(dsn, pooler=settings.pooler) as connection:

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


async def _count_due(settings: Settings) -> None:
    days = _retention(settings)
    async with server(settings) as dsn, connected(dsn, pooler=settings.pooler) as connection:
        (record,) = await connection.fetch(load_queries()[COUNT.name].sql, [days])
    due = Due(*record[1:])
    print(
        f"would delete {due.alerts} alerts resolved more than {days} days ago and their {due.events} events\n"
        f"would delete {due.keys} expired idempotency keys"
    )


def _retention(settings: Settings) -> int:
    if settings.retention_days is None:
        raise StartupError("AS_ALERTS_RETENTION_DAYS: must be set to prune, or --older-than be given")
    return settings.retention_days


COMMANDS = {"migrate": _migrate, "check": _check, "recount": _recount, "prune": _prune}
