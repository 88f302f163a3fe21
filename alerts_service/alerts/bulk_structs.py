"""Bodies of the requests and responses of the bulk operations."""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import replace

from alerts_service.alerts.bulk_examples import (
    CREATE_REQUESTS,
    CREATE_RESULTS,
    EXAMPLE_TENANT,
    TRANSITION_REQUESTS,
    TRANSITION_RESULTS,
)
from alerts_service.alerts.structs import NO_NUL, Alert, Note, Severity, Status
from alerts_service.errors import ErrorResponse
from alerts_service.web.responses import encode

MAX_ITEMS = 1000
RuleName = Annotated[str, Meta(min_length=1, max_length=255, pattern=NO_NUL, examples=["missed_call"])]
AwareDatetime = Annotated[datetime, Meta(tz=True, examples=["2026-01-05T09:15:00Z"])]


class BulkCreate(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Alerts to create. Each item is validated by itself: an invalid item does not affect the others."""

    alerts: Annotated[
        list[Raw],
        Meta(min_length=1, max_length=MAX_ITEMS, description="The alerts, each like the body of a `POST /alerts`."),
    ]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": CREATE_REQUESTS}
    # At run time an item is any JSON, so that it can have a result of its own.
    field_schema_extra: ClassVar[dict[str, Any]] = {"alerts": {"items": {"$ref": "#/components/schemas/CreateAlert"}}}


class Filter(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Selects alerts of one tenant to which the transition applies. An alert must match every field that is set."""

    tenant_id: Annotated[UUID, Meta(description="The tenant whose alerts are selected.", examples=[EXAMPLE_TENANT])]
    status: Annotated[Status | None, Meta(description="Only alerts with this status.")] = None
    severity: Annotated[Severity | None, Meta(description="Only alerts with this severity.")] = None
    rule_name: Annotated[RuleName | None, Meta(description="Only alerts of exactly this rule.")] = None
    created_after: Annotated[
        AwareDatetime | None, Meta(description="Only alerts created at this time or later, in RFC 3339 with an offset.")
    ] = None
    created_before: Annotated[
        AwareDatetime | None, Meta(description="Only alerts created before this time, in RFC 3339 with an offset.")
    ] = None


class BulkTransition(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Alerts to acknowledge or to resolve, selected by exactly one of `ids` and `filter`."""

    ids: (
        Annotated[
            list[Raw],
            Meta(
                min_length=1,
                max_length=MAX_ITEMS,
                description="Ids of the alerts. Each is validated by itself: an invalid id does not affect the others.",
            ),
        ]
        | UnsetType
    ) = UNSET
    filter: (
        Annotated[Filter, Meta(description="Selects the oldest 1,000 alerts that match and can make the transition.")]
        | UnsetType
    ) = UNSET
    note: Annotated[Note | None, Meta(description="The note that every alert receives.")] = None
    dry_run: Annotated[
        bool, Meta(description="If true, return the results with the alerts as they are, and change nothing.")
    ] = False

    schema_extra: ClassVar[dict[str, Any]] = {
        # Exactly one of the two. With `oneOf` instead, generated Python clients declare the body as Any.
        "if": {"required": ["ids"]},
        "then": {"not": {"required": ["filter"]}},
        "else": {"required": ["filter"]},
        "examples": TRANSITION_REQUESTS,
    }
    # At run time an id is any JSON, so that it can have a result of its own.
    field_schema_extra: ClassVar[dict[str, Any]] = {"ids": {"items": {"type": "string", "format": "uuid"}}}

    def __post_init__(self) -> None:
        """Require exactly one way to select alerts."""
        if (self.ids is UNSET) == (self.filter is UNSET):
            raise ValueError("must have exactly one of ids and filter")


class Result(Struct, frozen=True, kw_only=True):
    """The result of one item. It has an `alert` or an `id` if the item succeeded, else an `error`."""

    status: Annotated[
        int, Meta(description="The HTTP status that a request for this item alone would have received.", examples=[201])
    ]
    alert: Annotated[Alert, Meta(description="The alert after the request.")] | UnsetType = UNSET
    id: (
        Annotated[
            UUID, Meta(description="The id of the alert, in place of `alert`, beyond the first 4 MiB of results.")
        ]
        | UnsetType
    ) = UNSET
    error: (
        Annotated[ErrorResponse, Meta(description="The error that a request for this item alone would have received.")]
        | UnsetType
    ) = UNSET
    retry_after: (
        Annotated[
            int,
            Meta(
                description="Seconds after which to send this item again. Present only if nothing was changed for it, "
                "and it may succeed later."
            ),
        ]
        | UnsetType
    ) = UNSET

    def without_alert(self) -> "Result":
        """Replace the alert by its id."""
        return self if self.alert is UNSET else replace(self, alert=UNSET, id=self.alert.id)

    def without_detail(self) -> "Result":
        """Leave out the detail of the error."""
        return self if self.error is UNSET else replace(self, error=replace(self.error, detail=None))


class BulkResults(Struct, frozen=True):
    """The results of the items, in the order of the items."""

    results: Annotated[list[Result], Meta(description="One result for each item.")]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": CREATE_RESULTS}

    def without_alerts(self) -> "BulkResults":
        """Replace each alert by its id."""
        return replace(self, results=[result.without_alert() for result in self._decoded()])

    def without_details(self) -> "BulkResults":
        """Replace each alert by its id, and leave out the details of errors: they may quote the request."""
        return replace(self, results=[result.without_alert().without_detail() for result in self._decoded()])

    def _decoded(self) -> list[Result]:
        return msgspec.json.decode(encode(self.results), type=list[Result])  # `results` may be Raw


class BulkTransitionResults(BulkResults, frozen=True):
    """The results in the order of `ids`, or those of the alerts that matched the `filter`, oldest first."""

    more: Annotated[
        bool,
        Meta(
            description="Whether to send the same request again: the filter matches more than 1,000 alerts, or some of "
            "them were changed by another request meanwhile. Always false with `ids`."
        ),
    ]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": TRANSITION_RESULTS}


class LineResult(Struct, frozen=True, kw_only=True):
    """The result of one line of an NDJSON stream."""

    status: int
    id: UUID | UnsetType = UNSET
    error: ErrorResponse | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET
