"""Tenant tokens: verification, the settings of their keys, and the routes that require them."""

import asyncio
import base64
import hmac
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
from tests.support.api import alert_body, assert_error, client_for
from tests.support.processes import run
from tests.support.tokens import JWT_SECRET, PRIVATE_KEYS, bearer_header, sign_token

pytestmark = pytest.mark.anyio

ALGORITHMS = ("HS256", *PRIVATE_KEYS)


def public_pem(private_key: Any) -> str:
    pem: bytes = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def key_setting(algorithm: str) -> dict[str, str]:
    """Return the setting with which the service requires tokens of this algorithm."""
    if algorithm == "HS256":
        return {"tenant_jwt_secret": JWT_SECRET}
    return {"tenant_jwt_public_key": public_pem(PRIVATE_KEYS[algorithm])}


def encode_part(value: object) -> str:
    """Encode the header or the claims of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_other_tenant(token: str) -> str:
    """Replace the claims of a token by those of another tenant, and keep the signature."""
    header, _, signature = token.split(".")
    return f"{header}.{encode_part({'tenant_id': str(uuid4()), 'exp': int(time.time()) + 600})}.{signature}"


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def token_client(app: AlertsApp, settings: Settings, algorithm: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that requires tokens of this algorithm."""
    async with client_for(create_app(replace(settings, **key_setting(algorithm)), app.state.database)) as client:
        yield client


