"""The guide of the OpenAPI document in Markdown: the rules that apply to all operations.

A test runs the commands of the quick start, with another URL and alert ID.
"""

INTRODUCTION = """
as-alerts-service stores the alerts of NeverMissCall. Other services create alerts ("missed call not returned in 15
minutes"); people list, acknowledge and resolve them. Every alert belongs to a tenant.
"""

QUICK_START = """
## Quick start

Create an alert, list the alerts of the tenant, acknowledge the alert, and count the alerts:

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

In the third command, replace the ID in the URL with the `id` in the response to the first command. If the response has
status 201, the alert is committed.
"""
QUICK_START_AUTHORIZATION = ' \\\n  -H "Authorization: Bearer $TOKEN"'

AUTHENTICATION = """
## Authentication

Operations below `/internal` require a service key in the `x-service-key` header. Without a valid key the response is
401.
"""
WITHOUT_TOKENS = """
All other operations are open to every client that can reach the service, so run the service in a private network. The
tenant is the `tenant_id` in the request. To require tenant tokens, set `TENANT_JWT_SECRET` or `TENANT_JWT_PUBLIC_KEY`.
"""
WITH_TOKENS = """
Operations on alerts, history and statistics require a tenant token: `Authorization: Bearer …` with a JSON Web Token.
The token must have a `tenant_id` and an `exp` in the future. The history contains the optional `sub` of the token. A
token with an `aud` claim is rejected, even if the claim is null or empty. Without a valid token the response is 401.

A token gives access to the alerts of its tenant only. An alert of another tenant is treated as unknown: the response is
404, an empty list, or counts of zero. The response to a request that creates an alert for another tenant is 403.
`/health`, `/docs` and `/openapi.json` require no token.
"""

ERROR_RESPONSES = """
## Errors

The body of every error is `{"error": "…", "detail": "…"}`. `error` is a fixed text for each kind of error. `detail` is
the cause of the error in this request, or null. For a validation error, `detail` names the field, parameter or header
and the reason.

| Status | `error` | Retry? |
|---|---|---|
| 400 | Bad request | No. The `Host` is not allowed (see Browsers), or the request is not valid HTTP. |
| 401 | Unauthorized | With a valid key or token. |
| 403 | Forbidden | No. The tenant is not the token's, or a page of another origin sent the request (see Browsers). |
| 404 | Alert not found | No. |
| 404 | Not found | No. The path does not exist. |
| 405 | Method not allowed | No. The `Allow` header lists the methods of the path. |
| 408 | Request timeout | Yes. The request did not arrive in time. The connection is closed. |
| 409 | Conflict | No. The status of the alert does not allow the transition, or the note differs. |
| 409 | Request in progress | Yes, with the same `Idempotency-Key`, after `Retry-After`. |
| 412 | Precondition failed | With the present `ETag` of the alert. |
| 413 | Body too large | No. |
| 413 | Line too long | No. The stream ends at this line. |
| 415 | Unsupported media type | No. |
| 422 | Validation error | No. |
| 429 | Too many requests | Yes, after `Retry-After`. |
| 431 | Head too large | No. The connection is closed. |
| 500 | Database connection error | Reads: yes. Changes: the outcome is unknown. |
| 500 | Internal server error | Reads: yes. Changes: the outcome is unknown. |
| 503 | Service unavailable | With `Retry-After`: yes, nothing was changed. Changes without: the outcome is unknown. |

A 400 for invalid HTTP is possible for every operation: the request line, a header or a chunk of the body is malformed.
The connection is closed.

**The outcome is unknown** if the change may have been committed. This is the case after a 500, after a 503 without
`Retry-After`, and if no response arrives. Repeat such a request with the same `Idempotency-Key`: the service executes
the request once. A transition may also be repeated without a key: the second request changes nothing unless the alert
has changed between the two requests. While the alert is open, a repeated create with a `dedup_key` adds at most one
occurrence.

If the database cannot be reached, an operation that uses the database returns 500. If the database has no capacity in
time, the operation returns 503. During a shutdown, unfinished requests receive 503. For a change, this 503 has no
`Retry-After`.
"""

PAGINATION = """
## Pagination

A page has at most 50 items, or fewer if the texts of its alerts exceed 1 MB. If there are more items, the response has
a header `Link: <…>; rel="next"` with the URL of the next page, relative to this service. Use this URL without changes:
its `cursor` is opaque. A page of a search may be empty and still have a next page.
"""

FILTERING = """
## Filtering and search

Filters are combined: an alert must match all filters. `status` and `severity` accept several values, separated by
commas. Times have the format of RFC 3339, with `Z` or an offset. In a query, write `+` as `%2B`. A range includes its
start (`created_after`, `since`) and excludes its end (`created_before`, `until`). Unknown and repeated parameters are
rejected with 422, except by health checks.

`q` has 1 to 200 characters. The rule name and the message are searched for whole words. Case is ignored. For letters
beyond A to Z, this depends on the locale of the database.

| `q` | Matches alerts with |
|---|---|
| `missed call` | both words, in any order |
| `"not returned"` | this phrase |
| `fax or voicemail` | at least one of the words |
| `missed -test` | the word `missed`, but not the word `test` |

Words consist of letters, digits and combining marks. Every other character separates words, so `555-0100` is a phrase.
If `q` contains no letter or digit, no alert matches.

A page of a search examines the next 1,000 alerts that match the other filters. The page examines fewer alerts if their
messages exceed 200 kB, or if `q` has more than eight terms. A phrase is one term.
"""

