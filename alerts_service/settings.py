"""Settings of the service, read once at start from the environment and from `.env`.

`.env.example` documents each of them.
"""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from dotenv import dotenv_values
from msgspec import Meta, Struct, field, inspect, structs

from alerts_service.errors import StartupError

PUBLISHED_SERVICE_KEY = "nmc-internal-services-auth-key-phase1"

# Origins as a browser sends them: without a path. `*` would accept every origin.
ORIGIN = r"https?://[\w.:\[\]-]+"
# A DNS name (RFC 1123). A leading `*.` stands for all its subdomains.
HOST_NAME = r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


def _between(low: float, high: float, unit: str = "") -> Meta:
    return Meta(ge=low, le=high, description=f"between {low} and {high}{unit}")


# Each description completes "SETTING: must be …", the message for a value that is not accepted.
Environment: TypeAlias = Annotated[
    Literal["development", "production"], Meta(description="one of development, production")
]
LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="one of DEBUG, INFO, WARNING, ERROR")
]
Flag: TypeAlias = Annotated[bool, Meta(description="true or false")]
Seconds: TypeAlias = Annotated[float, _between(0.01, 3600, " seconds")]
PostgresUrl: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^postgres(ql)?://",
        description="a PostgreSQL URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE",
    ),
]
Rate: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[1-9][0-9]{0,8}/(second|minute|hour)$",
        description="a rate such as 100/minute (per second, minute or hour)",
    ),
]
Origins: TypeAlias = Annotated[
    str,
    Meta(
        pattern=f"^{ORIGIN}(, *{ORIGIN})*$",
        description="comma-separated origins such as https://app.example.com, without a path",
    ),
]
HostNames: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"(?i)^ *{HOST_NAME} *(, *{HOST_NAME} *)*\Z",
        description="comma-separated host names such as alerts.example.com or *.example.com, "
        "without scheme, port or path",
    ),
]
# HTTP strips white space at both ends of a header value, so a key with white space would never match.
ServiceKeys: TypeAlias = Annotated[
    str,
    Meta(pattern=r"^[^\s,]+(,[^\s,]+)*$", description="one or more keys separated by commas, without white space"),
]


class Settings(Struct, frozen=True, kw_only=True):
    """All settings. Each field is encoded under the name of its environment variable."""

    environment: Environment = field(name="ENVIRONMENT", default="development")
    host: str = field(name="AS_ALERTS_HOST", default="127.0.0.1")
    port: Annotated[int, _between(0, 65535)] = field(name="AS_ALERTS_PORT", default=3101)
    workers: Annotated[int, _between(1, 64)] = field(name="AS_ALERTS_WORKERS", default=1)
    log_level: LogLevel = field(name="AS_ALERTS_LOG_LEVEL", default="INFO")
    database_url: PostgresUrl | None = field(name="DATABASE_URL", default=None)
    data_dir: Path | None = field(name="AS_ALERTS_DATA_DIR", default=None)
    pooler: Flag = field(name="AS_ALERTS_POOLER", default=False)
    pool_size: Annotated[int, _between(1, 1000)] = field(name="AS_ALERTS_POOL_SIZE", default=5)
    pool_timeout: Seconds = field(name="AS_ALERTS_POOL_TIMEOUT", default=2.0)
    statement_timeout: Seconds = field(name="AS_ALERTS_STATEMENT_TIMEOUT", default=5.0)
    request_timeout: Seconds = field(name="AS_ALERTS_REQUEST_TIMEOUT", default=10.0)
    send_buffer_mib: Annotated[int, _between(1, 65536, ", in whole MiB")] = field(
        name="AS_ALERTS_SEND_BUFFER_MIB", default=128
    )
    shutdown_timeout: Annotated[int, _between(1, 3600, ", in whole seconds")] = field(
        name="AS_ALERTS_SHUTDOWN_TIMEOUT", default=10
    )
    retention_days: Annotated[int, _between(1, 36500, ", in whole days")] | None = field(
        name="AS_ALERTS_RETENTION_DAYS", default=None
    )
    rate_limit_tenant: Rate | None = field(name="AS_ALERTS_RATE_LIMIT_TENANT", default=None)
    rate_limit_key: Rate | None = field(name="AS_ALERTS_RATE_LIMIT_KEY", default=None)
    cors_origins: Origins | None = field(name="AS_ALERTS_CORS_ORIGINS", default=None)
    allowed_hosts: HostNames | None = field(name="AS_ALERTS_ALLOWED_HOSTS", default=None)
    internal_service_key: ServiceKeys = field(name="INTERNAL_SERVICE_KEY", default=PUBLISHED_SERVICE_KEY)
    allow_published_key: Flag = field(name="AS_ALERTS_ALLOW_PUBLISHED_KEY", default=False)
    tenant_jwt_secret: str | None = field(name="TENANT_JWT_SECRET", default=None)
    tenant_jwt_public_key: str | None = field(name="TENANT_JWT_PUBLIC_KEY", default=None)

    @property
    def service_keys(self) -> list[str]:
        """The accepted service keys. There are several while a key is being replaced."""
        return self.internal_service_key.split(",")

    def __repr__(self) -> str:
        """Hide all values, as some of them are secrets."""
        return "Settings(…)"


def load_settings(**command_line: object) -> Settings:
    """Read the settings from the environment and from `.env` in the working directory.

    The environment takes precedence over `.env`; an empty value counts as not set. `command_line` takes precedence over
    both: it maps names of settings to values, None where the option was not given.

    Raises:
        StartupError: a value is not accepted, or production lacks a required setting. The message names the setting
            and what it accepts, and never contains the value.
    """
    try:
        sources = (dotenv_values(".env", interpolate=False), os.environ)
    except UnicodeDecodeError:
        raise StartupError(".env: must be encoded in UTF-8") from None
    values: dict[str, object] = {name: value for source in sources for name, value in source.items() if value}
    values.update((name, value) for name, value in command_line.items() if value is not None)
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=lambda type_, value: type_(value))
    except msgspec.ValidationError as error:
        name = str(error).rpartition("`$.")[2].rstrip("`")
        raise StartupError(f"{name}: must be {_accepted_values(name)}") from None
    if settings.environment == "production":
        _reject_development_defaults(settings)
    return settings


def _accepted_values(name: str) -> str:
    """Return the description in the annotation of a setting, which may be optional."""
    (annotation,) = [setting.type for setting in structs.fields(Settings) if setting.encode_name == name]
    type_ = inspect.type_info(annotation)
    for variant in type_.types if isinstance(type_, inspect.UnionType) else (type_,):
        if isinstance(variant, inspect.Metadata) and variant.extra_json_schema is not None:
            return str(variant.extra_json_schema["description"])
    raise AssertionError(name)


def _reject_development_defaults(settings: Settings) -> None:
    if settings.database_url is None:
        raise StartupError("DATABASE_URL: must be set when ENVIRONMENT=production")
    if PUBLISHED_SERVICE_KEY in settings.service_keys:
        raise StartupError(
            "INTERNAL_SERVICE_KEY: must be set when ENVIRONMENT=production, and must not contain the published "
            "default; `alerts-service key` prints a new key"
        )


def check_published_key(settings: Settings) -> None:
    """Reject the published service key on an address that is not loopback.

    Raises:
        StartupError: `AS_ALERTS_HOST` is not a loopback address, and `AS_ALERTS_ALLOW_PUBLISHED_KEY` is false.
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
