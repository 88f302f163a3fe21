"""Swagger UI in a browser, and requests of web pages of other origins.

playwright is imported by the tests that use it: the import takes 0.2 s, which every collection would pay.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from alerts_service.alerts.structs import ALERT_EXAMPLE
from alerts_service.settings import Settings
from tests.support.api import SERVICE_KEY, alert_body
from tests.support.processes import ServiceProcess, serving
from tests.support.tokens import JWT_SECRET, sign_token

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.skipif(
    find_spec("playwright") is None, reason="playwright is not installed: pip install 'as-alerts-service[dev]'"
)

BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    database = str(settings.database_url)
    with serving(tmp_path_factory.mktemp("cwd"), DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - see the docstring of the module

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=BROWSER_OPTIONS) as browser,
    ):
        yield browser


class Documentation:
    """The page `/docs` in a browser, with the requests and the error messages of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(f"{message.type}: {message.text}"))
        response = page.goto(f"{url}/docs")
        self.policy = response.headers.get("content-security-policy", "") if response else ""

    def operation(self, name: str) -> Locator:
        """Expand an operation, and return its element."""
        block = self.page.locator(f"[id$='-{name}'].opblock")
        block.locator(".opblock-summary-control").click()
        return block

    def execute(self, block: Locator) -> str:
        """Send the request of an expanded operation, and return the status of the response."""
        block.get_by_role("button", name="Execute").click()
        return block.locator(".live-responses-table tbody .response-col_status").inner_text().split()[0]

    def authorize(self, scheme: str, value: str) -> None:
        """Enter a key or a token."""
        self.page.get_by_role("button", name="Authorize").first.click()
        form = self.page.locator(".auth-container", has_text=scheme)
        form.locator("input").fill(value)
        form.get_by_role("button", name="Apply credentials").click()
        form.get_by_role("button", name="Close").click()


@pytest.fixture
def documentation(browser: Browser, service: ServiceProcess) -> Iterator[Documentation]:
    with browser.new_page() as page:
        yield Documentation(page, service.url)


def test_every_operation_is_shown_with_a_summary_and_without_errors(documentation: Documentation) -> None:
    from playwright.sync_api import expect  # noqa: PLC0415 - see the docstring of the module

    expect(documentation.page.locator(".opblock")).to_have_count(18)
    expect(documentation.page.locator(".opblock-summary-description:empty")).to_have_count(0)
    assert documentation.errors == []


def test_the_content_security_policy_blocks_inline_scripts(documentation: Documentation) -> None:
    assert "unsafe" not in documentation.policy
    assert "frame-ancestors 'none'" in documentation.policy
    documentation.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 1'}))"
    )
    assert documentation.page.evaluate("typeof hacked") == "undefined"
    assert len(documentation.errors) == 1
    assert "Content Security Policy" in documentation.errors[0]


def test_all_files_are_loaded_from_the_service(documentation: Documentation) -> None:
    documentation.page.wait_for_load_state("networkidle")
    assert f"{documentation.url}/docs/static/swagger-ui-bundle.js" in documentation.requests
    assert [url for url in documentation.requests if not url.startswith(f"{documentation.url}/")] == []


def test_an_alert_can_be_created_with_the_unchanged_example(documentation: Documentation) -> None:
    block = documentation.operation("create_alert")
    block.get_by_role("button", name="Try it out").click()
    example = json.loads(block.locator("textarea").input_value())
    assert example.keys() == {"tenant_id", "rule_name", "message", "severity", "dedup_key"}
    assert documentation.execute(block) in {"200", "201"}
    assert documentation.errors == []


def test_an_internal_operation_succeeds_after_the_service_key_is_entered(documentation: Documentation) -> None:
    block = documentation.operation("create_internal_alert")
    block.get_by_role("button", name="Try it out").click()
    assert documentation.execute(block) == "401"
    block.get_by_role("button", name="Clear").click()
    documentation.authorize("serviceKey", SERVICE_KEY)
    assert documentation.execute(block) in {"200", "201"}


