"""Settings: sources, validation, and the places that document them."""

import re
from pathlib import Path

import msgspec
import pytest

from alerts_service.errors import StartupError
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings, check_published_key, load_settings

ROOT = Path(__file__).parent.parent
NAMES = [field.encode_name for field in msgspec.structs.fields(Settings)]
ACCEPT_ANY_TEXT = {"AS_ALERTS_HOST", "AS_ALERTS_DATA_DIR", "TENANT_JWT_SECRET", "TENANT_JWT_PUBLIC_KEY"}

SECONDS = "must be between 0.01 and 3600 seconds"
DAYS = "must be between 1 and 36500, in whole days"
RATE = "must be a rate such as 100/minute (per second, minute or hour)"
URL = "must be a PostgreSQL URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE"
KEYS = "must be one or more keys separated by commas, without white space"
ORIGINS = "must be comma-separated origins such as https://app.example.com, without a path"
HOSTS = "must be comma-separated host names such as alerts.example.com or *.example.com, without scheme, port or path"
REJECTED = [
    ("ENVIRONMENT", "prod", "must be one of development, production"),
    ("AS_ALERTS_PORT", "http", "must be between 0 and 65535, a whole number"),
    ("AS_ALERTS_PORT", "65536", "must be between 0 and 65535, a whole number"),
    ("AS_ALERTS_PORT", "-1", "must be between 0 and 65535, a whole number"),
    ("AS_ALERTS_PORT", "3.5", "must be between 0 and 65535, a whole number"),
    ("AS_ALERTS_WORKERS", "0", "must be between 1 and 64, a whole number"),
    ("AS_ALERTS_LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR"),
    ("DATABASE_URL", "alerts", URL),
    ("DATABASE_URL", "mysql://user:secret@h/d", URL),
    ("AS_ALERTS_POOLER", "perhaps", "must be true or false"),
    ("AS_ALERTS_POOL_SIZE", "0", "must be between 1 and 1000, a whole number"),
    ("AS_ALERTS_POOL_TIMEOUT", "0", SECONDS),
    ("AS_ALERTS_POOL_TIMEOUT", "inf", SECONDS),
    ("AS_ALERTS_STATEMENT_TIMEOUT", "soon", SECONDS),
    ("AS_ALERTS_STATEMENT_TIMEOUT", "0.001", SECONDS),
    ("AS_ALERTS_REQUEST_TIMEOUT", "0", SECONDS),
    ("AS_ALERTS_SEND_BUFFER_MIB", "0", "must be between 1 and 65536, in whole MiB"),
    ("AS_ALERTS_SHUTDOWN_TIMEOUT", "0.5", "must be between 1 and 3600, in whole seconds"),
    ("AS_ALERTS_RETENTION_DAYS", "0", DAYS),
    ("AS_ALERTS_RETENTION_DAYS", "-1", DAYS),
    ("AS_ALERTS_RETENTION_DAYS", "1.5", DAYS),
    ("AS_ALERTS_RETENTION_DAYS", "null", DAYS),
    ("AS_ALERTS_RATE_LIMIT_TENANT", "0/minute", RATE),
    ("AS_ALERTS_RATE_LIMIT_TENANT", "10/minute\n", RATE),
    ("AS_ALERTS_RATE_LIMIT_KEY", "10/day", RATE),
    ("AS_ALERTS_CORS_ORIGINS", "*", ORIGINS),
    ("AS_ALERTS_CORS_ORIGINS", "https://a.example/path", ORIGINS),
    ("AS_ALERTS_CORS_ORIGINS", "https://a.example\n", ORIGINS),
    ("AS_ALERTS_ALLOWED_HOSTS", "https://alerts.example.com", HOSTS),
    ("AS_ALERTS_ALLOWED_HOSTS", "alerts.example.com:3101", HOSTS),
    ("AS_ALERTS_ALLOWED_HOSTS", "alerts.example.com,,b.example.com", HOSTS),
    ("AS_ALERTS_ALLOWED_HOSTS", "alerts.*.com", HOSTS),
    ("AS_ALERTS_ALLOWED_HOSTS", "*", HOSTS),
    ("AS_ALERTS_ALLOWED_HOSTS", "a..b", HOSTS),
    ("INTERNAL_SERVICE_KEY", " key", KEYS),
    ("INTERNAL_SERVICE_KEY", "old, new", KEYS),
    ("INTERNAL_SERVICE_KEY", "old,,new", KEYS),
    ("INTERNAL_SERVICE_KEY", "old,", KEYS),
    ("INTERNAL_SERVICE_KEY", "key\n", KEYS),
    ("AS_ALERTS_ALLOW_PUBLISHED_KEY", "perhaps", "must be true or false"),
]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_specification() -> None:
    settings = load_settings()
    assert (settings.port, settings.environment) == (3101, "development")
    assert settings.internal_service_key == "nmc-internal-services-auth-key-phase1"


def test_the_environment_takes_precedence_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("AS_ALERTS_PORT=1\n")
    assert load_settings().port == 1
    monkeypatch.setenv("AS_ALERTS_PORT", "2")
    assert load_settings().port == 2


def test_the_command_line_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AS_ALERTS_PORT", "2")
    assert load_settings(AS_ALERTS_PORT="3").port == 3
    assert load_settings(AS_ALERTS_PORT=None).port == 2


