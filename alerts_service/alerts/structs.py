"""Request and response Structs of the alert routes."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct
from msgspec.structs import replace

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["triggered", "acknowledged", "resolved"]

# PostgreSQL's type text accepts every character but NUL.
NO_NUL = "^[^\\x00]*$"

# RFC 3339 with an offset, as row_to_json of PostgreSQL writes it.
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
DedupKey = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=NO_NUL, examples=["missed_call:+15550100"]),
]
Note = Annotated[str, Meta(max_length=10_000, pattern=NO_NUL, examples=["Calling the customer back"])]


class CreateAlert(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The alert to create. Unknown fields are rejected with 422."""

    tenant_id: Annotated[
        UUID,
        Meta(description="The tenant that the alert belongs to.", examples=["123e4567-e89b-12d3-a456-426614174000"]),
    ]
    rule_name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            pattern=NO_NUL,
            description="The name of the rule that raised the alert.",
            examples=["missed_call"],
        ),
    ]
    message: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=10_000,
            pattern=NO_NUL,
            description="What happened, as plain text for the people who handle the alert.",
            examples=["Missed call not returned in 15 minutes"],
        ),
    ]
    severity: Annotated[
        Severity,
        Meta(description="How urgent the alert is. From lowest to highest: `low`, `medium`, `high`, `critical`."),
    ] = "medium"
    dedup_key: Annotated[
        DedupKey | None,
        Meta(
            description="Identifies the problem that the alert is about. While the tenant has an open alert with this "
            "key, the request is a duplicate of it: it counts as an occurrence of the open alert and creates no other."
        ),
    ] = None


class NoteRequest(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The body of a status transition. It may be left out. Unknown fields are rejected with 422."""

    note: Annotated[
        Note | None,
        Meta(description="A note to store with the transition. An empty string is a note; null is none."),
    ] = None


class Created(Struct, frozen=True):
    """The values of a new alert that the database sets."""

    created_at: Timestamp


class AlertPage(Struct, frozen=True):
    """A page of a list: its alerts as JSON, and the position of the last one if there are more.

    `alerts` is None if alerts/list leaves the page, because of a long text, to alerts/search.
    """

    alerts: bytes | None
    last_created_at: datetime | None
    last_id: UUID | None


class Alert(Struct, frozen=True, omit_defaults=True):
    """An alert in its present state, with times in UTC. Only an alert with a `dedup_key` has the last four fields."""

    id: Annotated[UUID, Meta(description="The id of the alert, a UUID of version 7.")]
    tenant_id: Annotated[UUID, Meta(description="The tenant that the alert belongs to.")]
    rule_name: Annotated[
        str,
        Meta(description="The name of the rule that raised the alert. Only alerts older than this service have none."),
    ]
    message: Annotated[str, Meta(description="What happened, as the client described it.")]
    severity: Annotated[
        Severity, Meta(description="How urgent the alert is. A duplicate may raise it; it is never lowered.")
    ]
    status: Annotated[
        Status,
        Meta(
            description="The status in the workflow `triggered` → `acknowledged` → `resolved`. It only moves forward, "
            "with one exception: a duplicate of higher severity returns an acknowledged alert to `triggered`."
        ),
    ]
    created_at: Annotated[Timestamp, Meta(description="When the alert was created.")]
    updated_at: Annotated[
        Timestamp,
        Meta(description="When the alert last changed; at first, as `created_at`. Every change gives it a new value."),
    ]
    acknowledged_at: Annotated[
        Timestamp | None, Meta(description="When the alert was acknowledged, or null if it is not acknowledged.")
    ]
    acknowledgment_note: Annotated[
        str | None, Meta(description="The note of the acknowledgment, or null if there is none.")
    ]
    resolved_at: Annotated[Timestamp | None, Meta(description="When the alert was resolved, or null if it is open.")]
    resolution_note: Annotated[str | None, Meta(description="The note of the resolution, or null if there is none.")]
    dedup_key: Annotated[str | None, Meta(description="The deduplication key that the alert was created with.")] = None
    occurrences: Annotated[
        int | None,
        Meta(description="How many requests with this key the alert stands for: the first and its duplicates."),
    ] = None
    first_seen_at: Annotated[
        Timestamp | None, Meta(description="When the first occurrence was received: as `created_at`.")
    ] = None
    last_seen_at: Annotated[Timestamp | None, Meta(description="When the latest occurrence was received.")] = None


ALERT_EXAMPLE = Alert(
    id=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
    tenant_id=UUID("123e4567-e89b-12d3-a456-426614174000"),
    rule_name="missed_call",
    message="Missed call not returned in 15 minutes",
    severity="medium",
    status="acknowledged",
    created_at="2026-01-05T09:15:00+00:00",
    updated_at="2026-01-05T09:30:00+00:00",
    acknowledged_at="2026-01-05T09:30:00+00:00",
    acknowledgment_note="Calling the customer back",
    resolved_at=None,
    resolution_note=None,
)

TRIGGERED_EXAMPLE = replace(
    ALERT_EXAMPLE,
    status="triggered",
    updated_at=ALERT_EXAMPLE.created_at,
    acknowledged_at=None,
    acknowledgment_note=None,
)

RESOLVED_EXAMPLE = replace(
    ALERT_EXAMPLE,
    status="resolved",
    updated_at="2026-01-05T09:40:00+00:00",
    resolved_at="2026-01-05T09:40:00+00:00",
    resolution_note="Customer reached",
)

DUPLICATE_EXAMPLE = replace(
    ALERT_EXAMPLE,
    updated_at="2026-01-05T09:45:00+00:00",
    dedup_key="missed_call:+15550100",
    occurrences=3,
    first_seen_at="2026-01-05T09:15:00+00:00",
    last_seen_at="2026-01-05T09:45:00+00:00",
)
