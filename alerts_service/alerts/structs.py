"""What goes in and out of the alert routes."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct
from msgspec.structs import replace

Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["triggered", "acknowledged", "resolved"]

# PostgreSQL's text holds every character but NUL.
NO_NUL = "^[^\\x00]*$"

# RFC 3339, with its offset, as PostgreSQL writes it within row_to_json.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
DedupKey = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=NO_NUL, examples=["missed_call:+15550100"]),
]
Note = Annotated[str, Meta(max_length=10_000, pattern=NO_NUL, examples=["Calling the customer back"])]


class CreateAlert(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An alert to be recorded."""

    tenant_id: Annotated[UUID, Meta(examples=["123e4567-e89b-12d3-a456-426614174000"])]
    rule_name: Annotated[str, Meta(min_length=1, max_length=255, pattern=NO_NUL, examples=["missed_call"])]
    message: Annotated[
        str,
        Meta(min_length=1, max_length=10_000, pattern=NO_NUL, examples=["Missed call not returned in 15 minutes"]),
    ]
    severity: Severity = "medium"
    dedup_key: Annotated[
        DedupKey | None, Meta(description="While the tenant has an open alert with this key, this is a repeat of it.")
    ] = None


class NoteRequest(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What somebody has to say on acknowledging or resolving; it may be nothing."""

    note: Note | None = None


class Created(Struct, frozen=True):
    """What the database decides of a new alert."""

    created_at: Time


class Page(Struct, frozen=True):
    """A page of a list: the JSON of its alerts, and the place of the last where more follow.

    The alerts are None where the statement leaves a page of long texts to another one.
    """

    alerts: bytes | None
    last_created_at: datetime | None
    last_id: UUID | None


class Alert(Struct, frozen=True, omit_defaults=True):
    """An alert as it stands. Times are in UTC. What is about repeats is there where it has a `dedup_key`."""

    id: UUID
    tenant_id: UUID
    rule_name: Annotated[str, Meta(description="The rule that raised it; empty only on a row older than the service.")]
    message: str
    severity: Severity
    status: Annotated[Status, Meta(description="It moves forward; only a repeat of higher severity triggers it again.")]
    created_at: Time
    updated_at: Annotated[Time, Meta(description="When it last changed; at first, when it was recorded.")]
    acknowledged_at: Annotated[Time | None, Meta(description="Null until it is acknowledged.")]
    acknowledgment_note: Annotated[str | None, Meta(description="What was said on acknowledging, if anything.")]
    resolved_at: Annotated[Time | None, Meta(description="Null until it is resolved.")]
    resolution_note: Annotated[str | None, Meta(description="What was said on resolving, if anything.")]
    dedup_key: Annotated[str | None, Meta(description="The key that it was recorded with.")] = None
    occurrences: Annotated[int | None, Meta(description="How many times it was reported, by its repeats too.")] = None
    first_seen_at: Annotated[Time | None, Meta(description="When it was reported first: as `created_at`.")] = None
    last_seen_at: Annotated[Time | None, Meta(description="When it was reported last.")] = None


EXAMPLE = Alert(
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

MERGED_EXAMPLE = replace(
    EXAMPLE,
    updated_at="2026-01-05T09:45:00+00:00",
    dedup_key="missed_call:+15550100",
    occurrences=3,
    first_seen_at="2026-01-05T09:15:00+00:00",
    last_seen_at="2026-01-05T09:45:00+00:00",
)
