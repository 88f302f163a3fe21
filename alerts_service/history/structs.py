"""Response Structs of the history routes."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from alerts_service.alerts.structs import Status, Timestamp

EventType = Literal["created", "acknowledged", "resolved", "repeated", "escalated"]


class Event(Struct, frozen=True):
    """A change of an alert. The database rejects updates of events, and their deletion while the alert exists."""

    id: Annotated[UUID, Meta(description="The id of the event.")]
    alert_id: Annotated[UUID, Meta(description="The alert that changed.")]
    tenant_id: Annotated[UUID, Meta(description="The tenant that the alert belongs to.")]
    sequence: Annotated[
        int, Meta(description="The number of the event within the history of its alert, from 1 and without gaps.")
    ]
    type: Annotated[
        EventType,
        Meta(
            description="The change. `created`, `acknowledged` and `resolved`: the alert was created or its status "
            "changed. `escalated`: a duplicate raised the severity. `repeated`: a duplicate did not raise the "
            "severity."
        ),
    ]
    from_status: Annotated[Status | None, Meta(description="The status before the event. Null for the type `created`.")]
    to_status: Annotated[Status, Meta(description="The status after the event.")]
    note: Annotated[
        str | None,
        Meta(
            description="For `acknowledged` and `resolved`: the note, or null without a note. For `repeated` and "
            "`escalated`: the message of the duplicate. For `created`: null."
        ),
    ]
    actor: Annotated[
        str,
        Meta(
            description="The client. With a tenant token: `token:` and the subject of the token, or `token` without a "
            "subject. With a service key: `service`. If no token is required: `anonymous`. In events that were added "
            "for alerts older than the history: `unknown`."
        ),
    ]
    request_id: Annotated[
        str | None,
        Meta(
            description="The request ID (`X-Request-ID`). Null in events that were added for alerts older than the "
            "history."
        ),
    ]
    occurred_at: Annotated[Timestamp, Meta(description="The time of the change.")]


EVENT_EXAMPLE = Event(
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


class EventPage(Struct, frozen=True):
    """A page of events: the events as JSON, and the sort key of the last event if more events follow."""

    events: str
    last_occurred_at: datetime | None
    last_alert_id: UUID | None
    last_sequence: int | None
