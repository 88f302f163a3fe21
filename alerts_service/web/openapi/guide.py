"""The texts of the OpenAPI document: a guide to what holds for all operations, and the descriptions of the tags.

They are Markdown. The quick start is run by a test; the address in it and the id of its alert are replaced there.
"""

INTRODUCTION = """
as-alerts-service stores the alerts of NeverMissCall. Other services create alerts ("missed call not returned in 15
minutes"); people list, acknowledge and resolve them. Every alert belongs to a tenant.
"""

QUICK_START = """
## Quick start

Create an alert, list the alerts of its tenant, acknowledge the alert, and count:

```bash
curl -X POST http://localhost:3101/alerts%(options)s \\
  -H 'Content-Type: application/json' \\
  -d '{"tenant_id": "123e4567-e89b-12d3-a456-426614174000", "rule_name": "missed_call", "message": "Call back"}'

curl 'http://localhost:3101/alerts?tenant_id=123e4567-e89b-12d3-a456-426614174000'%(options)s

curl -X PUT http://localhost:3101/alerts/0f8fad5b-d9cb-469f-a165-70867728950e/acknowledge%(options)s \\
  -H 'Content-Type: application/json' \\
  -d '{"note": "Calling the customer back"}'

curl http://localhost:3101/stats/123e4567-e89b-12d3-a456-426614174000%(options)s
```

In the third command, put the `id` that the first one returned. A response with status 201 means that the
alert is committed.
"""
QUICK_START_AUTHORIZATION = ' \\\n  -H "Authorization: Bearer $TOKEN"'

AUTHENTICATION = """
## Authentication

Operations below `/internal` require a service key in the `x-service-key` header; without a valid one they return 401.
"""
WITHOUT_TOKENS = """
All other operations are open to every client that can reach the service: run it in a private network. The tenant is
the `tenant_id` in the request. To require a signed token for each tenant, set `TENANT_JWT_SECRET` or
`TENANT_JWT_PUBLIC_KEY`.
"""
WITH_TOKENS = """
Operations on alerts, history and statistics require a tenant token: `Authorization: Bearer …` with a JSON Web Token
that has a `tenant_id`, an `exp` in the future, and optionally a `sub`, which the history records. A token with an `aud`
claim is rejected, even if the claim is null or empty. Without a valid token the response is 401.

A token gives access to the alerts of its tenant only. An alert of another tenant is treated as an alert that does not
exist: 404, an empty list, counts of zero. Creating an alert for another tenant is 403. `/health`, `/docs` and
`/openapi.json` need no token.
"""

ERROR_RESPONSES = """
## Errors

The body of every error is `{"error": "…", "detail": "…"}`. `error` is a fixed text for each kind of error. `detail`
says what is wrong with this request, or is null. A validation error names the field, parameter or header and the
reason.

| Status | `error` | Retry? |
|---|---|---|
| 400 | Bad request | No. Its `Host` is not allowed (see Browsers), or it is not HTTP: the connection is closed. |
| 401 | Unauthorized | With a valid key or token. |
| 403 | Forbidden | No. Another tenant than the token's, or a page of another site (see Browsers). |
| 404 | Alert not found | No. |
| 404 | Not found | No. The path does not exist. |
| 405 | Method not allowed | No. The `Allow` header lists the methods of the path. |
| 408 | Request timeout | Yes. The request did not arrive in time; the connection is closed. |
| 409 | Conflict | No. Read the alert: its status does not allow the transition. |
| 409 | Request in progress | Yes, with the same `Idempotency-Key`, after `Retry-After`. |
| 412 | Precondition failed | After reading the alert again. |
| 413 | Body too large | No. |
| 413 | Line too long | No. It ends a stream. |
| 415 | Unsupported media type | No. |
| 422 | Validation error | No. |
| 429 | Too many requests | Yes, after `Retry-After`. |
| 431 | Head too large | No. The connection is closed. |
| 500 | Database connection error | Reads: yes. Changes: the outcome is unknown. |
| 500 | Internal server error | Reads: yes. Changes: the outcome is unknown. |
| 503 | Service unavailable | With `Retry-After`: yes, nothing was changed. Without: as 500. |

**Outcome unknown** means that the change may have been committed: after a 500, after a 503 without `Retry-After`, and
where no response arrives. Repeat such a request with the same `Idempotency-Key`; it is then executed once. A transition
may also be repeated without a key, as it changes nothing the second time. A repeated create with a `dedup_key` adds at
most one occurrence while the alert is open.

If the database cannot be reached, an operation that needs it returns 500. If the database is reachable but has no
capacity in time, the operation returns 503. When the service stops, requests that do not finish in time are 503 without
`Retry-After`.
"""