def test_a_list_succeeds_after_a_tenant_token_is_entered(browser: Browser, settings: Settings, tmp_path: Path) -> None:
    """The service requires tokens."""
    database = str(settings.database_url)
    with (
        serving(
            tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, TENANT_JWT_SECRET=JWT_SECRET
        ) as service,
        browser.new_page() as page,
    ):
        documentation = Documentation(page, service.url)
        block = documentation.operation("list_alerts")
        block.get_by_role("button", name="Try it out").click()
        block.locator("tr[data-param-name=tenant_id] input").fill(str(ALERT_EXAMPLE.tenant_id))
        assert documentation.execute(block) == "401"
        block.get_by_role("button", name="Clear").click()
        documentation.authorize("bearerAuth", sign_token("HS256", ALERT_EXAMPLE.tenant_id))
        assert documentation.execute(block) == "200"


class EmptyPage(BaseHTTPRequestHandler):
    """Responds to every GET request with an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """Serve an empty page on another port, which makes it another origin, and return the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


# Every request that the Fetch standard sends to another origin without a preflight request, to three routes.
SIMPLE_REQUESTS = """async ([service, bodies]) => {
    for (const [path, body] of Object.entries(bodies)) {
        const url = service + path, text = JSON.stringify(body)
        await fetch(url, {method: "POST", mode: "no-cors", body: new TextEncoder().encode(text)})
        await fetch(url, {method: "POST", mode: "no-cors", body: text})
        navigator.sendBeacon(url, new TextEncoder().encode(text))
        const frame = Object.assign(document.createElement("iframe"), {name: path})
        const form = document.createElement("form")
        document.body.append(frame, form)
        Object.assign(form, {method: "POST", action: url, enctype: "text/plain", target: path})
        const field = form.appendChild(document.createElement("input"))
        const half = text.lastIndexOf("}")  // a form writes name=value: the JSON goes into the name
        Object.assign(field, {name: text.slice(0, half) + ',"', value: '":0}'})
        form.submit()
    }
}"""


def statuses_of_posts(service: ServiceProcess, count: int) -> list[int]:
    """Wait until the service has logged `count` POST requests, and return their statuses."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        statuses = [line["status"] for line in service.lines() if line.get("method") == "POST"]
        if len(statuses) >= count:
            return statuses
        time.sleep(0.05)
    raise AssertionError(service.lines())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_another_origin_cannot_write(
    browser: Browser, settings: Settings, tmp_path: Path, tenant: UUID, other_port: int, host: str
) -> None:
    alert = alert_body(tenant)
    bodies = {
        "/alerts": alert,
        "/alerts/bulk": {"alerts": [alert]},
        "/alerts/bulk/resolve": {"filter": {"tenant_id": str(tenant)}},
    }
    with (
        serving(tmp_path, DATABASE_URL=str(settings.database_url), INTERNAL_SERVICE_KEY=SERVICE_KEY) as service,
        service.client() as client,
        browser.new_page() as page,
    ):
        assert client.post("/alerts", json=alert).status_code == 201
        page.goto(f"http://{host}:{other_port}/")
        page.evaluate(SIMPLE_REQUESTS, [service.url, bodies])
        assert statuses_of_posts(service, 13) == [201] + [403] * 12
        counts = client.get(f"/stats/{tenant}").json()
    assert (counts["total"], counts["triggered"]) == (1, 1)


FETCH = """async ([method, url, body]) => {
    const headers = {"Content-Type": "application/json"}
    const response = await fetch(url, {method, headers, body: JSON.stringify(body)})
    return [response.status, await response.json()]
}"""


def test_a_page_of_an_allowed_origin_can_create_and_resolve_an_alert(
    browser: Browser, settings: Settings, tmp_path: Path, tenant: UUID, other_port: int
) -> None:
    origin, database = f"http://localhost:{other_port}", str(settings.database_url)
    body = alert_body(tenant)
    with (
        serving(
            tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, AS_ALERTS_CORS_ORIGINS=origin
        ) as service,
        browser.new_page() as page,
    ):
        page.goto(origin)
        status, alert = page.evaluate(FETCH, ["POST", f"{service.url}/alerts", body])
        assert status == 201
        status, resolved = page.evaluate(
            FETCH, ["PUT", f"{service.url}/alerts/{alert['id']}/resolve", {"note": "done"}]
        )
        assert (status, resolved["status"]) == (200, "resolved")
        without_content_type = """async url => {
            const response = await fetch(url, {method: "POST", body: new Uint8Array([123, 125])})
            return [response.status, (await response.json()).detail]
        }"""
        assert page.evaluate(without_content_type, f"{service.url}/alerts") == [
            415,
            "Content-Type: missing; a browser must send application/json",
        ]
