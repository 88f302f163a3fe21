"""Settings of the service, read once at startup from the environment and from `.env`.

`.env.example` documents each setting.
"""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from dotenv import dotenv_values
from msgspec import Meta, Struct, field, inspect, structs

from alerts_service.errors import StartupError

# The default service key. It is public, as .env.example contains it.
PUBLISHED_SERVICE_KEY = "nmc-internal-services-auth-key-phase1"

# An origin as browsers send it: without a path. `*` is rejected, as it would accept every origin.
ORIGIN = r"https?://[\w.:\[\]-]+"
# A DNS name (RFC 1123). A leading `*.` accepts all subdomains of the name.
HOST_NAME = r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"


WHOLE_NUMBER = ", a whole number"


def _between(low: float, high: float, unit: str = "") -> Meta:
    return Meta(ge=low, le=high, description=f"between {low} and {high}{unit}")


# Each description completes "SETTING: must be …", the error message for a value that is not accepted.
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
        pattern=r"^[1-9][0-9]{0,8}/(second|minute|hour)\Z",
        description="a rate such as 100/minute (per second, minute or hour)",
    ),
]
Origins: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^{ORIGIN}(, *{ORIGIN})*\Z",
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
# Servers remove white space at both ends of a header value (RFC 9110, section 5.5), and commas separate the keys.
ServiceKeys: TypeAlias = Annotated[
    str,
    Meta(pattern=r"^[^\s,]+(,[^\s,]+)*\Z", description="one or more keys separated by commas, without white space"),
]


class Settings(Struct, frozen=True, kw_only=True):
    """All settings. The encoded name of each field is the name of its environment variable."""

    environment: Environment = field(name="ENVIRONMENT", default="development")
    host: str = field(name="AS_ALERTS_HOST", default="127.0.0.1")
    port: Annotated[int, _between(0, 65535, WHOLE_NUMBER)] = field(name="AS_ALERTS_PORT", default=3101)
    workers: Annotated[int, _between(1, 64, WHOLE_NUMBER)] = field(name="AS_ALERTS_WORKERS", default=1)
    log_level: LogLevel = field(name="AS_ALERTS_LOG_LEVEL", default="INFO")
    database_url: PostgresUrl | None = field(name="DATABASE_URL", default=None)
    data_dir: Path | None = field(name="AS_ALERTS_DATA_DIR", default=None)
    pooler: Flag = field(name="AS_ALERTS_POOLER", default=False)
    pool_size: Annotated[int, _between(1, 1000, WHOLE_NUMBER)] = field(name="AS_ALERTS_POOL_SIZE", default=5)
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
        """The accepted service keys: usually one, and several while a key is being replaced."""
        return self.internal_service_key.split(",")

    def __repr__(self) -> str:
        """Hide all values, as some of them are secrets."""
        return "Settings(…)"


def load_settings(**command_line: object) -> Settings:
    """Read the settings from the environment and from `.env` in the working directory.

    The environment takes precedence over `.env`. An empty value counts as not set. `command_line` maps names of
    settings to values, or to None for omitted options, and takes precedence over both sources.

    Raises:
        StartupError: a value is not accepted, or production lacks a required setting. The message names the setting
            and the accepted values, and never contains the value itself.
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
    for setting in structs.fields(Settings):
        # Without `strict`, msgspec converts the text "null" to None.
        if setting.encode_name in values and getattr(settings, setting.name) is None:
            raise StartupError(f"{setting.encode_name}: must be {_accepted_values(setting.encode_name)}")
    if settings.environment == "production":
        _reject_development_defaults(settings)
    return settings


def _accepted_values(name: str) -> str:
    """Return the description in the annotation of a required or optional setting."""
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
            "INTERNAL_SERVICE_KEY: must be set when ENVIRONMENT=production, and must not contain the default service "
            "key; `alerts-service key` prints a new key"
        )


def check_published_key(settings: Settings) -> None:
    """Reject the default service key if the service listens on an address other than loopback.

    `AS_ALERTS_ALLOW_PUBLISHED_KEY=true` allows the default service key on every address.

    Raises:
        StartupError: the default service key is accepted on an address other than loopback.
    """
    if PUBLISHED_SERVICE_KEY not in settings.service_keys or settings.allow_published_key:
        return
    if not _is_loopback(settings.host):
        raise StartupError(
            "INTERNAL_SERVICE_KEY: the default service key is accepted only on a loopback address, and AS_ALERTS_HOST "
            f"is {settings.host}; set a key (`alerts-service key` prints a new key), or set "
            "AS_ALERTS_ALLOW_PUBLISHED_KEY=true"
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
