"""The OpenAPI document: it is valid and complete, and the service behaves as it describes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts_service.alerts.bulk_structs import BulkResults, BulkTransition, BulkTransitionResults
from alerts_service.alerts.structs import ALERT_EXAMPLE, Alert, CreateAlert
from alerts_service.settings import Settings
from tests.support.api import SERVICE_KEY
from tests.support.processes import ServiceProcess, serving
from tests.support.tokens import JWT_SECRET, sign_token

ROOT = Path(__file__).parents[2]
HOOKS = "tests.support.schemathesis_hooks"
CONFIG = f"""
warnings.fail-on = ["missing_auth"]
auth.openapi.serviceKey.api_key = "{SERVICE_KEY}"
"""
TOKEN_CONFIG = f'auth.openapi.bearerAuth.bearer = "{sign_token("HS256", ALERT_EXAMPLE.tenant_id)}"'


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    database = str(settings.database_url)
    with serving(tmp_path_factory.mktemp("cwd"), DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY) as process:
        yield process


@pytest.fixture(scope="module")
def document(service: ServiceProcess) -> dict[str, Any]:
    with service.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation for path, item in document["paths"].items() for method, operation in item.items()
    }


def run_schemathesis(service: ServiceProcess, cwd: Path, config: str, examples: int) -> None:
    """Send generated requests, alone and in sequences, and assert that every response is documented."""
    (cwd / "schemathesis.toml").write_text(config)
    options = ["--checks=all", "--seed=1", f"--max-examples={examples}", "--generation-database=none", "--no-color"]
    completed = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", *options, f"{service.url}/openapi.json"],
        cwd=cwd,
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_the_service_behaves_as_documented(service: ServiceProcess, tmp_path: Path) -> None:
    run_schemathesis(service, tmp_path, CONFIG, examples=5)


@pytest.mark.skipif("CLIENT_TESTS" not in os.environ, reason="CLIENT_TESTS is not set: runs Schemathesis once only")
def test_the_service_behaves_as_documented_when_it_requires_tokens(settings: Settings, tmp_path: Path) -> None:
    database = str(settings.database_url)
    with serving(
        tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, TENANT_JWT_SECRET=JWT_SECRET
    ) as service:
        run_schemathesis(service, tmp_path, CONFIG + TOKEN_CONFIG, examples=2)


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    import schemathesis  # noqa: PLC0415 - takes 0.4 s, which every collection would pay

    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()


def test_each_operation_shows_the_errors_that_it_may_return(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        details = {
            status: [example["detail"] or "" for example in examples_of(response)]
            for status, response in operation["responses"].items()
            if status >= "400"
        }
        health, internal, safe = "/health" in name, "/internal" in name, name.startswith("get ")
        assert all(("does not answer" in detail) == health for detail in details.get("503", ()))
        assert any("may still have been made" in detail for detail in details.get("503", ())) == (not safe)
        assert any("this service key" in detail for detail in details.get("429", ())) == internal
        assert any("this tenant" in detail for detail in details.get("429", ())) == (not health and not internal)


def examples_of(response: dict[str, Any]) -> list[dict[str, Any]]:
    body = response["content"]["application/json"]
    return [example["value"] for example in body["examples"].values()] if "examples" in body else [body["example"]]


def test_routes_without_input_document_no_validation_error(operations: dict[str, dict[str, Any]]) -> None:
    health_operations = [operation for name, operation in operations.items() if name.startswith("get /health")]
    statuses = [sorted(operation["responses"]) for operation in health_operations]
    assert statuses == [
        ["200", "503"],
        ["200", "503"],
        ["200"],
    ]


def test_schemas_state_optional_bodies_unknown_fields_and_required_fields(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    """Schemas of requests forbid unknown fields. Responses have all fields, except those of deduplicated alerts."""
    required = {name: op["requestBody"]["required"] for name, op in operations.items() if "requestBody" in op}
    assert {name for name, value in required.items() if not value} == {
        "put /alerts/{alert_id}/acknowledge",
        "put /alerts/{alert_id}/resolve",
    }
    assert len(required) == 10
    schemas = document["components"]["schemas"]
    request_schemas = {name for name, schema in schemas.items() if schema.get("additionalProperties") is False}
    assert request_schemas == {"CreateAlert", "BulkCreate", "AlertFilter", "BulkTransition", "TransitionRequest"}
    response_schemas = schemas.keys() - request_schemas - {"BulkResult"}  # a BulkResult has an alert or an error
    optional = {name: schemas[name]["properties"].keys() - schemas[name]["required"] for name in response_schemas}
    assert optional.pop("Alert") == {"dedup_key", "occurrences", "first_seen_at", "last_seen_at"}
    assert set().union(*optional.values()) == set()
    msgspec.convert(schemas["Alert"]["examples"][0], Alert)


def test_bulk_schemas_are_typed_and_have_valid_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    create, transition = schemas["BulkCreate"], schemas["BulkTransition"]
    assert create["properties"]["alerts"]["items"] == {"$ref": "#/components/schemas/CreateAlert"}
    assert transition["properties"]["ids"]["items"] == {"type": "string", "format": "uuid"}
    for example in create["examples"]:
        msgspec.convert(example["alerts"], list[CreateAlert])
    assert [example.keys() & {"ids", "filter"} for example in transition["examples"]] == [{"ids"}, {"filter"}]
    for struct in (BulkTransition, BulkResults, BulkTransitionResults):
        for example in schemas[struct.__name__]["examples"]:
            msgspec.json.decode(json.dumps(example), type=struct)


def test_the_filters_of_a_list_document_their_limits_and_values(operations: dict[str, dict[str, Any]]) -> None:
    filters = {parameter["name"]: parameter["schema"] for parameter in operations["get /alerts"]["parameters"]}
    assert filters["q"].items() >= {"type": "string", "minLength": 1, "maxLength": 200}.items()
    assert filters["rule_name"].items() >= {"type": "string", "minLength": 1, "maxLength": 255}.items()
    assert re.fullmatch(filters["status"]["pattern"], "triggered,resolved")
    assert not re.search(filters["status"]["pattern"], "triggered,open")


def test_only_internal_routes_require_the_service_key(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    secured = {name: operation["security"] for name, operation in operations.items() if "security" in operation}
    assert secured == {name: [{"serviceKey": []}] for name in operations if " /internal/" in name}
    scheme = document["components"]["securitySchemes"]["serviceKey"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "x-service-key")


def test_every_path_and_query_parameter_has_an_example(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "header":
                assert parameter.get("examples") or parameter["schema"]["examples"], (name, parameter["name"])
