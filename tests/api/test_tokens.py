"""Tenants' tokens: who has none, or no good one, is told nothing."""

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from alerts_service.app import create_app
from alerts_service.errors import StartupError
from alerts_service.settings import Settings
from alerts_service.web.middleware import AlertsApp
from tests.support.api import assert_error, client_for
from tests.support.processes import run
from tests.support.tokens import JWT_SECRET, PRIVATE_KEYS, bearer_header, sign_token

pytestmark = pytest.mark.anyio

ALGORITHMS = ("HS256", *PRIVATE_KEYS)


def pem(private: Any) -> str:
    text: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def told(algorithm: str) -> dict[str, str]:
    """The setting that makes the service ask for tokens of this algorithm."""
    if algorithm == "HS256":
        return {"tenant_jwt_secret": JWT_SECRET}
    return {"tenant_jwt_public_key": pem(PRIVATE_KEYS[algorithm])}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def tampered(token: str) -> str:
    """The token of one tenant with the claims of another, under the old signature."""
    head, _, signature = token.split(".")
    return f"{head}.{part({'tenant_id': str(uuid4()), 'exp': int(time.time()) + 600})}.{signature}"


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def guarded(app: AlertsApp, settings: Settings, algorithm: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(create_app(replace(settings, **told(algorithm)), app.state.database)) as client:
        yield client


async def test_a_good_token(guarded: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    """With its token a tenant is served, as often as it asks, the scheme's letters large or small."""
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {sign_token(algorithm, tenant)}"}
        assert (await guarded.get(f"/stats/{tenant}", headers=headers)).status_code == 200


async def test_no_good_token(guarded: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    """A token that is missing, late, early, forged, unsigned, confused or incomplete is 401; the body is not read."""
    good, now = sign_token(algorithm, tenant), int(time.time())
    other = next(name for name in ALGORITHMS if name not in {algorithm, "HS256"})
    foreign = jwt.encode({"tenant_id": str(tenant), "exp": now + 600}, "x" * 40, algorithm="HS256")
    claims = {"tenant_id": str(tenant), "exp": now + 600}
    unsigned = jwt.PyJWS().encode(json.dumps(claims).encode(), "", algorithm="none")
    bad = [
        {},
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
        {"Authorization": "Bearer"},
        {b"Authorization": b"Bearer \xff\xfe"},
        *map(
            bearer_header,
            (
                "",
                "x",
                "a.b.c",
                good[:-4],
                good + "." + good,
                tampered(good),
                sign_token(other, tenant),
                foreign,
                unsigned,
                f"{part({'alg': 'none'})}.{part(claims)}.",
                f"{part({'alg': algorithm})}.{part(claims)}.",
                "W1tb" * 10_000 + ".e30.x",
                sign_token(algorithm, tenant, exp=now - 1),
                sign_token(algorithm, tenant, exp=None),
                sign_token(algorithm, tenant, nbf=now + 60),
                sign_token(algorithm, tenant, iat=now + 60),
                sign_token(algorithm, tenant, aud="another service"),
                sign_token(algorithm, tenant, tenant_id=None),
                sign_token(algorithm, tenant, tenant_id="everybody"),
                sign_token(algorithm, tenant, tenant_id=[str(tenant)]),
                sign_token(algorithm, tenant, more="x" * 9_000),
                *(
                    jwt.encode({**claims, name: None}, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=algorithm)
                    for name in claims
                ),
            ),
        ),
    ]
    for headers in bad:
        response = await guarded.post("/alerts", content=b"x" * (2 << 20), headers=headers)  # type: ignore[arg-type] # bytes are headers too
        assert_error(response, 401, "Unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "claim", [{"aud": None}, {"aud": []}, {"aud": ""}, {"aud": "another service"}, {"sub": "\ud800"}], ids=str
)
async def test_a_token_with_an_audience_or_a_broken_subject_is_refused(
    guarded: httpx.AsyncClient, algorithm: str, tenant: UUID, claim: dict[str, Any]
) -> None:
    claims = {"tenant_id": str(tenant), "exp": int(time.time()) + 600, **claim}
    signed = jwt.encode(claims, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=algorithm)
    assert_error(await guarded.get(f"/stats/{tenant}", headers=bearer_header(signed)), 401, "Unauthorized")


@pytest.mark.parametrize(("algorithm", "other"), [("HS256", "HS512"), ("RS256", "RS512"), ("RS256", "PS256")])
async def test_another_algorithm_of_the_same_key(
    guarded: httpx.AsyncClient, algorithm: str, other: str, tenant: UUID
) -> None:
    """A token signed with the right key, but by another algorithm that it is good for, is 401."""
    claims = {"tenant_id": str(tenant), "exp": int(time.time()) + 600}
    signed = jwt.encode(claims, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=other)
    assert_error(await guarded.get(f"/stats/{tenant}", headers=bearer_header(signed)), 401, "Unauthorized")


async def test_the_public_key_is_no_secret(app: AlertsApp, settings: Settings, tenant: UUID) -> None:
    """A token signed by HS256 with the public key, which everybody knows, is 401."""
    import hmac  # noqa: PLC0415 - PyJWT refuses to sign so, and an attacker does not

    async with client_for(create_app(replace(settings, **told("RS256")), app.state.database)) as client:
        signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'tenant_id': str(tenant), 'exp': 9999999999})}"
        for key in (pem(PRIVATE_KEYS["RS256"]), pem(PRIVATE_KEYS["RS256"]).strip()):
            mac = hmac.digest(key.encode(), signed.encode(), "sha256")
            forged = signed + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
            assert_error(await client.get(f"/stats/{tenant}", headers=bearer_header(forged)), 401, "Unauthorized")


