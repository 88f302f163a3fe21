"""Structs of the history routes."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

EventType = Literal["created", "acknowledged", "resolved", "repeated", "escalated"]
Status = Literal["triggered", "acknowledged", "resolved"]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Event(Struct, frozen=True):
    """One change of an alert. It stays as it is."""

    id: UUID
    alert_id: UUID
    tenant_id: UUID
    sequence: Annotated[int, Meta(description="Counts the alert's events, from 1, without gaps.")]
    type: EventType
    from_status: Annotated[Status | None, Meta(description="Null where there was none before.")]
    to_status: Status
    note: Annotated[
        str | None, Meta(description="What was said on acknowledging or resolving, if anything, or a repeat's message.")
    ]
    actor: Annotated[
        str,
        Meta(
            description="Who did it: `token:` and the token's subject, `service` with the service key, `anonymous` "
            "where nobody asks; `unknown` of what is older than the history."
        ),
    ]
    request_id: Annotated[str | None, Meta(description="The `X-Request-ID` of the request that did it.")]
    occurred_at: Time


EXAMPLE = Event(
    id=UUID("7d0f7f1e-2d8f-4b5e-9c61-7a8f0e4f2f10"),
    alert_id=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
    tenant_id=UUID("123e4567-e89b-12d3-a456-426614174000"),
    sequence=2,
    type="acknowledged",
    from_status="triggered",
    to_status="acknowledged",
    note="Calling the customer back",
    actor="token:dispatcher@example.com",
    request_id="b9f455429e654012aa64634d3270b310",
    occurred_at="2026-01-05T09:30:00+00:00",
)


class Page(Struct, frozen=True):
    """A page of events: their JSON, and the place of the last where more follow."""

    events: str
    last_occurred_at: datetime | None
    last_alert_id: UUID | None
    last_sequence: int | None