async def test_a_valid_token_is_accepted(token_client: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    """The scheme `Bearer` is not case-sensitive (RFC 9110, section 11.1)."""
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {sign_token(algorithm, tenant)}"}
        assert (await token_client.get(f"/stats/{tenant}", headers=headers)).status_code == 200


async def test_a_missing_or_invalid_token_is_401_before_the_body_is_read(
    token_client: httpx.AsyncClient, algorithm: str, tenant: UUID
) -> None:
    """The body exceeds the limit, so a service that read it would respond with 413."""
    valid, now = sign_token(algorithm, tenant), int(time.time())
    other_algorithm = next(name for name in ALGORITHMS if name not in {algorithm, "HS256"})
    claims = {"tenant_id": str(tenant), "exp": now + 600}
    other_secret = jwt.encode(claims, "x" * 40, algorithm="HS256")
    unsigned = jwt.PyJWS().encode(json.dumps(claims).encode(), "", algorithm="none")
    invalid_headers = [
        {},
        {"Authorization": valid},
        {"Authorization": f"Basic {valid}"},
        {"Authorization": "Bearer"},
        {b"Authorization": b"Bearer \xff\xfe"},
        *map(
            bearer_header,
            (
                "",
                "x",
                "a.b.c",
                valid[:-4],
                valid + "." + valid,
                with_other_tenant(valid),
                sign_token(other_algorithm, tenant),
                other_secret,
                unsigned,
                f"{encode_part({'alg': 'none'})}.{encode_part(claims)}.",
                f"{encode_part({'alg': algorithm})}.{encode_part(claims)}.",
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
    for headers in invalid_headers:
        response = await token_client.post("/alerts", content=b"x" * (2 << 20), headers=headers)  # type: ignore[arg-type] # one header is of type bytes
        assert_error(response, 401, "Unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "claim", [{"aud": None}, {"aud": []}, {"aud": ""}, {"aud": "another service"}, {"sub": "\ud800"}], ids=str
)
async def test_a_token_with_an_audience_or_a_malformed_subject_is_401(
    token_client: httpx.AsyncClient, algorithm: str, tenant: UUID, claim: dict[str, Any]
) -> None:
    claims = {"tenant_id": str(tenant), "exp": int(time.time()) + 600, **claim}
    signed = jwt.encode(claims, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=algorithm)
    assert_error(await token_client.get(f"/stats/{tenant}", headers=bearer_header(signed)), 401, "Unauthorized")


@pytest.mark.parametrize(("algorithm", "other"), [("HS256", "HS512"), ("RS256", "RS512"), ("RS256", "PS256")])
async def test_the_right_key_with_another_algorithm_is_401(
    token_client: httpx.AsyncClient, algorithm: str, other: str, tenant: UUID
) -> None:
    claims = {"tenant_id": str(tenant), "exp": int(time.time()) + 600}
    signed = jwt.encode(claims, PRIVATE_KEYS.get(algorithm, JWT_SECRET), algorithm=other)
    assert_error(await token_client.get(f"/stats/{tenant}", headers=bearer_header(signed)), 401, "Unauthorized")


async def test_a_token_signed_with_the_public_key_as_the_secret_is_401(
    app: AlertsApp, settings: Settings, tenant: UUID
) -> None:
    """The algorithm confusion attack (RFC 8725, section 2.1). PyJWT refuses to sign such a token, so hmac does."""
    async with client_for(create_app(replace(settings, **key_setting("RS256")), app.state.database)) as client:
        header, claims = {"alg": "HS256", "typ": "JWT"}, {"tenant_id": str(tenant), "exp": 9999999999}
        signed = f"{encode_part(header)}.{encode_part(claims)}"
        for key in (public_pem(PRIVATE_KEYS["RS256"]), public_pem(PRIVATE_KEYS["RS256"]).strip()):
            mac = hmac.digest(key.encode(), signed.encode(), "sha256")
            forged = signed + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
            assert_error(await client.get(f"/stats/{tenant}", headers=bearer_header(forged)), 401, "Unauthorized")


@pytest.mark.parametrize("algorithm", ["HS256"])  # the cache does not depend on the algorithm
async def test_a_cached_token_expires(token_client: httpx.AsyncClient, algorithm: str, tenant: UUID) -> None:
    expires = int(time.time() + 0.4) + 1  # `exp` has whole seconds
    headers = bearer_header(sign_token(algorithm, tenant, exp=expires))
    assert (await token_client.get(f"/stats/{tenant}", headers=headers)).status_code == 200
    await asyncio.sleep(expires - time.time() + 0.01)
    assert_error(await token_client.get(f"/stats/{tenant}", headers=headers), 401, "Unauthorized")


async def test_creating_an_alert_for_another_tenant_is_403(
    token_client: httpx.AsyncClient, algorithm: str, tenant: UUID
) -> None:
    body = alert_body(tenant)
    own, other = bearer_header(sign_token(algorithm, tenant)), bearer_header(sign_token(algorithm, uuid4()))
    assert (await token_client.post("/alerts", json=body, headers=own)).status_code == 201
    response = await token_client.post("/alerts", json=body, headers=other)
    assert_error(response, 403, "Forbidden", "the token's own tenant")


def test_a_start_without_tokens_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelled setting is noticed in the log."""
    caplog.set_level("INFO")
    create_app(Settings(tenant_jwt_secret=JWT_SECRET))
    assert "tenant tokens are disabled" not in caplog.text
    create_app(Settings())
    assert "tenant tokens are disabled" in caplog.text


def test_the_openapi_document_requires_tokens_where_the_service_does() -> None:
    with_tokens = create_app(Settings(tenant_jwt_secret=JWT_SECRET)).openapi_schema.to_schema()
    without_tokens = create_app(Settings()).openapi_schema.to_schema()
    assert "bearer" not in json.dumps(without_tokens, default=str).lower()
    assert with_tokens["components"]["securitySchemes"]["bearerAuth"]["scheme"] == "bearer"
    for path, item in with_tokens["paths"].items():
        for operation in item.values():
            requires_token = path.startswith(("/alerts", "/history", "/stats"))
            assert (operation.get("security") == [{"bearerAuth": []}]) == requires_token
            if requires_token:
                assert operation["responses"]["401"]["headers"].keys() == {"WWW-Authenticate"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tenant_jwt_secret": "geheim"}, "TENANT_JWT_SECRET: must have at least 32 bytes"),
        ({"tenant_jwt_secret": "geheim" * 5 + "x"}, "TENANT_JWT_SECRET: must have at least 32 bytes"),
        ({"tenant_jwt_secret": public_pem(PRIVATE_KEYS["RS256"])}, "TENANT_JWT_SECRET: must be a secret"),
        ({"tenant_jwt_public_key": "geheim"}, "TENANT_JWT_PUBLIC_KEY: must be a public key"),
        (
            {"tenant_jwt_secret": "geheim" * 6, "tenant_jwt_public_key": public_pem(PRIVATE_KEYS["RS256"])},
            "TENANT_JWT_SECRET, TENANT_JWT_PUBLIC_KEY: only one",
        ),
    ],
)
def test_an_invalid_key_setting_is_named_without_its_value(settings: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=f"^{message}") as raised:
        create_app(replace(Settings(), **settings))
    assert len(str(raised.value).splitlines()) == 1
    assert not any(value[:20] in str(raised.value) for value in settings.values())


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("check",)])
def test_a_short_secret_prevents_the_start_before_the_database_is_contacted(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(
        tmp_path,
        *arguments,
        DATABASE_URL="postgresql://127.0.0.1:1/d",
        INTERNAL_SERVICE_KEY="k",
        TENANT_JWT_SECRET="geheim",
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "alerts-service: TENANT_JWT_SECRET: must have at least 32 bytes"


@pytest.mark.parametrize("command", ["migrate", "recount"])
def test_commands_that_do_not_serve_accept_a_short_secret(tmp_path: Path, empty_database: str, command: str) -> None:
    """`migrate` and `recount` do not need tokens."""
    for name in ("migrate", command):
        result = run(tmp_path, name, DATABASE_URL=empty_database, TENANT_JWT_SECRET="geheim")
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "private_key",
    [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA, 1024 bits", "EC, P-384"],
)
def test_a_public_key_of_an_unsupported_kind_prevents_the_start(private_key: Any) -> None:
    with pytest.raises(StartupError, match=r"^TENANT_JWT_PUBLIC_KEY: must be "):
        create_app(Settings(tenant_jwt_public_key=public_pem(private_key)))


def test_a_public_key_may_be_written_on_one_line() -> None:
    r"""Each line break is written as `\n`, as in environment files."""
    create_app(Settings(tenant_jwt_public_key=public_pem(PRIVATE_KEYS["ES256"]).replace("\n", "\\n")))
