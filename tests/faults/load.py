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

Operation: TypeAlias = Literal["create", "acknowledge", "resolve", "get"]

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


class SentRequest(Struct):
    """A request and its response.

    `text` is the message or note that it writes, and is unique. Times are those of `time.monotonic`, in seconds.
    """

    operation: Operation
    text: str
    sent_at: float
    alert_id: str = ""
    status: int = 0
    body: str = ""
    latency: float = 0.0
    outcome: Outcome = "unknown"

    @property
    def ended_at(self) -> float:
        return self.sent_at + self.latency


class OutcomeCounts(Struct):
    """Numbers of requests by outcome.

    `committed_unknown` counts the requests with unknown outcome whose change is in the database, `lost` those that
    succeeded and whose change is not, `duplicated` the surplus alerts of one create request.
    """

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
        self.requests: list[SentRequest] = []
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
        """Stop sending, and wait for the last response of every client."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    def sent_since(self, start: float) -> Iterator[SentRequest]:
        """Return the completed requests that were sent at `start` or later."""
        return (request for request in self.requests if request.sent_at >= start)

    def failed_since(self, start: float) -> list[SentRequest]:
        """Return the requests that ended at `start` or later and did not succeed."""
        return [request for request in self.requests if request.ended_at >= start and request.outcome != "succeeded"]

    def count(self, *outcomes: Outcome) -> int:
        return sum(request.outcome in outcomes for request in self.requests)

    async def wait_for_successes(self, count: int = 50, seconds: float = 10) -> None:
        """Wait until `count` requests that are sent from now on have succeeded."""
        start = time.monotonic()
        while sum(request.outcome == "succeeded" for request in self.sent_since(start)) < count:
            assert time.monotonic() < start + seconds, self.requests[-5:]
            await asyncio.sleep(0.01)

    async def check(self, dsn: str) -> OutcomeCounts:
        """Compare all responses with the rows in the database.

        Raises:
            AssertionError: a change is lost, duplicated, or committed although its request was rejected; a response is
                wrong; or the statistics counters differ from the alerts.
        """
        connection = await asyncpg.connect(dsn)
        try:
            alerts = await connection.fetch("SELECT * FROM alerts WHERE tenant_id = any($1)", self._tenants)
            counters = await connection.fetch("SELECT * FROM alert_counts WHERE tenant_id = any($1)", self._tenants)
        finally:
            await connection.close()
        messages = Counter(alert["message"] for alert in alerts)
        stored = _stored_texts(alerts)
        stored_texts = {text for _, text in stored}
        counts = OutcomeCounts(
            succeeded=self.count("succeeded"),
            rejected=self.count("rejected", "unreachable"),
            unknown=self.count("unknown"),
            committed_unknown=sum(request.text in stored_texts for request in self._changes("unknown")),
            lost=sum((request.alert_id, request.text) not in stored for request in self._changes("succeeded")),
            duplicated=sum(count - 1 for count in messages.values()),
        )
        assert (counts.lost, counts.duplicated) == (0, 0), counts
        wrong = [request for request in self.requests if request.outcome == "wrong"]
        assert not wrong, wrong[:5]
        rejected = self._changes("rejected", "unreachable")
        rejected_but_committed = [request for request in rejected if request.text in stored_texts]
        assert not rejected_but_committed, rejected_but_committed[:5]
        assert stored_texts <= {request.text for request in self._changes("succeeded", "unknown")}
        assert _sum_counters(counters) == Counter((alert["tenant_id"], alert["status"]) for alert in alerts), counters
        return counts

    def _changes(self, *outcomes: Outcome) -> Iterator[SentRequest]:
        return (request for request in self.requests if request.outcome in outcomes and request.operation != "get")

    async def _run_client(self, number: int) -> None:
        tenant, rng = self._tenants[number % TENANTS], random.Random(number)
        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_SECONDS, verify=False) as client:
            while not self._stopped:
                created = await self._request(client, "create", tenant)
                for operation in _choose_operations(rng) if created.outcome == "succeeded" else ():
                    await self._request(client, operation, tenant, created.alert_id)

    async def _request(
        self, client: httpx.AsyncClient, operation: Operation, tenant: UUID, alert_id: str = ""
    ) -> SentRequest:
        request = SentRequest(operation, uuid4().hex, time.monotonic(), alert_id)
        await self._attempt(client, request, tenant)
        while self._retry and request.outcome not in {"succeeded", "wrong"}:
            self.retries += 1
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
            await self._attempt(client, request, tenant)
        self.requests.append(request)
        await asyncio.sleep(self._pause if request.outcome == "succeeded" else PAUSE_AFTER_FAILURE_SECONDS)
        return request

    async def _attempt(self, client: httpx.AsyncClient, request: SentRequest, tenant: UUID) -> None:
        headers = {"Idempotency-Key": request.text} if self._retry else {}
        try:
            response = await _send(client, next(self._urls), request, tenant, headers)
            request.status, request.body = response.status_code, response.text
            request.outcome = _outcome(response)
            self.replayed += "idempotent-replayed" in response.headers
            if request.outcome == "succeeded":
                request.alert_id = response.json()["id"]
        except httpx.ConnectError:
            request.outcome = "unreachable"
        except httpx.TransportError as error:
            request.body = repr(error)
        request.latency = time.monotonic() - request.sent_at


def _choose_operations(rng: random.Random) -> list[Operation]:
    sequences: list[list[Operation]] = [[], ["get"], ["acknowledge"], ["resolve"], ["acknowledge", "get", "resolve"]]
    return rng.choice(sequences)


async def _send(
    client: httpx.AsyncClient, url: str, request: SentRequest, tenant: UUID, headers: dict[str, str]
) -> httpx.Response:
    if request.operation == "create":
        body = {"tenant_id": str(tenant), "rule_name": "faults", "message": request.text}
        return await client.post(f"{url}/alerts", json=body, headers=headers)
    if request.operation == "get":
        return await client.get(f"{url}/alerts/{request.alert_id}")
    url = f"{url}/alerts/{request.alert_id}/{request.operation}"
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


def _sum_counters(counters: list[Any]) -> Counter[tuple[UUID, str]]:
    """Return the number of alerts by tenant and status, summed over the counters of each tenant."""
    sums: Counter[tuple[UUID, str]] = Counter()
    for counter in counters:
        for status in ("triggered", "acknowledged", "resolved"):
            sums[counter["tenant_id"], status] += counter[status]
    return sums


def assert_failed_fast(requests: list[SentRequest]) -> None:
    """Assert that the failed requests were answered with "Database connection error" within two seconds."""
    assert requests
    assert {(request.status, request.body) for request in requests} == {
        (500, '{"error":"Database connection error","detail":null}')
    }
    assert max(request.latency for request in requests) < 2
