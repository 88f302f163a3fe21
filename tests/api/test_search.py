"""The `q` parameter: its query language, and the cost of a search."""

import asyncio
import random
import re
import statistics
import time
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from alerts_service.alerts.list_controller import SEARCH
from alerts_service.alerts.search_terms import compile_search_terms
from alerts_service.alerts.structs import AlertPage
from alerts_service.db.database import Database
from alerts_service.db.pool import Connection, session_settings
from alerts_service.db.queries import load_queries
from alerts_service.errors import StatementTimeout
from alerts_service.settings import Settings
from tests.support.api import create_alert
from tests.support.database import POOLER, open_database

pytestmark = pytest.mark.anyio

MESSAGE = "Missed call: +1 555-0100 not returned; see missed_call@example.com, Straße 7 (50%)"

# PostgreSQL's text search parser takes 0.2 to 1 s for each of these messages, at each search.
SLOW_TO_PARSE = [
    "a_" * 5000,
    "missed_call_" * 830,
    "a-1-" * 2500,
    "a-b.c-" * 1660,
    "a" * 10_000,
    "1e" * 5000,
    "a b " * 2500,
]
ONLY_PUNCTUATION = [
    "-" * 33,
    "-" * 200,
    "- " * 100,
    "-(" * 60,
    "-!&|" * 50,
    '"' * 200,
    '-"' * 100,
    " or " * 50,
    "\\" * 200,
    "(?=" * 60,
]


async def count_matches(client: httpx.AsyncClient, tenant: UUID, q: str) -> int:
    response = await client.get("/alerts", params={"tenant_id": str(tenant), "q": q})
    assert response.status_code == 200, (q, response.text)
    return len(response.json())


@pytest.mark.parametrize(
    ("q", "matches"),
    [
        ("missed", True),
        ("MISSED Call", True),
        ("call missed", True),
        ("miss", False),
        ("missed nowhere", False),
        ("missed -nowhere", True),
        ("missed -call", False),
        ("-nowhere", True),
        ("-call", False),
        ('"not returned"', True),
        ('"returned not"', False),
        ('"missed call', True),
        ('-"returned not"', True),
        ('-"not returned"', False),
        ("555-0100", True),
        ("0100", True),
        ("0100-555", False),
        ("5550100", False),
        ("missed_call", True),
        ("example", True),
        ("straße", True),
        ("50", True),
        ("nowhere or returned", True),
        ("nowhere or elsewhere", False),
        ("missed nowhere or call", True),
        ("nowhere OR call -returned", False),
        ("or call or", True),
        ("--call", True),
        ("- call", True),
        ("!?", False),
        ("or", False),
        ("-", False),
        ("rule_7", True),
    ],
)
async def test_a_query_matches_the_words_of_message_and_rule_name(
    client: httpx.AsyncClient, tenant: UUID, q: str, *, matches: bool
) -> None:
    await create_alert(client, tenant, message=MESSAGE, rule_name="rule_7")
    assert await count_matches(client, tenant, q) == matches


@pytest.mark.parametrize(
    "text", ["हिन्दी भाषा", "ไทยที่นี่ เมื่อ", "العَرَبِيَّة", "עִבְרִית", "தமிழ்", "বাংলা", "cafe\u0301 bar", "日本語"]
)
async def test_words_of_other_scripts_match(client: httpx.AsyncClient, tenant: UUID, text: str) -> None:
    await create_alert(client, tenant, message=f"before, {text}; behind")
    assert await count_matches(client, tenant, text) == 1
    assert await count_matches(client, tenant, f'"before {text} behind"') == 1
    assert await count_matches(client, tenant, f"-{text.split(maxsplit=1)[0]}") == 0


def matches_reference(q: str, text: str) -> bool:
    """Evaluate a query by comparing lists of words, as a reference for the regular expression."""

    def occurs(term: list[str]) -> bool:
        return any(words[start : start + len(term)] == term for start in range(len(words)))

    words = re.findall("[a-z0-9]+", text.lower())
    alternatives: list[list[bool]] = [[]]
    for minus, phrase, word in re.findall(r'(-(?=["\w]))?(?:"([^"]*)"?|([^\s"]+))', q):
        term = re.findall("[a-z0-9]+", (phrase or word).lower())
        if not minus and word.lower() == "or":
            alternatives.append([])
        elif term:
            alternatives[-1].append(occurs(term) != bool(minus))
    return any(all(conditions) for conditions in alternatives if conditions)