def test_values_of_the_env_file_are_not_interpolated() -> None:
    Path(".env").write_text("DATABASE_URL=postgresql://u:p${X}@h/d\n")
    assert load_settings().database_url == "postgresql://u:p${X}@h/d"


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("AS_ALERTS_HOST=\nAS_ALERTS_PORT=1\n")
    monkeypatch.setenv("AS_ALERTS_PORT", "")
    assert (load_settings().host, load_settings().port) == ("127.0.0.1", 1)


def test_an_env_file_in_another_encoding_is_rejected() -> None:
    Path(".env").write_bytes("AS_ALERTS_HOST=ä\n".encode("latin-1"))
    with pytest.raises(StartupError, match=r"^\.env: must be encoded in UTF-8$"):
        load_settings()


@pytest.mark.parametrize(("name", "value", "message"), REJECTED)
def test_a_rejected_value_is_reported_with_the_setting_and_what_it_accepts(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as rejected:
        load_settings()
    assert str(rejected.value) == f"{name}: {message}"


def test_every_setting_has_a_rejected_value_unless_it_accepts_any_text() -> None:
    assert {name for name, _, _ in REJECTED} == set(NAMES) - ACCEPT_ANY_TEXT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://h/d"),
        ("AS_ALERTS_RATE_LIMIT_KEY", "1/hour"),
        ("AS_ALERTS_CORS_ORIGINS", "https://a.example, http://localhost:8080"),
        ("AS_ALERTS_ALLOWED_HOSTS", "Alerts.Example.com , *.example.org"),
        ("INTERNAL_SERVICE_KEY", "old,new"),
        ("AS_ALERTS_POOLER", "1"),
    ],
)
def test_a_correct_value_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    load_settings()


@pytest.mark.parametrize(
    ("missing", "key"),
    [
        ("DATABASE_URL", "secret"),
        ("INTERNAL_SERVICE_KEY", ""),
        ("INTERNAL_SERVICE_KEY", PUBLISHED_SERVICE_KEY),
        ("INTERNAL_SERVICE_KEY", f"new,{PUBLISHED_SERVICE_KEY}"),
    ],
)
def test_production_requires_a_database_and_an_own_key(monkeypatch: pytest.MonkeyPatch, missing: str, key: str) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("DATABASE_URL", "" if missing == "DATABASE_URL" else "postgresql://h/d")
    monkeypatch.setenv("INTERNAL_SERVICE_KEY", key)
    with pytest.raises(StartupError, match=f"^{missing}: must be set when ENVIRONMENT=production"):
        load_settings()


@pytest.mark.parametrize("key", [PUBLISHED_SERVICE_KEY, f"new,{PUBLISHED_SERVICE_KEY}"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "alerts.example.com", "localhost.example.com"])
def test_the_published_key_requires_a_loopback_address(host: str, key: str) -> None:
    with pytest.raises(StartupError, match=f"^INTERNAL_SERVICE_KEY: .* AS_ALERTS_HOST is {re.escape(host)};"):
        check_published_key(Settings(host=host, internal_service_key=key))
    check_published_key(Settings(host=host, internal_service_key=key, allow_published_key=True))
    check_published_key(Settings(host=host, internal_service_key="own"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost", "LOCALHOST"])
def test_the_published_key_is_accepted_on_loopback(host: str) -> None:
    check_published_key(Settings(host=host))


def test_the_representation_of_settings_hides_secrets() -> None:
    shown = repr(Settings(database_url="postgresql://u:secret@h/d", internal_service_key="secret"))
    assert "secret" not in shown


def test_the_example_file_documents_every_setting_with_its_default() -> None:
    lines = re.findall(r"^(#?)\s*([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert [name for _, name, _ in lines] == NAMES
    defaults = {name: value for commented, name, value in lines if not commented}
    assert msgspec.convert(defaults, Settings, strict=False) == Settings()


def test_the_readme_names_only_existing_settings() -> None:
    compose = re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text())
    named = re.findall(r"\bAS_ALERTS_[A-Z_]+|\bTENANT_JWT_[A-Z_]+", (ROOT / "README.md").read_text())
    assert sorted(set(named) - set(NAMES) - set(compose)) == []


def test_compose_passes_on_every_setting_except_those_it_sets_itself() -> None:
    set_by_compose = {"ENVIRONMENT", "AS_ALERTS_HOST", "AS_ALERTS_PORT", "AS_ALERTS_DATA_DIR", "AS_ALERTS_POOLER"}
    set_by_compose |= {"AS_ALERTS_ALLOW_PUBLISHED_KEY"}  # has no effect in production
    set_by_compose |= {"AS_ALERTS_SHUTDOWN_TIMEOUT"}  # must stay below stop_grace_period
    lines = re.findall(r"^      ([A-Z_]+):(.*)$", (ROOT / "compose.yaml").read_text(), re.MULTILINE)
    with_value = [name for name, value in lines if value and not name.startswith("POSTGRES_")]
    passed_on = [name for name, value in lines if not value]
    assert with_value == ["DATABASE_URL", "INTERNAL_SERVICE_KEY"]
    assert sorted(passed_on + with_value) == sorted(set(NAMES) - set_by_compose)


def test_only_settings_and_embedded_read_the_environment() -> None:
    """`embedded` passes the environment on to the processes that it starts."""
    readers = {path.name for path in (ROOT / "alerts_service").rglob("*.py") if "os.environ" in path.read_text()}
    assert readers == {"settings.py", "handle.py", "processes.py"}
