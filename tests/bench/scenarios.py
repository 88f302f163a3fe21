"""The requests of each scenario, and their expected effects."""

import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.bench.seed import ALERTS_PER_TENANT, FIRST_RESERVED_ALERT, TENANTS, alert_id, tenant_id

ALERTS = TENANTS * ALERTS_PER_TENANT
NOTE = json.dumps({"note": "On it"})


class Scenario(NamedTuple):
    """A kind of request.

    Attributes:
        lines: returns the requests, `METHOD PATH [BODY]`; takes their number if each can be sent only once
        status: the expected status of every response
        changed_rows: for a scenario that writes, a condition that each successful request makes true for one more alert
        once: whether each request can be sent only once
    """

    name: str
    lines: Callable[[int], list[str]]
    status: int = 200
    changed_rows: str | None = None
    once: bool = False


def create_requests(tenants: int = TENANTS) -> list[str]:
    body = {"rule_name": "missed_call", "message": "Missed call from +44 20 7946 0123 not returned in 15 minutes"}
    return [f"POST /alerts {json.dumps({'tenant_id': str(tenant_id(number)), **body})}" for number in range(tenants)]


def transition_requests(verb: str, count: int, first: int = FIRST_RESERVED_ALERT) -> list[str]:
    return [f"PUT /alerts/{alert_id(number)}/{verb} {NOTE}" for number in range(first, first + count)]


def get_requests() -> list[str]:
    """Return requests for 10,000 of the alerts, in a scattered order."""
    return [f"GET /alerts/{alert_id(number * 7919 % ALERTS)}" for number in range(10_000)]


def list_requests() -> list[str]:
    return [f"GET /alerts?tenant_id={tenant_id(number)}" for number in range(TENANTS)]


def stats_requests() -> list[str]:
    return [f"GET /stats/{tenant_id(number)}" for number in range(TENANTS)]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("create", lambda _: create_requests(), status=201, changed_rows="true"),
        Scenario(
            "acknowledge",
            partial(transition_requests, "acknowledge"),
            changed_rows="acknowledgment_note = 'On it'",
            once=True,
        ),
        Scenario(
            "resolve", partial(transition_requests, "resolve"), changed_rows="resolution_note = 'On it'", once=True
        ),
        Scenario("get", lambda _: get_requests()),
        Scenario("list", lambda _: list_requests()),
        Scenario("stats", lambda _: stats_requests()),
        Scenario("health", lambda _: ["GET /health"]),
    )
}
EXPECTED_STATS = {"total": 1_000, "triggered": 100, "acknowledged": 200, "resolved": 700}
