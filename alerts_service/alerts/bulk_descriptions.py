"""Descriptions of the bulk operations in the OpenAPI document, in Markdown."""

_RESPONSE_SIZE = """**Size of the response.** The first 4 MiB of results contain complete alerts. Later results have \
`id` in place of `alert`. While responses that wait to be sent fill the send buffer (`AS_ALERTS_SEND_BUFFER_MIB`), a \
request with a JSON body is rejected with 503 and `Retry-After` before anything is changed."""

_DATABASE_FAILURE = """**Database failures.** If the database fails during the request, each result reports its own \
item. With 200 or 201 the change is committed. With 500, or with 503 and no `retry_after`, the outcome is unknown: the \
change may have been committed. With `retry_after` nothing was changed: send the item again after that many seconds."""

_IDEMPOTENCY = """**Idempotency.** With an `Idempotency-Key` the changes of the request and its response are committed \
together or not at all. If the database fails, the request is rejected as a whole: repeat it with the same key. A \
response over 256 KiB is replayed with `id` in place of `alert`, and without the `detail` of errors if it is still \
over 256 KiB. """

CREATE_DESCRIPTION = f"""Creates up to 1,000 alerts from a JSON list of at most 1 MiB, or any number from an NDJSON \
stream.

Each item has the fields of the body of `POST /alerts` and is processed as if it were sent alone: an invalid item does \
not affect the others. The response is 200 with one result for each item, in the order of the items. An alert with \
status 200 or 201 is committed.

| `status` of a result | Meaning |
|---|---|
| 201 | The alert was created. |
| 200 | The alert is a duplicate: it was merged into the open alert with the same `dedup_key`. |
| 403 | The alert belongs to another tenant than the token. |
| 422 | The item is invalid; `detail` names the field and the reason. |
| 429 | The tenant has reached its rate limit; send the item again after `retry_after` seconds. |
| 500, 503 | The database failed, see below. |

{_DATABASE_FAILURE}

{_RESPONSE_SIZE} It is rejected in the same way if too many bulk requests are queued.

{_IDEMPOTENCY}The request is also rejected as a whole, with 429, if one of its tenants has reached its rate limit. A \
key belongs to the tenant of the token, or without tokens to the tenant of the first valid alert.

**Rate limits.** A request counts once for the tenant of the token, or without tokens once for each tenant that its \
alerts name. Below `/internal` it counts for the service key alone.

**NDJSON streams.** With `Content-Type: application/x-ndjson` each line of the body is one alert of at most 64 KiB. \
The body may have any number of lines and any size. The response is a stream of the same type with one line for each \
alert, such as `{{"status":201,"id":"…"}}`, sent while the body is still being received:

```sh
curl -H 'Content-Type: application/x-ndjson' --data-binary @alerts.ndjson http://localhost:3101/alerts/bulk
```

* Read the response while sending the body, as curl does. The service stops reading from a client that does not read \
the response, and finally closes the connection.
* An alert whose result was sent is committed, even if the client disconnects afterwards.
* A line over 64 KiB has the last result, with status 413. The lines after it are not processed.
* If the token expires, the stream ends with one result of status 401. The remaining lines are not processed.
* If the next line does not arrive within `AS_ALERTS_REQUEST_TIMEOUT`, the last result has status 408, and if the body \
is malformed HTTP, 400. The connection is closed. Before the first result, this is the status of the response.
* If the service shuts down, the last result has status 503.
* Lines are processed in chunks: the lines that have arrived, 250 at most. For the rate limit of a tenant each chunk \
counts as one request.
* `Idempotency-Key` is not supported: the response is 422.
"""

_DRY_RUN = """**Dry run.** With `"dry_run": true` the response has the results that the request would have, with the \
alerts as they are. Nothing is changed. An `Idempotency-Key` of a dry run is validated, but nothing is stored for it."""


def _describe_transition(verb: str, condition: str) -> str:
    return f"""{verb.capitalize()}s up to 1,000 alerts, with one note for all. `ids` or a `filter` selects them.

**By ids.** The response has one result for each id, in the order of the ids. Each id is processed as if it were sent \
alone to `PUT /alerts/{{alert_id}}/{verb}`, and its `status` is the status of that response: 200, or 404 for an \
unknown alert, 409 if the workflow does not allow the transition, 422 for an invalid id. An id that occurs several \
times is changed once, and all its results are the same. With the query parameter `tenant_id`, or with a token, the \
alerts of other tenants are unknown.

**By filter.** The filter selects the oldest 1,000 alerts of `filter.tenant_id` that {condition} and match all of \
`status`, `severity`, `rule_name`, `created_after` (inclusive) and `created_before` (exclusive) that are set. Each of \
these has a single value. The response has one result for each alert, oldest first. An alert that another request \
changes after the filter has found it is left as it is and has no result. If `more` is true, further alerts match or \
some were left as they are: send the same request again until `more` is false.

{_DRY_RUN}

{_DATABASE_FAILURE}

{_RESPONSE_SIZE}

{_IDEMPOTENCY}A key belongs to the tenant of the token, else to `filter.tenant_id` or the query parameter `tenant_id`, \
else to the tenant of the first id whose alert exists.

**Rate limits.** A request counts once for the tenant of the token, or without tokens for `filter.tenant_id` or the \
query parameter `tenant_id`. Below `/internal` it counts for the service key alone.

`If-Match` is not supported, because an entity tag belongs to a single alert: the response is 422.
"""


ACKNOWLEDGE_DESCRIPTION = _describe_transition("acknowledge", "are triggered")
RESOLVE_DESCRIPTION = _describe_transition("resolve", "are not resolved")
