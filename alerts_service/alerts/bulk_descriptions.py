"""Descriptions of the bulk operations in the OpenAPI document, in Markdown."""

_RESPONSE_SIZE = """**Size of the response.** The first 4 MiB of results contain complete alerts. Later results \
contain `id` in place of `alert`. If the send buffer (`AS_ALERTS_SEND_BUFFER_MIB`) is full of responses that are not \
yet sent, a request with a JSON body is rejected with 503 and `Retry-After` before anything is changed."""

_DATABASE_FAILURE = """**Database failures.** If the database fails during the request, each result reports the \
outcome of its item:

- 200 or 201: the change is committed.
- 500, or 503 without `retry_after`: the outcome is unknown. The change may have been committed.
- 503 with `retry_after`: nothing was changed. Send the item again after `retry_after` seconds."""

_IDEMPOTENCY = """**Idempotency.** With an `Idempotency-Key`, the changes of the request and the response are \
committed together or not at all. If the database fails, the request is rejected as a whole: send the request again \
with the same key. A stored response over 256 KiB contains `id` in place of `alert`. If the response is still over 256 \
KiB, the stored errors have no `detail`."""

CREATE_DESCRIPTION = f"""Create up to 1,000 alerts from a JSON list of at most 1 MiB, or any number of alerts from an \
NDJSON stream.

Each item has the fields of the body of `POST /alerts` and is processed like a separate request. An invalid item does \
not affect the other items. The response is 200 with one result for each item, in the order of the items. If the \
`status` of a result is 200 or 201, the alert is committed.

| `status` of a result | Meaning |
|---|---|
| 201 | The alert was created. |
| 200 | The item is a duplicate: an occurrence was added to the open alert with the same `dedup_key`. |
| 403 | The `tenant_id` of the item is not the tenant of the token. |
| 422 | The item is invalid. The `detail` names the field and the reason. |
| 429 | The tenant has reached its rate limit. Send the item again after `retry_after` seconds. |
| 500 | The database connection failed, or an unexpected error occurred. The outcome is unknown. |
| 503 | With `retry_after`, nothing was changed. Without `retry_after`, the outcome is unknown. |

{_DATABASE_FAILURE}

{_RESPONSE_SIZE} If too many bulk requests are queued, a request with a JSON body is also rejected with 503 and \
`Retry-After`.

{_IDEMPOTENCY} If a tenant in the list has reached its rate limit, a request with a key is rejected as a whole with \
429. A key belongs to the tenant of the token, or without tokens to the tenant of the first valid alert.

**Rate limits.** With a token, a request counts once for the tenant of the token. Without tokens, a request counts \
once for each tenant that its alerts name. Below `/internal`, a request counts only for the service key.

**NDJSON streams.** With `Content-Type: application/x-ndjson`, each line of the body is one alert of at most 64 KiB. \
The number of lines and the size of the body are not limited. The response is a stream of the same type with one line \
for each alert, such as `{{"status":201,"id":"…"}}`. Results are sent while the body is still being received:

```sh
curl -H 'Content-Type: application/x-ndjson' --data-binary @alerts.ndjson http://localhost:3101/alerts/bulk
```

* Read the response while sending the body, as curl does. If the client does not read the response, the service stops \
reading the body and finally closes the connection.
* If the result of an alert was sent with status 200 or 201, the alert is committed, even if the client disconnects \
afterwards.
* A line over 64 KiB ends the stream: the last result has status 413. Later lines are not processed.
* If the token expires, the last result has status 401. The remaining lines are not processed.
* If the next line does not arrive within `AS_ALERTS_REQUEST_TIMEOUT`, the last result has status 408 and the \
connection is closed. If no result was sent before, the response has status 408.
* If the body is malformed HTTP, the last result has status 400 and the connection is closed. If no result was sent \
before, the response has status 400.
* If the service shuts down, the last result has status 503.
* Lines are processed in chunks. A chunk consists of the lines that have arrived, at most 250. For the rate limit of a \
tenant, each chunk counts as one request.
* `Idempotency-Key` is not supported: the response is 422.
"""

_DRY_RUN = """**Dry run.** With `"dry_run": true`, nothing is changed. The response contains the results that the \
request would return, with the alerts in their present state. The `Idempotency-Key` of a dry run is validated, but the \
response is not stored."""


def _describe_transition(verb: str, condition: str) -> str:
    return f"""{verb.capitalize()} up to 1,000 alerts, all with the same note. The alerts are selected by `ids` \
or by a `filter`.

**By ids.** The response contains one result for each id, in the order of the ids. Each id is processed like a \
separate request to `PUT /alerts/{{alert_id}}/{verb}`, and the result has the status of that response:

| `status` of a result | Meaning |
|---|---|
| 200 | The alert has the new status. |
| 404 | The alert is unknown. |
| 409 | The workflow does not allow the transition, or the alert already has the status with another note. |
| 422 | The id is invalid. |
| 500, 503 | The database failed, see below. |

If an id occurs several times, the alert is changed once, and all its results are the same. With a token or the query \
parameter `tenant_id`, the alerts of other tenants are unknown.

**By filter.** The filter selects the 1,000 oldest alerts of `filter.tenant_id` that {condition} and match every \
condition that is set: `status`, `severity`, `rule_name`, `created_after` (inclusive) and `created_before` \
(exclusive). Each condition has a single value. If the query parameter `tenant_id` differs from `filter.tenant_id`, no \
alert matches.

The response contains one result for each alert, oldest first. If another request changes an alert after the filter \
was evaluated, the alert is skipped and has no result. `more` is true if further alerts match or alerts were skipped. \
In this case send the request again, with a new `Idempotency-Key` if you use one, until `more` is false. Do not repeat \
a dry run: its `more` stays true.

{_DRY_RUN}

{_DATABASE_FAILURE}

{_RESPONSE_SIZE}

{_IDEMPOTENCY} A key belongs to the tenant of the token. Without tokens, the key belongs to `filter.tenant_id` or the \
query parameter `tenant_id`, or else to the tenant of the first id whose alert exists.

**Rate limits.** With a token, a request counts once for the tenant of the token. Without tokens, a request counts \
once for `filter.tenant_id` or the query parameter `tenant_id`, if the request names one of them. Below `/internal`, a \
request counts only for the service key.

`If-Match` is not supported, because an entity tag belongs to a single alert: the response is 422.
"""


ACKNOWLEDGE_DESCRIPTION = _describe_transition("acknowledge", "are triggered")
RESOLVE_DESCRIPTION = _describe_transition("resolve", "are not resolved")