PAGINATION = """
## Pagination

A page has at most 50 items, and fewer if the texts of its alerts exceed 1 MB. While there are more, the response has
a header `Link: <…>; rel="next"` with the address of the next page, relative to this service. Follow it as it is: the
`cursor` in it is opaque. A page of a search may be empty and still have a next page.
"""

FILTERING = """
## Filtering and search

Filters are combined: an alert must match all of them. `status` and `severity` take several values, separated by commas.
Times are RFC 3339 with `Z` or an offset; write `+` as `%2B` in a query. A range includes its start (`created_after`,
`since`) and excludes its end (`created_before`, `until`). Unknown and repeated parameters are rejected with 422; only
health checks ignore them.

`q`, of 1 to 200 characters, searches the rule name and the message for whole words. Case is ignored; for letters beyond
A to Z this depends on the locale of the database.

| `q` | Matches alerts with |
|---|---|
| `missed call` | both words, in any order |
| `"not returned"` | this phrase |
| `fax or voicemail` | one of the words |
| `missed -test` | the first word, and not the second |

Words are made of letters, digits and combining marks. Every other character separates words, so `555-0100` is a phrase.
A `q` without a letter or digit matches nothing.

A page of a search examines the next 1,000 alerts that match the other filters, or those with the next 200 kB of
messages; if `q` has more than eight words, fewer. It takes PostgreSQL 4 to 9 ms, whatever the messages and the words
are. Each process runs one search at a time. Pages that have an alert with more than 4,000 bytes of text use the same
queue.
"""

DEDUPLICATION = """
## Deduplication

A tenant has at most one open alert for each `dedup_key`. The first create returns 201. While that alert is open, every
further create with the key is a duplicate: it returns 200 with the existing alert. The alert keeps its message, its
`occurrences` rise by one, and it takes over a higher severity, never a lower one. If its severity rises, an
acknowledged alert is triggered again. Resolving the alert frees the key.

Duplicates that the service merges in one statement all return the alert as it is after the last of them. Only an alert
with a key has the fields `dedup_key`, `occurrences`, `first_seen_at` and `last_seen_at`.
"""

IDEMPOTENCY = """
## Idempotency

An `Idempotency-Key` header (1 to 255 visible ASCII characters, with or without quotes around them) makes a POST or PUT
safe to repeat for 24 hours, from any process of the service: it is executed once. Repeating it returns the first
response byte for byte, with its `ETag` and `Idempotent-Replayed: true`.

- A success and a 404, 409 or 412 are stored. After any other response the key is free again.
- The same key with another body, query or `If-Match` is 422. While the first request is running, the response is 409
  "Request in progress" with `Retry-After`.
- A key belongs to a method, a path and a tenant: the tenant of the token, otherwise the one that the request names,
  otherwise the tenant of its first alert.
- A stored bulk response over 256 KiB has the `id` of each alert in place of `alert`. If it is still larger, it has no
  details of errors either.
- With a key, a bulk request is executed as a whole or not at all. The key of a dry run is validated, but nothing is
  stored. A stream with a key is 422.

A request with a key takes a database transaction of its own, so it costs more.
"""

CONCURRENCY = """
## Concurrency control

Each transition has exactly one winner when clients race for it. A response with a single alert has an `ETag`, which is
different after every change of the alert.

- `If-Match` on acknowledge and resolve: 412 if the alert has changed since. Bulk transitions reject it with 422.
- `If-None-Match` on `GET /alerts/{alert_id}`: 304 without a body if the alert has not changed.
"""

RATE_LIMITS = """
## Rate limits

A limit is set by the operator, for each tenant (`AS_ALERTS_RATE_LIMIT_TENANT`) and for each service key
(`AS_ALERTS_RATE_LIMIT_KEY`). With `100/minute`, 100 requests may be sent at once, and 100 more in each minute after
that. A request above the limit is 429: the detail names the limit, and `Retry-After` the seconds to wait.

- A request counts for the tenant of its token, otherwise for the tenant that it names.
- A request that is 401, 413, 415 or 422, or was sent by a page of another site, does not count. A 422 about its
  `Idempotency-Key` does.
- A bulk request counts once for each tenant in it. A stream counts once for each chunk, of at most 250 lines.
- A request below `/internal` with a valid service key counts once for this key only, whatever its body and response
  are.
- Each process counts by itself, so N processes admit up to N times as many requests. A limit keeps at most 131,072
  tenants or keys (20 MiB) and evicts those that have used least of it: naming other tenants does not reset a limit.
"""

