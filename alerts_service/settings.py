"""What the service reads from its surroundings, once, at start."""

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import Meta, Struct, field

from alerts_service.errors import StartupError

PUBLISHED_SERVICE_KEY = "nmc-internal-services-auth-key-phase1"

# HTTP takes blanks off both ends of a header, so a key that has them would never be met.
KEYS = r"^[^\s,]+(,[^\s,]+)*$"
# Each as a browser sends it: no path, and no `*`, for that would be everybody.
ORIGINS = r"^https?://[\w.:\[\]-]+(, *https?://[\w.:\[\]-]+)*$"
# A DNS name (RFC 1123), or `*.` before one for all its subdomains.
HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)
RATE = "^[1-9][0-9]{0,8}/(second|minute|hour)$"
Seconds = Annotated[float, Meta(ge=0.01, le=3600)]


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting, under the name it has in the environment and in `.env`."""

    environment: Literal["development", "production"] = field(name="ENVIRONMENT", default="development")
    host: str = field(name="AS_ALERTS_HOST", default="127.0.0.1")
    port: Annotated[int, Meta(ge=0, le=65535)] = field(name="AS_ALERTS_PORT", default=3101)
    workers: Annotated[int, Meta(ge=1, le=64)] = field(name="AS_ALERTS_WORKERS", default=1)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = field(name="AS_ALERTS_LOG_LEVEL", default="INFO")
    database_url: Annotated[str, Meta(pattern="^postgres(ql)?://")] | None = field(name="DATABASE_URL", default=None)
    data_dir: Path | None = field(name="AS_ALERTS_DATA_DIR", default=None)
    pooler: bool = field(name="AS_ALERTS_POOLER", default=False)
    pool_size: Annotated[int, Meta(ge=1, le=1000)] = field(name="AS_ALERTS_POOL_SIZE", default=5)
    pool_timeout: Seconds = field(name="AS_ALERTS_POOL_TIMEOUT", default=2.0)
    statement_timeout: Seconds = field(name="AS_ALERTS_STATEMENT_TIMEOUT", default=5.0)
    request_timeout: Seconds = field(name="AS_ALERTS_REQUEST_TIMEOUT", default=10.0)
    send_buffer_mib: Annotated[int, Meta(ge=1, le=65536)] = field(name="AS_ALERTS_SEND_BUFFER_MIB", default=128)
    shutdown_timeout: Annotated[int, Meta(ge=1, le=3600)] = field(name="AS_ALERTS_SHUTDOWN_TIMEOUT", default=10)
    retention_days: Annotated[int, Meta(ge=1, le=36500)] | None = field(name="AS_ALERTS_RETENTION_DAYS", default=None)
    rate_limit_tenant: Annotated[str, Meta(pattern=RATE)] | None = field(
        name="AS_ALERTS_RATE_LIMIT_TENANT", default=None
    )
    rate_limit_key: Annotated[str, Meta(pattern=RATE)] | None = field(name="AS_ALERTS_RATE_LIMIT_KEY", default=None)
    cors_origins: Annotated[str, Meta(pattern=ORIGINS)] | None = field(name="AS_ALERTS_CORS_ORIGINS", default=None)
    allowed_hosts: str | None = field(name="AS_ALERTS_ALLOWED_HOSTS", default=None)
    internal_service_key: Annotated[str, Meta(pattern=KEYS)] = field(
        name="INTERNAL_SERVICE_KEY", default=PUBLISHED_SERVICE_KEY
    )
    allow_published_key: bool = field(name="AS_ALERTS_ALLOW_PUBLISHED_KEY", default=False)
    tenant_jwt_secret: str | None = field(name="TENANT_JWT_SECRET", default=None)
    tenant_jwt_public_key: str | None = field(name="TENANT_JWT_PUBLIC_KEY", default=None)

    @property
    def service_keys(self) -> list[str]:
        """The keys that are good for internal calls: while one takes the place of another, both."""
        return self.internal_service_key.split(",")

    def __repr__(self) -> str:
        """Name no value: some of them are secrets."""
        return "Settings(…)"


def load_settings(**options: object) -> Settings:
    """Read the settings from the environment, and from `.env` in the working directory where the environment is silent.

    `options` are the command line's, by the names of the settings; they go before both, unless they are None.

    An empty value counts as not set.

    Raises:
        StartupError: a value is wrong, or production lacks what it must have. The message names the setting,
            never its value.
    """
    try:
        sources = (dotenv_values(".env", interpolate=False), os.environ)
    except UnicodeDecodeError:
        raise StartupError(".env: not UTF-8") from None
    given: dict[str, object] = {name: value for source in sources for name, value in source.items() if value}
    given.update((name, value) for name, value in options.items() if value is not None)
    try:
        settings = msgspec.convert(given, Settings, strict=False, dec_hook=lambda type_, value: type_(value))
    except msgspec.ValidationError as error:
        reason, _, name = str(error).partition(" - at `$.")
        raise StartupError(f"{name.rstrip('`')}: {reason}") from None
    if settings.allowed_hosts is not None:
        _check_hosts(settings.allowed_hosts)
    if settings.environment == "production":
        _refuse_development_defaults(settings)
    return settings


def _refuse_development_defaults(settings: Settings) -> None:
    if settings.database_url is None:
        raise StartupError("DATABASE_URL: must be set when ENVIRONMENT=production")
    if PUBLISHED_SERVICE_KEY in settings.service_keys:
        raise StartupError("INTERNAL_SERVICE_KEY: must be set, and not to its published default, in production")


def _check_hosts(hosts: str) -> None:
    if not all(HOST.fullmatch(name.strip(" ")) for name in hosts.split(",")):
        raise StartupError(
            "AS_ALERTS_ALLOWED_HOSTS: must be comma-separated host names such as alerts.example.com or *.example.com, "
            "without scheme, port or path"
        )


def check_published_key(settings: Settings) -> None:
    """Reject the published service key on an address that is not loopback.

    Raises:
        StartupError: the host is not a loopback address, and `AS_ALERTS_ALLOW_PUBLISHED_KEY` is not set.
    """
    if PUBLISHED_SERVICE_KEY not in settings.service_keys or settings.allow_published_key:
        return
    if not _is_loopback(settings.host):
        raise StartupError(
            "INTERNAL_SERVICE_KEY: the published default is accepted only on a loopback address, and AS_ALERTS_HOST "
            f"is {settings.host}; set a key (`alerts-service key` prints one), or AS_ALERTS_ALLOW_PUBLISHED_KEY=true"
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
