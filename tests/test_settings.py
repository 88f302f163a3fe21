"""What the service reads from its surroundings."""

import re
from pathlib import Path

import msgspec
import pytest

from alerts_service.errors import StartupError
from alerts_service.settings import PUBLISHED_SERVICE_KEY, Settings, check_published_key, load_settings

ROOT = Path(__file__).parent.parent
NAMES = [field.encode_name for field in msgspec.structs.fields(Settings)]


@pytest.fixture(autouse=True)
def _bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_specifications_defaults() -> None:
    """With nothing set, the port, the environment and the key are the specification's."""
    settings = load_settings()
    assert (settings.port, settings.environment) == (3101, "development")
    assert settings.internal_service_key == "nmc-internal-services-auth-key-phase1"


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env` is read, the environment goes before it, and an empty value counts as not set."""
    Path(".env").write_text("AS_ALERTS_PORT=1\nDATABASE_URL=postgresql://u:p${X}@h/d\nAS_ALERTS_HOST=\n")
    assert load_settings().port == 1
    assert load_settings().database_url == "postgresql://u:p${X}@h/d"
    assert load_settings().host == "127.0.0.1"
    monkeypatch.setenv("AS_ALERTS_PORT", "2")
    assert load_settings().port == 2


def test_an_empty_variable_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment that is empty counts as not set, so what `.env` says stands."""
    Path(".env").write_text("AS_ALERTS_HOST=192.0.2.1\n")
    monkeypatch.setenv("AS_ALERTS_HOST", "")
    assert load_settings().host == "192.0.2.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AS_ALERTS_PORT", "http"),
        ("AS_ALERTS_PORT", "65536"),
        ("AS_ALERTS_PORT", "-1"),
        ("AS_ALERTS_WORKERS", "0"),
        ("AS_ALERTS_POOL_SIZE", "0"),
        ("AS_ALERTS_POOL_TIMEOUT", "0"),
        ("AS_ALERTS_STATEMENT_TIMEOUT", "soon"),
        ("AS_ALERTS_LOG_LEVEL", "LOUD"),
        ("ENVIRONMENT", "prod"),
        ("AS_ALERTS_POOL_TIMEOUT", "inf"),
        ("AS_ALERTS_STATEMENT_TIMEOUT", "0.001"),
        ("DATABASE_URL", "alerts"),
        ("INTERNAL_SERVICE_KEY", " key"),
        ("AS_ALERTS_REQUEST_TIMEOUT", "0"),
        ("AS_ALERTS_RETENTION_DAYS", "0"),
        ("AS_ALERTS_RETENTION_DAYS", "-1"),
        ("AS_ALERTS_RETENTION_DAYS", "1.5"),
        ("AS_ALERTS_RATE_LIMIT_TENANT", "0/minute"),
        ("AS_ALERTS_RATE_LIMIT_KEY", "10/day"),
        ("AS_ALERTS_CORS_ORIGINS", "*"),
        ("AS_ALERTS_CORS_ORIGINS", "https://a.example/path"),
        ("AS_ALERTS_ALLOWED_HOSTS", "https://alerts.example.com"),
        ("AS_ALERTS_ALLOWED_HOSTS", "alerts.example.com:3101"),
        ("AS_ALERTS_ALLOWED_HOSTS", "alerts.example.com,,b.example.com"),
        ("AS_ALERTS_ALLOWED_HOSTS", "alerts.*.com"),
        ("AS_ALERTS_ALLOWED_HOSTS", "*"),
        ("AS_ALERTS_ALLOWED_HOSTS", "a..b"),
        ("AS_ALERTS_ALLOW_PUBLISHED_KEY", "perhaps"),
        ("INTERNAL_SERVICE_KEY", "old, new"),
        ("INTERNAL_SERVICE_KEY", "old,,new"),
        ("INTERNAL_SERVICE_KEY", "old,"),
    ],
)
def test_a_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong value stops the start with one line that names the setting."""
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=f"^{name}: .+") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("missing", "key"),
    [
        ("DATABASE_URL", "secret"),
        ("INTERNAL_SERVICE_KEY", ""),
        ("INTERNAL_SERVICE_KEY", PUBLISHED_SERVICE_KEY),
        ("INTERNAL_SERVICE_KEY", f"new,{PUBLISHED_SERVICE_KEY}"),
    ],
)
def test_production_takes_no_defaults(monkeypatch: pytest.MonkeyPatch, missing: str, key: str) -> None:
    """Production needs a database and a key of its own, and says which of them is missing."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("DATABASE_URL", "" if missing == "DATABASE_URL" else "postgresql://h/d")
    monkeypatch.setenv("INTERNAL_SERVICE_KEY", key)
    with pytest.raises(StartupError, match=f"^{missing}: "):
        load_settings()


@pytest.mark.parametrize("key", [PUBLISHED_SERVICE_KEY, f"new,{PUBLISHED_SERVICE_KEY}"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "alerts.example.com", "localhost.example.com"])
def test_the_published_key_needs_a_loopback_address(host: str, key: str) -> None:
    with pytest.raises(StartupError, match=f"^INTERNAL_SERVICE_KEY: .* AS_ALERTS_HOST is {re.escape(host)};"):
        check_published_key(Settings(host=host, internal_service_key=key))
    check_published_key(Settings(host=host, internal_service_key=key, allow_published_key=True))
    check_published_key(Settings(host=host, internal_service_key="own"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost", "LOCALHOST"])
def test_the_published_key_is_accepted_on_loopback(host: str) -> None:
    check_published_key(Settings(host=host))


def test_secrets_are_not_shown() -> None:
    """Settings that end up in a log or a traceback show no value."""
    shown = repr(Settings(database_url="postgresql://u:geheim@h/d", internal_service_key="geheim"))
    assert "geheim" not in shown


def test_the_example_file_has_every_setting_with_its_default() -> None:
    """`.env.example` names every setting, and where it gives a value, it is the default."""
    lines = re.findall(r"^(#?)\s*([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert [name for _, name, _ in lines] == NAMES
    given = {name: value for commented, name, value in lines if not commented}
    assert msgspec.convert(given, Settings, strict=False) == Settings()


def test_the_readme_has_every_setting() -> None:
    """The README's table names every setting."""
    readme = (ROOT / "README.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in readme] == []


def test_compose_hands_on_every_setting() -> None:
    """`docker compose up` hands on every setting but those that its own containers decide."""
    decided = {"ENVIRONMENT", "AS_ALERTS_HOST", "AS_ALERTS_PORT", "AS_ALERTS_DATA_DIR", "AS_ALERTS_POOLER"}
    decided |= {"AS_ALERTS_ALLOW_PUBLISHED_KEY"}  # has no effect in production
    decided |= {"AS_ALERTS_SHUTDOWN_TIMEOUT"}  # which its stop_grace_period goes with
    lines = re.findall(r"^      ([A-Z_]+):(.*)$", (ROOT / "compose.yaml").read_text(), re.MULTILINE)
    given = [name for name, value in lines if value and not name.startswith("POSTGRES_")]
    handed_on = [name for name, value in lines if not value]
    assert given == ["DATABASE_URL", "INTERNAL_SERVICE_KEY"]
    assert sorted(handed_on + given) == sorted(set(NAMES) - decided)


def test_only_the_settings_read_the_environment() -> None:
    """No other module looks into the environment, but for the two that hand it on to the processes they start."""
    readers = {path.name for path in (ROOT / "alerts_service").rglob("*.py") if "os.environ" in path.read_text()}
    assert readers == {"settings.py", "handle.py", "supervisor.py"}