DEDUPLICATION = """
## Deduplication

A tenant has at most one open alert for each `dedup_key`. The response to the first create is 201. While the alert is
open, every further create with the key is a duplicate. The response is 200 with the open alert. A duplicate increases
`occurrences` by one and does not change the message. If the duplicate has a higher severity, the alert takes this
severity, and an acknowledged alert is triggered again. When the alert is resolved, the key is free for a new alert.

Concurrent duplicates may be processed together. Each response then has the alert after all of these duplicates. Only an
alert with a key has the fields `dedup_key`, `occurrences`, `first_seen_at` and `last_seen_at`.
"""

IDEMPOTENCY = """
## Idempotency

With an `Idempotency-Key` header, a POST or PUT is safe to repeat for 24 hours: all processes of the service together
execute the request once. The key has 1 to 255 visible ASCII characters, with or without quotes around them. A repeated
request returns the stored first response, with its `ETag` and `Idempotent-Replayed: true`.

- Successful responses and responses with 404, 409 or 412 are stored. After any other response the key is free again.
- A request with a used key, but with another body, query or `If-Match`, is rejected with 422.
- While the first request is being processed, the response is 409 "Request in progress" with `Retry-After`.
- A key belongs to a method, a path and a tenant. This is the tenant of the token, otherwise the tenant that the request
  names, otherwise the tenant of the first alert of the request.
- The stored response is identical to the first response, except for bulk responses over 256 KiB. These are stored with
  the `id` of each alert in place of `alert`. If this response still exceeds 256 KiB, error details are omitted as well.
- With a key, a bulk request is executed as a whole or not at all. The key of a dry run is validated, but nothing is
  stored. A stream with a key is rejected with 422.

A request with a key is slower, because the service executes the request in a separate database transaction.
"""

CONCURRENCY = """
## Concurrency control

If several clients request the same transition at the same time, exactly one request changes the alert. A response with
a single alert has an `ETag`, which every change of the alert changes.

- `If-Match` on acknowledge and resolve: if the alert has changed, the response is 412. A bulk transition with
  `If-Match` is rejected with 422.
- `If-None-Match` on `GET /alerts/{alert_id}`: if the alert has not changed, the response is 304 without a body.
"""

RATE_LIMITS = """
## Rate limits

The operator may set a limit for each tenant (`AS_ALERTS_RATE_LIMIT_TENANT`) and for each service key
(`AS_ALERTS_RATE_LIMIT_KEY`). With `100/minute`, a client may send 100 requests at once, and then 100 in each minute. A
request above the limit is rejected with 429: `detail` names the limit, and `Retry-After` is the number of seconds to
wait.

- A request counts for the tenant of its token, otherwise for the tenant that the request names.
- A request does not count if the response is 401, 413, 415 or 422, or if a page of another origin sent the request. A
  422 that is caused by the `Idempotency-Key` counts.
- A bulk request counts once for each tenant in the request. A stream counts once for each chunk of at most 250 lines.
- A request below `/internal` with a valid service key always counts once, and only for this key.
- Each process counts separately, so N processes accept up to N times as many requests.
- Each process stores the counts of at most 131,072 tenants or keys. Counts far from the limit are deleted first, so
  requests that name other tenants do not reset a limit.
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
| time to send the request line and headers | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | 408, connection closed |
| time to send the body, or the next line of a stream | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | 408, connection closed |
| time to read the next 64 KiB of a response | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | connection closed |
| pipelined requests on a connection | 100 | connection closed after these requests |
| idle time of a connection before the first request | `AS_ALERTS_REQUEST_TIMEOUT` (10 s) | connection closed |
| idle time of a connection between requests | 75 s | connection closed |
| request bodies in a process | 64 MiB | 503 with `Retry-After` |
| unsent responses over 64 KiB in a process (send buffer) | `AS_ALERTS_SEND_BUFFER_MIB` (128 MiB) | 503 |

While the send buffer is full, a bulk request with a JSON body is rejected with 503 and `Retry-After` before anything is
changed. A read with a response over 64 KiB is rejected in the same way. If the response to a change exceeds the send
buffer, the change was made, but the response is 503 without `Retry-After`.

Bodies are UTF-8 JSON without compression. A body without a `Content-Type` is read as JSON. A body with another type is
rejected with 415. An unknown field is rejected with 422. `HEAD` is allowed on every path that allows `GET`. The
response to `OPTIONS` lists the methods of the path in `Allow`.

The command `alerts-service` sets the limits of the request line and headers, pipelined requests, idle connections and
the time to read a response. Other ASGI servers have different limits in place of these. The remaining limits apply with
every server.
"""

BROWSERS = """
## Browsers

A POST or PUT is rejected with 403 if its `Sec-Fetch-Site` or `Origin` header shows that a page of another origin sent
the request. Pages of the origins in `AS_ALERTS_CORS_ORIGINS` may send requests and read the responses. A browser must
declare a body as `application/json`, or a stream as `application/x-ndjson`. Otherwise the response is 415. Other
clients are not affected.

If `AS_ALERTS_ALLOWED_HOSTS` is set, a request with another `Host` is rejected with 400 on every path, which prevents
DNS rebinding. IP addresses and `localhost` are always allowed.

Every response has `X-Content-Type-Options: nosniff`, and `Cache-Control: no-store` with two exceptions. The
`Cache-Control` of `GET /alerts/{alert_id}` is `private, no-cache`, and the files of `/docs` may be cached.
"""

REQUEST_IDS = """
## Request IDs

Every response has an `X-Request-ID` header with the request ID. If the request has this header with at most 128
letters, digits and `_.:/+=@-`, the value is the request ID. Otherwise the service creates a request ID. Every log line
and every event of the request has the request ID.
"""


def text(*, tokens: bool) -> str:
    """Return the guide. `tokens` is whether the tenant operations require a tenant token."""
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
