"""Clients that create and change alerts during a fault, and a comparison of every response with the database."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
from msgspec import Struct
from typing_extensions import Self

Verb: TypeAlias = Literal["create", "acknowledge", "resolve", "get"]

# What a response tells of its request.
#     succeeded    2xx
#     rejected     nothing was changed: 503 or 409 with `Retry-After`
#     unknown      the change may have been committed: another 5xx, or no response
#     unreachable  nothing was changed: the connection was refused
#     wrong        no fault explains it, such as 404 for an alert that was created
Outcome: TypeAlias = Literal["succeeded", "rejected", "unknown", "unreachable", "wrong"]

TENANTS = 4
CLIENT_TIMEOUT_SECONDS = 15
PAUSE_SECONDS = 0.005
PAUSE_AFTER_FAILURE_SECONDS = 0.05


class Request(Struct):
    """A request. `text` is its message or note and is unique. Times are those of `time.monotonic`."""

    verb: Verb
    text: str
    at: float
    alert: str = ""
    status: int = 0
    body: str = ""
    latency: float = 0.0
    outcome: Outcome = "unknown"

    @property
    def end(self) -> float:
        return self.at + self.latency


class Figures(Struct):
    """Counts of requests by outcome; `committed_unknown` counts those of unknown outcome that were committed."""

    succeeded: int
    rejected: int
    unknown: int
    committed_unknown: int
    lost: int
    duplicated: int


class Load:
    """Concurrent clients that send one request at a time until the end of the block.

    A client creates alerts, and acknowledges, resolves or gets some of them, each at most once. Requests go to the URLs
    in rotation. With `retry`, each request has an idempotency key and is retried until it succeeds.
    """

    def __init__(self, *urls: str, clients: int = 16, pause: float = PAUSE_SECONDS, retry: bool = False) -> None:
        self.requests: list[Request] = []
        self.retries = self.replayed = 0
        self._retry = retry
        self._urls = itertools.cycle(urls)
        self._clients = clients
        self._pause = pause
        self._tenants = [uuid4() for _ in range(TENANTS)]
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run_client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Wait for the last response of every client."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    def sent_since(self, at: float) -> Iterator[Request]:
        """Return the requests sent at this time or later."""
        return (request for request in self.requests if request.at >= at)

    def failed_since(self, at: float) -> list[Request]:
        """Return the requests that ended at this time or later and did not succeed."""
        return [request for request in self.requests if request.end >= at and request.outcome != "succeeded"]

    def count(self, *outcomes: Outcome) -> int:
        return sum(request.outcome in outcomes for request in self.requests)

    async def wait_for_successes(self, count: int = 50, seconds: float = 10) -> None:
        """Wait until `count` requests that are sent from now on have succeeded."""
        start = time.monotonic()
        while sum(request.outcome == "succeeded" for request in self.sent_since(start)) < count:
            assert time.monotonic() < start + seconds, self.requests[-5:]
            await asyncio.sleep(0.01)

    async def check(self, dsn: str) -> Figures:
        """Compare all responses with the rows in the database."""
        connection = await asyncpg.connect(dsn)
        try:
            alerts = await connection.fetch("SELECT * FROM alerts WHERE tenant_id = any($1)", self._tenants)
            counts = await connection.fetch("SELECT * FROM alert_counts WHERE tenant_id = any($1)", self._tenants)
        finally:
            await connection.close()
        messages = Counter(alert["message"] for alert in alerts)
        stored = _stored_texts(alerts)
        stored_texts = {text for _, text in stored}
        figures = Figures(
            succeeded=self.count("succeeded"),
            rejected=self.count("rejected", "unreachable"),
            unknown=self.count("unknown"),
            committed_unknown=sum(request.text in stored_texts for request in self._changes("unknown")),
            lost=sum((request.alert, request.text) not in stored for request in self._changes("succeeded")),
            duplicated=sum(count - 1 for count in messages.values()),
        )
        assert (figures.lost, figures.duplicated) == (0, 0), figures
        wrong = [request for request in self.requests if request.outcome == "wrong"]
        assert not wrong, wrong[:5]
        rejected = self._changes("rejected", "unreachable")
        committed = [request for request in rejected if request.text in stored_texts]
        assert not committed, committed[:5]
        assert stored_texts <= {request.text for request in self._changes("succeeded", "unknown")}
        assert _totals(counts) == Counter((alert["tenant_id"], alert["status"]) for alert in alerts), counts
        return figures

    def _changes(self, *outcomes: Outcome) -> Iterator[Request]:
        return (request for request in self.requests if request.outcome in outcomes and request.verb != "get")

    async def _run_client(self, number: int) -> None:
        tenant, rng = self._tenants[number % TENANTS], random.Random(number)
        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_SECONDS, verify=False) as client:
            while not self._stopped:
                created = await self._request(client, "create", tenant)
                for verb in _next_verbs(rng) if created.outcome == "succeeded" else ():
                    await self._request(client, verb, tenant, created.alert)

    async def _request(self, client: httpx.AsyncClient, verb: Verb, tenant: UUID, alert: str = "") -> Request:
        request = Request(verb, uuid4().hex, time.monotonic(), alert)
        await self._attempt(client, request, tenant)
        while self._retry and request.outcome not in {"succeeded", "wrong"}:
            self.retries += 1
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
            await self._attempt(client, request, tenant)
        self.requests.append(request)
        await asyncio.sleep(self._pause if request.outcome == "succeeded" else PAUSE_AFTER_FAILURE_SECONDS)
        return request

    async def _attempt(self, client: httpx.AsyncClient, request: Request, tenant: UUID) -> None:
        key = {"Idempotency-Key": request.text} if self._retry else {}
        try:
            response = await _send(client, next(self._urls), request, tenant, key)
            request.status, request.body = response.status_code, response.text
            request.outcome = _outcome(response)
            self.replayed += "idempotent-replayed" in response.headers
            if request.outcome == "succeeded":
                request.alert = response.json()["id"]
        except httpx.ConnectError:
            request.outcome = "unreachable"
        except httpx.TransportError as error:
            request.body = repr(error)
        request.latency = time.monotonic() - request.at


def _next_verbs(rng: random.Random) -> list[Verb]:
    plans: list[list[Verb]] = [[], ["get"], ["acknowledge"], ["resolve"], ["acknowledge", "get", "resolve"]]
    return rng.choice(plans)


async def _send(
    client: httpx.AsyncClient, url: str, request: Request, tenant: UUID, headers: dict[str, str]
) -> httpx.Response:
    if request.verb == "create":
        body = {"tenant_id": str(tenant), "rule_name": "faults", "message": request.text}
        return await client.post(f"{url}/alerts", json=body, headers=headers)
    if request.verb == "get":
        return await client.get(f"{url}/alerts/{request.alert}")
    url = f"{url}/alerts/{request.alert}/{request.verb}"
    return await client.put(url, json={"note": request.text}, headers=headers)


def _outcome(response: httpx.Response) -> Outcome:
    if response.status_code in {200, 201}:
        return "succeeded"
    if response.status_code in {409, 503} and "retry-after" in response.headers:
        return "rejected"
    return "unknown" if response.status_code >= 500 else "wrong"


def _stored_texts(alerts: list[Any]) -> set[tuple[str, str]]:
    """Return every message and note with the id of its alert."""
    columns = ("message", "acknowledgment_note", "resolution_note")
    return {(str(alert["id"]), alert[column]) for alert in alerts for column in columns if alert[column] is not None}


def _totals(counts: list[Any]) -> Counter[tuple[UUID, str]]:
    sums: Counter[tuple[UUID, str]] = Counter()
    for row in counts:
        for status in ("triggered", "acknowledged", "resolved"):
            sums[row["tenant_id"], status] += row[status]
    return sums


def assert_failed_fast(requests: list[Request]) -> None:
    assert requests
    assert {(request.status, request.body) for request in requests} == {
        (500, '{"error":"Database connection error","detail":null}')
    }
    assert max(request.latency for request in requests) < 2
