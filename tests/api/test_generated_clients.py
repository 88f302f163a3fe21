"""Clients generated from the OpenAPI document.

Generating them is slow and uses the network, so these tests run only with CLIENT_TESTS=1.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.support.processes import ServiceProcess, serving

pytestmark = pytest.mark.skipif(os.environ.get("CLIENT_TESTS") != "1", reason="CLIENT_TESTS=1 is not set")

PYTHON_PROGRAM = """\
import sys
from uuid import uuid4

from alerts_client import Client
from alerts_client.api.alerts import acknowledge_alert, create_alert, get_alert, list_alerts
from alerts_client.api.bulk import create_alerts, resolve_alerts
from alerts_client.models import Alert, AlertStatus, BulkCreate, BulkTransition, CreateAlert, ErrorResponse
from alerts_client.models import TransitionRequest

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
tenant = uuid4()

alert = create_alert.sync(client=client, body=CreateAlert(tenant_id=tenant, rule_name="missed_call", message="Call"))
assert isinstance(alert, Alert), alert
assert list_alerts.sync(client=client, tenant_id=tenant) == [alert]

acknowledged = acknowledge_alert.sync(alert.id, client=client, body=TransitionRequest(note="On it"))
assert isinstance(acknowledged, Alert), acknowledged
assert (acknowledged.status, acknowledged.acknowledgment_note) == (AlertStatus.ACKNOWLEDGED, "On it")
assert acknowledge_alert.sync(alert.id, client=client) == acknowledged

new = CreateAlert(tenant_id=tenant, rule_name="missed_call", message="Call")
bulk = create_alerts.sync(client=client, body=BulkCreate(alerts=[new, new]))
assert [result.status for result in bulk.results] == [201, 201]
bulk = resolve_alerts.sync(client=client, body=BulkTransition(ids=[result.alert.id for result in bulk.results]))
assert [result.alert.status for result in bulk.results] == [AlertStatus.RESOLVED] * 2

assert get_alert.sync(uuid4(), client=client) == ErrorResponse(error="Alert not found", detail=None)
"""

TYPESCRIPT_PROGRAM = """\
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

function defined<T>(value: T | undefined, error: unknown): T {
  if (value === undefined) throw new Error(JSON.stringify(error));
  return value;
}

const client = createClient<paths>({ baseUrl: process.argv[2] });
const tenant_id = crypto.randomUUID();
const body: components["schemas"]["CreateAlert"] = {
  tenant_id,
  rule_name: "missed_call",
  message: "Call back",
  severity: "high",
};

const created = await client.POST("/alerts", { body });
const alert = defined(created.data, created.error);

const listed = await client.GET("/alerts", { params: { query: { tenant_id, severity: "high" } } });
const ids: string[] = defined(listed.data, listed.error).map(({ id }) => id);
if (ids.join() !== alert.id) throw new Error(`listed ${ids}`);

const path = { alert_id: alert.id };
const acknowledged = await client.PUT("/alerts/{alert_id}/acknowledge", { params: { path }, body: { note: "On it" } });
const status: "triggered" | "acknowledged" | "resolved" = defined(acknowledged.data, acknowledged.error).status;
if (status !== "acknowledged") throw new Error(status);

const bulk = await client.POST("/alerts/bulk", { body: { alerts: [body, body] } });
const created_in_bulk = defined(bulk.data, bulk.error);
if (typeof created_in_bulk === "string") throw new Error(created_in_bulk);
const items = created_in_bulk.results.map((result) => defined(result.alert, result.error).id);
const resolved = await client.POST("/alerts/bulk/resolve", { body: { ids: items, dry_run: false } });
const statuses = defined(resolved.data, resolved.error).results.map((result) => result.status);
if (statuses.join() !== "200,200") throw new Error(`resolved ${statuses}`);

const missing = await client.GET("/alerts/{alert_id}", { params: { path: { alert_id: crypto.randomUUID() } } });
const detail: string | null = defined(missing.error, missing.data).detail;
if (missing.response.status !== 404 || detail !== null) throw new Error(`${missing.response.status} ${detail}`);
"""


@pytest.fixture(scope="module")
def service(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with serving(tmp_path_factory.mktemp("cwd"), AS_ALERTS_DATA_DIR=str(data_dir / "clients")) as process:
        yield process


@pytest.fixture
def folder(service: ServiceProcess, tmp_path: Path) -> Path:
    """Return a folder that contains the document."""
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{service.url}/openapi.json").content)
    return tmp_path


def run(folder: Path, *command: str) -> None:
    """Run a command, and assert that it succeeds. Its PATH contains the scripts of the virtual environment."""
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
    completed = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_a_python_client_is_generated_without_warnings_and_works(service: ServiceProcess, folder: Path) -> None:
    if find_spec("openapi_python_client") is None:
        pytest.skip("openapi-python-client is not installed: pip install 'as-alerts-service[dev]'")
    # openapi-python-client does not support NDJSON.
    (folder / "config.json").write_text(
        '{"content_type_overrides": {"application/x-ndjson": "application/octet-stream"}}'
    )
    generate = (
        "generate",
        "--config=config.json",
        "--path=openapi.json",
        "--output-path=alerts_client",
        "--meta=none",
        "--fail-on-warning",
    )
    run(folder, sys.executable, "-m", "openapi_python_client", *generate)
    run(folder, sys.executable, "-c", PYTHON_PROGRAM, service.url)


def test_a_typescript_client_compiles_in_strict_mode_and_works(service: ServiceProcess, folder: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is not installed")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "program.ts").write_text(TYPESCRIPT_PROGRAM)
    run(folder, "npm", "install", "--no-audit", "--no-fund", "openapi-typescript@7", "openapi-fetch@0", "typescript@5")
    run(folder, "node_modules/.bin/openapi-typescript", "openapi.json", "--output=schema.d.ts")
    run(folder, "node_modules/.bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022", "program.ts")
    run(folder, "node", "program.js", service.url)