async def test_random_queries_match_as_the_reference_does(connection: Connection) -> None:
    source = random.Random(7)
    cases = []
    for _ in range(5_000):
        q = "".join(source.choices(["a", "B", "0", " or ", " ", "-", '"', "_"], k=source.randint(1, 6)))
        text = "".join(source.choices(["a", "A", "b", "0", " ", "-", "_", "\n"], k=source.randint(1, 12)))
        if terms := compile_search_terms(q):
            cases.append((q, text, terms.pattern))
    sql = "SELECT text ~* pattern AS matches FROM unnest($1::text[], $2::text[]) AS cases (text, pattern)"
    rows = await connection.fetch(sql, [case[1] for case in cases], [case[2] for case in cases])
    wrong = [case for case, row in zip(cases, rows, strict=True) if row["matches"] != matches_reference(*case[:2])]
    assert not wrong
    # A comparison of cases that all match, or that never match, would prove little.
    assert 0.2 < statistics.mean(row["matches"] for row in rows) < 0.8


@pytest.mark.parametrize("q", ONLY_PUNCTUATION)
async def test_a_query_without_words_matches_nothing(client: httpx.AsyncClient, tenant: UUID, q: str) -> None:
    await create_alert(client, tenant)
    assert await count_matches(client, tenant, q) == 0


async def test_the_cost_of_a_search_does_not_depend_on_the_messages(settings: Settings) -> None:
    """A page of messages that are slow to parse takes less than five times as long as one of ordinary text."""
    ordinary = ("Missed call from +1 555 0100 not returned in 15 minutes; the customer asked twice. " * 200)[:10_000]
    connection = await asyncpg.connect(settings.database_url, server_settings=session_settings(pooler=POOLER))
    sql = "INSERT INTO alerts (tenant_id, rule_name, message) SELECT $1, 'r', $2 FROM generate_series(1, 25)"
    tenants = {message: uuid4() for message in (ordinary, *SLOW_TO_PARSE)}
    for message, tenant in tenants.items():
        await connection.execute(sql, tenant, message)
    sql = load_queries()[SEARCH.name].sql
    terms = compile_search_terms("customer -nothing or needle")
    assert terms is not None
    seconds: dict[str, list[float]] = {message: [] for message in tenants}
    for _ in range(5):
        for message, tenant in tenants.items():
            started = time.perf_counter()
            await connection.fetch(sql, [tenant], *[[None]] * 7, [terms.pattern], [terms.count])
            seconds[message].append(time.perf_counter() - started)
    await connection.close()
    medians = {message: statistics.median(durations) for message, durations in seconds.items()}
    for message in SLOW_TO_PARSE:
        assert medians[message] < 5 * medians[ordinary], (message[:10], medians[message], medians[ordinary])


def search_parameters(pattern: str) -> dict[str, object]:
    unused = ("status", "severity", "rule_name", "created_after", "created_before", "before_created_at", "before_id")
    return {**dict.fromkeys(unused), "pattern": pattern, "terms": 1}


async def search_concurrently(database: Database, tenant: UUID, *patterns: str) -> list[object]:
    """Search for the first pattern in the alerts of `tenant`, for each other pattern in those of a new tenant."""
    tenants = [tenant, *[uuid4() for _ in patterns[1:]]]
    searches = [
        database.one(SEARCH, tenant_id=tenant_id, **search_parameters(pattern))
        for tenant_id, pattern in zip(tenants, patterns, strict=True)
    ]
    return await asyncio.gather(*searches, return_exceptions=True)


async def test_a_slow_search_times_out_without_failing_the_searches_behind_it(
    client: httpx.AsyncClient, settings: Settings, tenant: UUID
) -> None:
    await create_alert(client, tenant, message="a" * 3_000 + "b")
    slow = r"(a*)(a*)(a*)\1\2\3b"
    assert settings.database_url is not None
    async with open_database(settings.database_url, pool_size=2, pool_timeout=2, statement_timeout=0.5) as database:
        # Searches run one at a time: while this one runs, the others are queued.
        first = asyncio.create_task(search_concurrently(database, tenant, "call"))
        outcomes = await search_concurrently(database, tenant, slow, *["call"] * 6)
        await first
    assert isinstance(outcomes[0], StatementTimeout)
    assert {type(outcome) for outcome in outcomes[1:]} == {AlertPage}
