"""Callers that raise alerts while something happens to the service, and an account of every answer they got."""

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

# What a caller knows of what it asked for. Done; not done; either; not done, since nobody was there to be asked; and
# what no fault excuses, such as an alert that was recorded and then not found.
Outcome: TypeAlias = Literal["answered", "refused", "unknown", "unreachable", "wrong"]

TENANTS = 4
PATIENCE_SECONDS = 15
PAUSE_SECONDS = 0.005
PAUSE_AFTER_A_FAULT_SECONDS = 0.05


class Request(Struct):
    """One request; `text` is its message or note, which no other has. Times are of `time.monotonic`."""

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
    """What became of all requests; and how many changes were made of which nobody was told."""

    answered: int
    refused: int
    unknown: int
    untold: int
    lost: int
    doubled: int


class Load:
    """Callers, each with one request at a time, until the end of the block.

    They create alerts, and of some that were recorded they acknowledge, resolve or get each one at most once. The urls
    take turns. Those who insist give each request a key, and repeat it until it is answered.
    """

    def __init__(self, *urls: str, callers: int = 16, pause: float = PAUSE_SECONDS, insist: bool = False) -> None:
        self.requests: list[Request] = []
        self.repeated = self.replayed = 0
        self._insist = insist
        self._urls = itertools.cycle(urls)
        self._callers = callers
        self._pause = pause
        self._tenants = [uuid4() for _ in range(TENANTS)]
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self._callers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let every caller hear its last answer."""
        self._over = True
        await asyncio.gather(*self._tasks)

    def since(self, at: float) -> Iterator[Request]:
        """Those that were sent after a moment."""
        return (request for request in self.requests if request.at >= at)

    def troubled(self, at: float) -> list[Request]:
        """Those that had another end than an answer after a moment."""
        return [request for request in self.requests if request.end >= at and request.outcome != "answered"]

    def count(self, *outcomes: Outcome) -> int:
        return sum(request.outcome in outcomes for request in self.requests)

    async def answered(self, count: int = 50, seconds: float = 10) -> None:
        """Return when so many more have been answered that were asked from now on, which may take so long."""
        start = time.monotonic()
        while sum(request.outcome == "answered" for request in self.since(start)) < count:
            assert time.monotonic() < start + seconds, self.requests[-5:]
            await asyncio.sleep(0.01)

    async def check(self, dsn: str) -> Figures:
        """Compare what was answered with what the database holds."""
        connection = await asyncpg.connect(dsn)
        try:
            alerts = await connection.fetch("SELECT * FROM alerts WHERE tenant_id = any($1)", self._tenants)
            counts = await connection.fetch("SELECT * FROM alert_counts WHERE tenant_id = any($1)", self._tenants)
        finally:
            await connection.close()
        times = Counter(alert["message"] for alert in alerts)
        done = _texts(alerts)
        texts = {text for _, text in done}
        figures = Figures(
            answered=self.count("answered"),
            refused=self.count("refused", "unreachable"),
            unknown=self.count("unknown"),
            untold=sum(request.text in texts for request in self._changes("unknown")),
            lost=sum((request.alert, request.text) not in done for request in self._changes("answered")),
            doubled=sum(count - 1 for count in times.values()),
        )
        assert (figures.lost, figures.doubled) == (0, 0), figures
        wrong = [request for request in self.requests if request.outcome == "wrong"]
        assert not wrong, wrong[:5]
        denied = [request for request in self._changes("refused", "unreachable") if request.text in texts]
        assert not denied, denied[:5]
        assert texts <= {request.text for request in self._changes("answered", "unknown")}
        assert _sums(counts) == Counter((alert["tenant_id"], alert["status"]) for alert in alerts), counts
        return figures

    def _changes(self, *outcomes: Outcome) -> Iterator[Request]:
        return (request for request in self.requests if request.outcome in outcomes and request.verb != "get")

    async def _call(self, number: int) -> None:
        tenant, mood = self._tenants[number % TENANTS], random.Random(number)
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, verify=False) as client:
            while not self._over:
                created = await self._ask(client, "create", tenant)
                for verb in _what_next(mood) if created.outcome == "answered" else ():
                    await self._ask(client, verb, tenant, created.alert)

    async def _ask(self, client: httpx.AsyncClient, verb: Verb, tenant: UUID, alert: str = "") -> Request:
        request = Request(verb, uuid4().hex, time.monotonic(), alert)
        await self._try(client, request, tenant)
        while self._insist and request.outcome not in {"answered", "wrong"}:
            self.repeated += 1
            await asyncio.sleep(PAUSE_AFTER_A_FAULT_SECONDS)
            await self._try(client, request, tenant)
        self.requests.append(request)
        await asyncio.sleep(self._pause if request.outcome == "answered" else PAUSE_AFTER_A_FAULT_SECONDS)
        return request

    async def _try(self, client: httpx.AsyncClient, request: Request, tenant: UUID) -> None:
        key = {"Idempotency-Key": request.text} if self._insist else {}
        try:
            response = await _send(client, next(self._urls), request, tenant, key)
            request.status, request.body = response.status_code, response.text
            request.outcome = _outcome(response)
            self.replayed += "idempotent-replayed" in response.headers
            if request.outcome == "answered":
                request.alert = response.json()["id"]
        except httpx.ConnectError:
            request.outcome = "unreachable"
        except httpx.TransportError as error:
            request.body = repr(error)
        request.latency = time.monotonic() - request.at


def _what_next(mood: random.Random) -> list[Verb]:
    plans: list[list[Verb]] = [[], ["get"], ["acknowledge"], ["resolve"], ["acknowledge", "get", "resolve"]]
    return mood.choice(plans)


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
        return "answered"
    if response.status_code in {409, 503} and "retry-after" in response.headers:
        return "refused"
    return "unknown" if response.status_code >= 500 else "wrong"


def _texts(alerts: list[Any]) -> set[tuple[str, str]]:
    """Every message and note that is there, each with the id of its alert."""
    columns = ("message", "acknowledgment_note", "resolution_note")
    return {(str(alert["id"]), alert[column]) for alert in alerts for column in columns if alert[column] is not None}


def _sums(counts: list[Any]) -> Counter[tuple[UUID, str]]:
    sums: Counter[tuple[UUID, str]] = Counter()
    for row in counts:
        for status in ("triggered", "acknowledged", "resolved"):
            sums[row["tenant_id"], status] += row[status]
    return sums


def assert_told_at_once(requests: list[Request]) -> None:
    assert requests
    assert {(request.status, request.body) for request in requests} == {
        (500, '{"error":"Database connection error","detail":null}')
    }
    assert max(request.latency for request in requests) < 2