LIMITS = """
## Limits

| What | Limit | Response |
|---|---|---|
| `rule_name`, `dedup_key` | 255 characters | 422 |
| `message`, `note` | 10,000 characters | 422 |
| body | 1 MiB | 413 |
| line of a stream | 64 KiB | 413 as the last result |
| request line and headers | 64 KiB | 431, connection closed |
| time for the head of a request, then for its body or next line | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | 408, closed |
| time to read 64 KiB of a response, or the rest of it | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | connection closed |
| pipelined requests waiting on a connection | 100 | connection closed after them |
| idle connection | 75 s; before its first request `AS_ALERTS_REQUEST_TIMEOUT` | connection closed |
| request bodies in progress in a process | 64 MiB | 503 with `Retry-After` |
| responses over 64 KiB in a process, not yet sent | `AS_ALERTS_SEND_BUFFER_MIB` (128 MiB) | 503 |

While the send buffer is full, bulk requests are rejected with `Retry-After` before they change anything, and so is
every read with a response over 64 KiB. A 503 without `Retry-After` means here that the change was made, but its
response did not fit.

Bodies are UTF-8 JSON without compression. A body without a `Content-Type` is read as JSON; any other type than JSON is
415. Unknown fields are 422. `HEAD` is allowed wherever `GET` is; `OPTIONS` lists the methods of a path in `Allow`.

The command `alerts-service` sets the limits of request line and headers (size and time), pipelined requests, idle
connections and slow readers. Another ASGI server has its own in their place; the other limits hold there too.
"""

BROWSERS = """
## Browsers

A request that changes something is rejected with 403 if `Sec-Fetch-Site` or `Origin` shows that a page of another
origin (host and port) sent it. Pages of the origins in `AS_ALERTS_CORS_ORIGINS` may send requests and read the
responses. A browser must declare a body as `application/json`, or a stream as `application/x-ndjson`; otherwise the
response is 415. Clients that are not browsers are not affected.

Where `AS_ALERTS_ALLOWED_HOSTS` is set, a request with another `Host` is rejected with 400 on every path, which prevents
DNS rebinding. IP addresses and `localhost` are always allowed.

Every response has `X-Content-Type-Options: nosniff` and `Cache-Control: no-store`, except that `GET /alerts/{alert_id}`
has `private, no-cache`, and that the files of `/docs` may be cached.
"""

REQUEST_IDS = """
## Request ids

Every response has an `X-Request-ID`. It is the one of the request, if that has at most 128 letters, digits and
`_.:/+=@-`; otherwise the service creates one. Every log line and every event of the request carries it.
"""

TAGS = {
    "alerts": """
Create, list, acknowledge and resolve single alerts.

The status of an alert goes from `triggered` to `acknowledged` to `resolved`, or from `triggered` directly to
`resolved`. It never goes back, except that a duplicate of higher severity triggers an acknowledged alert again.
Repeating a transition with the same note, or without one, returns 200 and changes nothing; an empty note is a note.
With another note the response is 409.

`severity` is `low`, `medium`, `high` or `critical`; the default is `medium`.
""",
    "bulk": """
Create or change up to 1,000 alerts in one request, or create any number in a stream.

The response is 200 with one result per item, in the order of the request: the status, and the alert or the error that a
request for this item alone would have returned. If the database fails on some items, each result reports its own
outcome: done, unknown, or not executed, the last with `retry_after` in seconds.
""",
    "history": """
The events of alerts. Every change of an alert is an event, which is committed with the change.

An event has its type (`created`, `acknowledged`, `resolved`, `repeated` for a duplicate, `escalated` for a duplicate
that raised the severity), the status before and after, the note or the message of the duplicate, the actor, the id
of the request, the time, and its number among the events of the alert. The actor is `token:` with the subject of the
token, `service` for a service key, or `anonymous`. The database rejects every change of an event, and its deletion
while its alert exists.
""",
    "stats": """
Counters of the alerts of a tenant, by status. They are updated with each change of an alert.
""",
    "internal": """
The operations for internal services, with a service key in `x-service-key`. They are the same as the operations without
`/internal`, for the alerts of every tenant. While a key is being replaced, the service accepts the old and the new one.
""",
    "health": """
Health checks, without authentication. Load balancers should use `/health`, which includes the database. Process
managers should use `/health/live`, which does not.
""",
}


def text(*, tokens: bool) -> str:
    """Return the guide. With `tokens`, tenant operations require the token of a tenant."""
    sections = (
        INTRODUCTION,
        QUICK_START % {"options": QUICK_START_AUTHORIZATION if tokens else ""},
        AUTHENTICATION,
        WITH_TOKENS if tokens else WITHOUT_TOKENS,
        ERROR_RESPONSES,
        PAGINATION,
        FILTERING,
        DEDUPLICATION,
        IDEMPOTENCY,
        CONCURRENCY,
        RATE_LIMITS,
        LIMITS,
        BROWSERS,
        REQUEST_IDS,
    )
    return "\n".join(section.strip("\n") + "\n" for section in sections)
