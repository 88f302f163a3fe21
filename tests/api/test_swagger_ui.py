"""The documentation in a real browser, served by a real process."""

import json
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest

from alerts_service.alerts.structs import ALERT_EXAMPLE
from alerts_service.settings import Settings
from tests.support.api import SERVICE_KEY
from tests.support.processes import ServiceProcess, serving
from tests.support.tokens import JWT_SECRET, sign_token

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'as-alerts-service[dev]'")

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

QUIET = (
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
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium to drive")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=QUIET) as browser:
        yield browser


class Visit:
    """A look at the documentation, and what the browser asked for and complained of meanwhile."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        answer = page.goto(f"{url}/docs")
        self.policy = answer.headers.get("content-security-policy", "") if answer else ""

    def operation(self, name: str) -> Locator:
        """Unfold an operation."""
        block = self.page.locator(f"[id$='-{name}'].opblock")
        block.locator(".opblock-summary-control").click()
        return block

    def execute(self, block: Locator) -> str:
        """Send the request that an unfolded operation offers and return the status of the answer."""
        block.get_by_role("button", name="Execute").click()
        return block.locator(".live-responses-table tbody .response-col_status").inner_text().split()[0]

    def authorize(self, scheme: str, value: str) -> None:
        """Give the page a key or a token."""
        self.page.get_by_role("button", name="Authorize").first.click()
        form = self.page.locator(".auth-container", has_text=scheme)
        form.locator("input").fill(value)
        form.get_by_role("button", name="Apply credentials").click()
        form.get_by_role("button", name="Close").click()


@pytest.fixture
def visit(browser: Browser, service: ServiceProcess) -> Iterator[Visit]:
    with browser.new_page() as page:
        yield Visit(page, service.url)


def test_every_operation_is_shown(visit: Visit) -> None:
    """The documentation shows every operation with a summary, and the browser has nothing to complain of."""
    expect(visit.page.locator(".opblock")).to_have_count(18)
    expect(visit.page.locator(".opblock-summary-description:empty")).to_have_count(0)
    assert visit.complaints == []


def test_the_policy_has_no_exceptions(visit: Visit) -> None:
    """Under the policy of the page its own scripts run, and none that somebody else puts into it."""
    assert "unsafe" not in visit.policy
    assert "frame-ancestors 'none'" in visit.policy
    visit.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 1'}))")
    assert visit.page.evaluate("typeof hacked") == "undefined"
    assert len(visit.complaints) == 1
    assert "Content Security Policy" in visit.complaints[0]


def test_nothing_comes_from_elsewhere(visit: Visit) -> None:
    """The page and all that it needs come from the service itself."""
    visit.page.wait_for_load_state("networkidle")
    assert f"{visit.url}/docs/static/swagger-ui-bundle.js" in visit.requests
    assert [url for url in visit.requests if not url.startswith(f"{visit.url}/")] == []


def test_the_example_is_a_good_request(visit: Visit) -> None:
    """An alert can be recorded from the page, just as the example offers it."""
    block = visit.operation("create_alert")
    block.get_by_role("button", name="Try it out").click()
    example = json.loads(block.locator("textarea").input_value())
    assert example.keys() == {"tenant_id", "rule_name", "message", "severity", "dedup_key"}
    assert visit.execute(block) in {"200", "201"}
    assert visit.complaints == []


def test_the_service_key_can_be_given(visit: Visit) -> None:
    """An internal operation is refused until the service key is given to the page."""
    block = visit.operation("create_internal_alert")
    block.get_by_role("button", name="Try it out").click()
    assert visit.execute(block) == "401"
    block.get_by_role("button", name="Clear").click()
    visit.authorize("serviceKey", SERVICE_KEY)
    assert visit.execute(block) in {"200", "201"}


def test_a_token_can_be_given(browser: Browser, settings: Settings, tmp_path: Path) -> None:
    """Where tokens are asked for, a list is refused until a tenant's is given to the page."""
    database = str(settings.database_url)
    with (
        serving(
            tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, TENANT_JWT_SECRET=JWT_SECRET
        ) as service,
        browser.new_page() as page,
    ):
        visit = Visit(page, service.url)
        block = visit.operation("list_alerts")
        block.get_by_role("button", name="Try it out").click()
        block.locator("tr[data-param-name=tenant_id] input").fill(str(ALERT_EXAMPLE.tenant_id))
        assert visit.execute(block) == "401"
        block.get_by_role("button", name="Clear").click()
        visit.authorize("bearerAuth", sign_token("HS256", ALERT_EXAMPLE.tenant_id))
        assert visit.execute(block) == "200"


class EmptyPage(BaseHTTPRequestHandler):
    """Answers every GET with an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """The port of a server of another origin."""
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


def posts(service: ServiceProcess, count: int) -> list[int]:
    """Wait until the service has answered so many POST requests, and return their statuses."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        statuses = [line["status"] for line in service.lines() if line.get("method") == "POST"]
        if len(statuses) >= count:
            return statuses
        time.sleep(0.05)
    raise AssertionError(service.lines())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_another_origin_changes_nothing(
    browser: Browser, settings: Settings, tmp_path: Path, tenant: UUID, other_port: int, host: str
) -> None:
    alert = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
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
        assert posts(service, 13) == [201] + [403] * 12
        counts = client.get(f"/stats/{tenant}").json()
    assert (counts["total"], counts["triggered"]) == (1, 1)


CALL = """async ([method, url, body]) => {
    const headers = {"Content-Type": "application/json"}
    const response = await fetch(url, {method, headers, body: JSON.stringify(body)})
    return [response.status, await response.json()]
}"""


def test_a_page_of_an_allowed_origin_creates_and_resolves(
    browser: Browser, settings: Settings, tmp_path: Path, tenant: UUID, other_port: int
) -> None:
    origin, database = f"http://localhost:{other_port}", str(settings.database_url)
    body = {"tenant_id": str(tenant), "rule_name": "r", "message": "m"}
    with (
        serving(
            tmp_path, DATABASE_URL=database, INTERNAL_SERVICE_KEY=SERVICE_KEY, AS_ALERTS_CORS_ORIGINS=origin
        ) as service,
        browser.new_page() as page,
    ):
        page.goto(origin)
        status, alert = page.evaluate(CALL, ["POST", f"{service.url}/alerts", body])
        assert status == 201
        status, resolved = page.evaluate(CALL, ["PUT", f"{service.url}/alerts/{alert['id']}/resolve", {"note": "done"}])
        assert (status, resolved["status"]) == (200, "resolved")
        undeclared = """async url => {
            const response = await fetch(url, {method: "POST", body: new Uint8Array([123, 125])})
            return [response.status, (await response.json()).detail]
        }"""
        assert page.evaluate(undeclared, f"{service.url}/alerts") == [
            415,
            "Content-Type: missing; a browser must send application/json",
        ]