@pytest.mark.parametrize("algorithm", ["HS256"])  # what is remembered has none
async def test_a_remembered_token_expires(guarded: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    """A token that was good a moment ago is 401 from its very expiry on."""
    expires = int(time.time() + 0.4) + 1  # whole seconds, as a token's are
    headers = bearer_header(sign_token(algorithm, tenant, exp=expires))
    assert (await guarded.get(f"/stats/{tenant}", headers=headers)).status_code == 200
    while time.time() < expires:
        time.sleep(0.05)  # noqa: ASYNC251 - nothing else is to happen
    assert_error(await guarded.get(f"/stats/{tenant}", headers=headers), 401, "Unauthorized")


async def test_recording_for_another_tenant(guarded: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    """A tenant records its own alerts; for another it is 403, whoever that is, and says why."""
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    own, other = bearer_header(sign_token(algorithm, tenant)), bearer_header(sign_token(algorithm, uuid4()))
    assert (await guarded.post("/alerts", json=body, headers=own)).status_code == 201
    assert_error(await guarded.post("/alerts", json=body, headers=other), 403, "Forbidden", "the token's own tenant")


def test_the_log_tells_whether_tokens_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """A start without tokens says so: a misspelled setting is noticed."""
    caplog.set_level("INFO")
    create_app(Settings(tenant_jwt_secret=JWT_SECRET))
    assert "tenant tokens are disabled" not in caplog.text
    create_app(Settings())
    assert "tenant tokens are disabled" in caplog.text


def test_the_document_asks_for_tokens_where_the_service_does() -> None:
    """The document has the bearer token, and its 401, exactly when and where the service asks for it."""
    asking = create_app(Settings(tenant_jwt_secret=JWT_SECRET)).openapi_schema.to_schema()
    silent = create_app(Settings()).openapi_schema.to_schema()
    assert "bearer" not in json.dumps(silent, default=str).lower()
    assert asking["components"]["securitySchemes"]["bearerAuth"]["scheme"] == "bearer"
    for path, item in asking["paths"].items():
        for operation in item.values():
            tenants = path.startswith(("/alerts", "/history", "/stats"))
            assert (operation.get("security") == [{"bearerAuth": []}]) == tenants
            if tenants:
                assert operation["responses"]["401"]["headers"].keys() == {"WWW-Authenticate"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tenant_jwt_secret": "geheim"}, "TENANT_JWT_SECRET: must have at least 32 bytes"),
        ({"tenant_jwt_secret": "geheim" * 5 + "x"}, "TENANT_JWT_SECRET: must have at least 32 bytes"),
        ({"tenant_jwt_secret": pem(PRIVATE_KEYS["RS256"])}, "TENANT_JWT_SECRET: must be a secret"),
        ({"tenant_jwt_public_key": "geheim"}, "TENANT_JWT_PUBLIC_KEY: must be a public key"),
        (
            {"tenant_jwt_secret": "geheim" * 6, "tenant_jwt_public_key": pem(PRIVATE_KEYS["RS256"])},
            "TENANT_JWT_SECRET, TENANT_JWT_PUBLIC_KEY: only one",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], complaint: str) -> None:
    """A secret or key that will not do is refused in one line that names the setting and not its value."""
    with pytest.raises(StartupError, match=f"^{complaint}") as refused:
        create_app(replace(Settings(), **settings))
    assert len(str(refused.value).splitlines()) == 1
    assert not any(value[:20] in str(refused.value) for value in settings.values())


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("check",)])
def test_a_weak_secret_stops_the_start(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A secret that will not do stops the start, and is what `check` finds, before the database is looked for."""
    ended = run(
        tmp_path,
        *arguments,
        DATABASE_URL="postgresql://127.0.0.1:1/d",
        INTERNAL_SERVICE_KEY="k",
        TENANT_JWT_SECRET="geheim",
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line == "alerts-service: TENANT_JWT_SECRET: must have at least 32 bytes"


@pytest.mark.parametrize("command", ["migrate", "recount"])
def test_a_weak_secret_is_nothing_to_a_command_that_serves_nobody(
    tmp_path: Path, empty_database: str, command: str
) -> None:
    """The schema can be brought up to date, and the counts corrected, without the tokens of those who are served."""
    for name in ("migrate", command):
        ended = run(tmp_path, name, DATABASE_URL=empty_database, TENANT_JWT_SECRET="geheim")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "private", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())], ids=["rsa", "ec"]
)
def test_a_key_that_is_too_weak_or_of_another_kind(private: Any) -> None:
    """An RSA key below 2048 bits, or a key of a kind that no algorithm here has, stops the start."""
    with pytest.raises(StartupError, match=r"^TENANT_JWT_PUBLIC_KEY: must be "):
        create_app(Settings(tenant_jwt_public_key=pem(private)))


def test_a_key_on_one_line() -> None:
    """A public key may be written on one line, a backslash and an n between its own."""
    create_app(Settings(tenant_jwt_public_key=pem(PRIVATE_KEYS["ES256"]).replace("\n", "\\n")))
