"""The descriptions of the tags of the OpenAPI document, in Markdown."""

TAGS = {
    "alerts": """
Create, list, acknowledge and resolve single alerts.

The status of an alert changes from `triggered` to `acknowledged` to `resolved`, or from `triggered` directly to
`resolved`. A duplicate of higher severity changes the status of an acknowledged alert back to `triggered`. No other
change back is possible. The response to a repeated transition with the same note, or without a note, is 200, and
nothing is changed. With another note the response is 409. An empty note is a note.

`severity` is `low`, `medium`, `high` or `critical`; the default is `medium`.
""",
    "bulk": """
Create or change up to 1,000 alerts in one request, or create any number in a stream.

The response is 200 with one result per item, in the order of the request. A result has the status, and the alert or
the error, of a separate request for the item. If the database fails for some items, each result has the outcome of its
item. If an item with status 503 was not executed, its result has `retry_after` in seconds.
""",
    "history": """
The events of alerts. Every change of an alert is an event, which is committed with the change.

An event has these fields:

- its type: `created`, `acknowledged`, `resolved`, `repeated` for a duplicate, or `escalated` for a duplicate that
  raised the severity
- the status before and after the change
- the note, or the message of the duplicate
- the actor, see below
- the request ID, the time, and the number of the event among the events of the alert

The actor is `token:` and the subject of the token, or `token` if the token has no subject. For a service key the actor
is `service`, and for a client without a token `anonymous`. For a change before the history was introduced, the actor is
`unknown`.

The database rejects every change of an event, and the deletion of an event whose alert exists.
""",
    "stats": """
Counters of the alerts of a tenant, by status. They are updated with each change of an alert.
""",
    "internal": """
The operations for internal services, which require a service key in `x-service-key`. Each operation is the same as the
operation without `/internal`, but applies to the alerts of every tenant. While a key is being replaced, the service
accepts the old key and the new key.
""",
    "health": """
Health checks, which require no authentication. Load balancers should use `/health`, which checks the database. Process
managers should use `/health/live`, which does not use the database.
""",
}
