"""The OpenAPI document is complete, its examples are valid, and the service returns the documented errors."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jsonschema_rs
import msgspec
import pytest
from litestar import Litestar
from msgspec.structs import replace

from alerts_service import errors
from alerts_service.app import create_app
from alerts_service.errors import ApiError
from alerts_service.settings import Settings
from tests.support.api import SERVICE_KEY, UNKNOWN_ALERT_ID, client_for, create_alert, transition
from tests.support.processes import serving
from tests.support.tokens import JWT_SECRET, bearer_header, sign_token

JSON = "application/json"
EXAMPLE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
SECTIONS = [
    "Quick start",
    "Authentication",
    "Errors",
    "Pagination",
    "Filtering and search",
    "Deduplication",
    "Idempotency",
    "Concurrency control",
    "Rate limits",
    "Limits",
    "Browsers",
    "Request IDs",
]
OPEN = Settings(internal_service_key=SERVICE_KEY)
TOKENS = replace(OPEN, tenant_jwt_secret=JWT_SECRET)


@pytest.fixture(scope="module", params=[OPEN, TOKENS], ids=["open", "tokens"])
def document(request: pytest.FixtureRequest) -> Any:
    return json.loads(msgspec.json.encode(create_app(request.param).openapi_schema.to_schema()))


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation for path, item in document["paths"].items() for method, operation in item.items()
    }


def test_every_operation_has_a_name_a_summary_a_description_and_a_tag(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    assert len(operations) == 18
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        assert set(operation["tags"]) <= tags, name


def test_every_tag_server_and_security_scheme_is_described(document: dict[str, Any]) -> None:
    described = [*document["tags"], *document["servers"], *document["components"]["securitySchemes"].values()]
    assert [each for each in described if not each["description"]] == []


def test_every_parameter_is_described(operations: dict[str, dict[str, Any]]) -> None:
    assert [
        (name, parameter["name"])
        for name, operation in operations.items()
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ] == []


def test_every_response_and_header_is_described(operations: dict[str, dict[str, Any]]) -> None:
    missing = []
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            parts = {"response": response, **response.get("headers", {})}
            missing += [(name, status, part) for part, content in parts.items() if not content.get("description")]
    assert missing == []


def test_every_schema_and_property_is_described(document: dict[str, Any]) -> None:
    missing = []
    for name, schema in document["components"]["schemas"].items():
        parts = {"": schema, **schema["properties"]}
        missing += [(name, part) for part, content in parts.items() if not ({"description", "$ref"} & content.keys())]
    assert missing == []


def test_every_body_and_success_has_a_valid_example(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    missing = []
    for name, operation in operations.items():
        contents = {
            "body": operation.get("requestBody", {}),
            **{status: response for status, response in operation["responses"].items() if status < "300"},
        }
        for part, content in contents.items():
            if media_type := content.get("content", {}).get(JSON):
                examples = list(examples_of(media_type))
                missing += [] if examples else [(name, part)]
                for example in examples:
                    check_schema(example, media_type["schema"], document)
    assert missing == []


def test_every_error_has_a_valid_example(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    known = {(error.status, error.error) for error in api_errors()}
    for name, operation in operations.items():
        assert "400" not in operation["responses"], name
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            media_type = response["content"][JSON]
            assert media_type["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}
            examples = list(examples_of(media_type))
            assert examples, (name, status)
            for example in examples:
                check_schema(example, media_type["schema"], document)
                assert (int(status), example["error"]) in known, (name, status)


def examples_of(media_type: dict[str, Any]) -> Iterator[Any]:
    if "example" in media_type:
        yield media_type["example"]
    yield from (example["value"] for example in media_type.get("examples", {}).values())


def check_schema(example: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema_rs.Draft202012Validator(
        {**schema, "components": document["components"]}, validate_formats=True
    ).validate(example)


def api_errors(class_: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    for error in class_.__subclasses__():
        yield error
        yield from api_errors(error)


def test_every_exception_is_described_in_a_sentence() -> None:
    for error in api_errors():
        assert re.fullmatch(r"[A-Z][^\n]*\.", error.__doc__ or ""), error


def test_the_guide_has_its_sections(document: dict[str, Any]) -> None:
    assert re.findall(r"^## (.*)$", document["info"]["description"], re.MULTILINE) == SECTIONS


def test_the_guide_lists_every_error(document: dict[str, Any]) -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", document["info"]["description"], re.MULTILINE)
    assert {(str(error.status.value), error.error) for error in api_errors()} <= set(rows)


def test_no_paragraph_is_broken_into_lines(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """Swagger UI shows every line break of a paragraph."""
    texts = [document["info"]["description"], *(operation["description"] for operation in operations.values())]
    for text in texts:
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert re.findall(r"^[A-Za-z`].*\n[A-Za-z`].*$", prose, re.MULTILINE) == []


@pytest.mark.parametrize("tokens", [False, True])
def test_the_quick_start_works(settings: Settings, tmp_path: Path, *, tokens: bool) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    guide = create_app(TOKENS if tokens else OPEN).openapi_schema.info.description or ""
    example_tenant = "123e4567-e89b-12d3-a456-426614174000"
    tenant = str(uuid4())
    secret = JWT_SECRET if tokens else ""
    with serving(
        tmp_path, DATABASE_URL=str(settings.database_url), INTERNAL_SERVICE_KEY=SERVICE_KEY, TENANT_JWT_SECRET=secret
    ) as service:
        alert_id, outputs = EXAMPLE_ID, []
        for command in guide.partition("```bash\n")[2].partition("```")[0].split("\n\n"):
            script = command.replace("http://localhost:3101", service.url).replace(example_tenant, tenant)
            process = subprocess.run(
                ["bash", "-c", script.replace(EXAMPLE_ID, alert_id)],
                env={"PATH": "/usr/bin:/bin", "TOKEN": sign_token("HS256", UUID(tenant))},
                capture_output=True,
                check=True,
            )
            outputs.append(json.loads(process.stdout))
            alert_id = outputs[0]["id"]
    created, listed, acknowledged, counts = outputs
    assert listed == [created]
    assert acknowledged["status"] == "acknowledged"
    assert counts == {"total": 1, "triggered": 0, "acknowledged": 1, "resolved": 0}


def assert_as_documented(response: httpx.Response, error: type[ApiError]) -> None:
    """Compare a response with the documented example, but for quoted values, times and numbers."""
    assert (response.status_code, response.json()["error"]) == (error.status, error.error)
    assert _form(response.json()["detail"]) == _form(error.example_detail)


def _form(detail: str | None) -> str | None:
    return detail and re.sub(r'"[^"]*"|\d[\d:.T+-]*', "…", detail)


async def test_errors_of_transitions_are_as_documented(client: httpx.AsyncClient, tenant: UUID) -> None:
    assert_as_documented(await client.get(f"/alerts/{UNKNOWN_ALERT_ID}"), errors.AlertNotFound)
    alert = await create_alert(client, tenant)
    path = f"/alerts/{alert['id']}/resolve"
    stale = await client.put(path, headers={"If-Match": '"2026-01-05T09:30:00+00:00"'})
    assert_as_documented(stale, errors.PreconditionFailed)
    await transition(client, alert, "resolve", "first")
    assert_as_documented(await transition(client, alert, "resolve", "second"), errors.Conflict)


async def test_errors_of_bodies_are_as_documented(client: httpx.AsyncClient, tenant: UUID) -> None:
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    too_large = await client.post("/alerts", json={**body, "message": "m" * 1024 * 1024})
    assert_as_documented(too_large, errors.BodyTooLarge)
    form = await client.post("/alerts", data={"message": "m"})
    assert_as_documented(form, errors.UnsupportedMediaType)
    invalid = await client.post("/alerts", json={**body, "severity": "urgent"})
    assert_as_documented(invalid, errors.ValidationFailed)


async def test_errors_of_authentication_are_as_documented(
    app: Litestar, client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    assert_as_documented(await client.post("/internal/alerts", json=body), errors.Unauthorized)
    foreign = await client.post("/alerts", json=body, headers={"Sec-Fetch-Site": "cross-site"})
    assert_as_documented(foreign, errors.CrossSiteRequest)
    guarded = create_app(replace(settings, tenant_jwt_secret=JWT_SECRET), app.state.database)
    async with client_for(guarded) as other:
        assert_as_documented(await other.post("/alerts", json=body), errors.InvalidToken)
        not_own = await other.post("/alerts", json=body, headers=bearer_header(sign_token("HS256", uuid4())))
        assert_as_documented(not_own, errors.Forbidden)


async def test_errors_of_settings_are_as_documented(app: Litestar, settings: Settings, tenant: UUID) -> None:
    limited = replace(settings, allowed_hosts="alerts.test", rate_limit_tenant="1/minute", rate_limit_key="1/minute")
    async with client_for(create_app(limited, app.state.database)) as client:
        path = f"/stats/{tenant}"
        wrong_host = await client.get(path, headers={"Host": "attacker.example"})
        assert_as_documented(wrong_host, errors.InvalidHost)
        await client.get(path)
        assert_as_documented(await client.get(path), errors.TooManyRequests)


async def test_errors_of_the_database_are_as_documented(settings: Settings, tenant: UUID) -> None:
    unreachable = create_app(replace(settings, database_url="postgresql://127.0.0.1:1/none"))
    async with unreachable.lifespan(), client_for(unreachable) as client:
        assert_as_documented(await client.get(f"/stats/{tenant}"), errors.DatabaseUnreachable)
        assert_as_documented(await client.get("/health"), errors.Unhealthy)
    async with client_for(create_app(settings)) as client:  # whose database is None
        assert_as_documented(await client.get(f"/stats/{tenant}"), errors.UnexpectedError)
