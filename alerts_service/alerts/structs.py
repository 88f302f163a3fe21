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

# RFC 3339 with an offset, in the format of the SQL function rfc3339.
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
            description="The deduplication key, which identifies the problem behind the alert. While the tenant "
            "has an open alert with this key, the request is a duplicate: it adds an occurrence to the open alert "
            "and creates no new alert."
        ),
    ] = None


class TransitionRequest(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The optional body of a status transition. Unknown fields are rejected with 422."""

    note: Annotated[
        Note | None,
        Meta(description="A note to store with the transition. An empty string is a note. Null means no note."),
    ] = None


class CreatedRow(Struct, frozen=True):
    """A row of alerts/create: the values of a new alert that the database sets."""

    created_at: Timestamp


class AlertPage(Struct, frozen=True):
    """A page of a list: the alerts as JSON, and the sort key of the last alert if more alerts follow.

    `alerts` is None if one of the up to 51 alerts that were read has a long text: alerts/search must then fetch the
    page.
    """

    alerts: bytes | None
    last_created_at: datetime | None
    last_id: UUID | None


class Alert(Struct, frozen=True, omit_defaults=True):
    """The present state of an alert, with times in UTC. Only an alert with a `dedup_key` has the last four fields."""

    id: Annotated[
        UUID, Meta(description="The id of the alert: a UUID, of version 7 if this service created the alert.")
    ]
    tenant_id: Annotated[UUID, Meta(description="The tenant that the alert belongs to.")]
    rule_name: Annotated[
        str,
        Meta(
            description="The name of the rule that raised the alert. The name may be empty in alerts older than "
            "this service."
        ),
    ]
    message: Annotated[str, Meta(description="What happened, as plain text for the people who handle the alert.")]
    severity: Annotated[
        Severity,
        Meta(description="How urgent the alert is. A duplicate may raise the severity. The severity is never lowered."),
    ]
    status: Annotated[
        Status,
        Meta(
            description="The status in the workflow `triggered` → `acknowledged` → `resolved`. A triggered alert "
            "may also be resolved directly. Only a duplicate of higher severity reverts a status, from "
            "`acknowledged` to `triggered`."
        ),
    ]
    created_at: Annotated[Timestamp, Meta(description="When the alert was created.")]
    updated_at: Annotated[
        Timestamp,
        Meta(
            description="When the alert last changed. For a new alert, the value of `created_at`. Every change "
            "sets a new value."
        ),
    ]
    acknowledged_at: Annotated[
        Timestamp | None,
        Meta(description="When the alert was acknowledged, or null. A return to `triggered` sets the value to null."),
    ]
    acknowledgment_note: Annotated[
        str | None, Meta(description="The note of the acknowledgment, or null if there is no note.")
    ]
    resolved_at: Annotated[
        Timestamp | None, Meta(description="When the alert was resolved, or null if the alert is open.")
    ]
    resolution_note: Annotated[str | None, Meta(description="The note of the resolution, or null if there is no note.")]
    dedup_key: Annotated[str | None, Meta(description="The deduplication key that the alert was created with.")] = None
    occurrences: Annotated[
        int | None,
        Meta(
            description="The number of requests with this key while the alert was open: the create and its duplicates."
        ),
    ] = None
    first_seen_at: Annotated[
        Timestamp | None, Meta(description="When the first occurrence was received. The same value as `created_at`.")
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
