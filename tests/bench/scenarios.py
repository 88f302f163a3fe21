"""What is asked of every server, and what it must have done afterwards."""

import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tests.bench.seed import ALERTS_PER_TENANT, FRESH, TENANTS, alert, tenant

ALERTS = TENANTS * ALERTS_PER_TENANT
NOTE = json.dumps({"note": "On it"})


class Scenario(NamedTuple):
    """A kind of request.

    Attributes:
        lines: makes the requests, `METHOD PATH [BODY]`; takes how many to make where each can be sent only once
        status: the status of every answer
        changed: a condition on alerts that as many more rows meet as requests were answered, for one that writes
        once: whether each request can be sent only once
    """

    name: str
    lines: Callable[[int], list[str]]
    status: int = 200
    changed: str | None = None
    once: bool = False


def create(tenants: int = TENANTS) -> list[str]:
    body = {"rule_name": "missed_call", "message": "Missed call from +44 20 7946 0123 not returned in 15 minutes"}
    return [f"POST /alerts {json.dumps({'tenant_id': str(tenant(t)), **body})}" for t in range(tenants)]


def move(verb: str, count: int, first: int = FRESH) -> list[str]:
    return [f"PUT /alerts/{alert(n)}/{verb} {NOTE}" for n in range(first, first + count)]


def get() -> list[str]:
    """Ten thousand of all alerts, in no order."""
    return [f"GET /alerts/{alert(n * 7919 % ALERTS)}" for n in range(10_000)]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("create", lambda _: create(), status=201, changed="true"),
        Scenario("acknowledge", partial(move, "acknowledge"), changed="acknowledgment_note = 'On it'", once=True),
        Scenario("resolve", partial(move, "resolve"), changed="resolution_note = 'On it'", once=True),
        Scenario("get", lambda _: get()),
        Scenario("list", lambda _: [f"GET /alerts?tenant_id={tenant(t)}" for t in range(TENANTS)]),
        Scenario("stats", lambda _: [f"GET /stats/{tenant(t)}" for t in range(TENANTS)]),
        Scenario("health", lambda _: ["GET /health"]),
    )
}
STATS = {"total": 1_000, "triggered": 100, "acknowledged": 200, "resolved": 700}
