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
    """Alerts to create. Each item is validated separately, so an invalid item does not affect the other items."""

    alerts: Annotated[
        list[Raw],
        Meta(min_length=1, max_length=MAX_ITEMS, description="The alerts. Each item has the schema of `CreateAlert`."),
    ]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": CREATE_REQUESTS}
    # At run time an item may be any JSON, so that an invalid item receives a result.
    field_schema_extra: ClassVar[dict[str, Any]] = {"alerts": {"items": {"$ref": "#/components/schemas/CreateAlert"}}}


class AlertFilter(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A filter for the alerts of one tenant. An alert must match every field that is set, and allow the transition."""

    tenant_id: Annotated[UUID, Meta(description="The tenant whose alerts are selected.", examples=[EXAMPLE_TENANT])]
    status: Annotated[Status | None, Meta(description="Select only alerts with this status.")] = None
    severity: Annotated[Severity | None, Meta(description="Select only alerts with this severity.")] = None
    rule_name: Annotated[
        RuleName | None, Meta(description="Select only alerts whose `rule_name` is exactly this value.")
    ] = None
    created_after: Annotated[
        AwareDatetime | None,
        Meta(description="Select only alerts created at this time or later, in RFC 3339 with an offset."),
    ] = None
    created_before: Annotated[
        AwareDatetime | None,
        Meta(description="Select only alerts created before this time, in RFC 3339 with an offset."),
    ] = None


class BulkTransition(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Alerts to acknowledge or to resolve. Exactly one of `ids` and `filter` selects the alerts."""

    ids: (
        Annotated[
            list[Raw],
            Meta(
                min_length=1,
                max_length=MAX_ITEMS,
                description="The ids of the alerts. Each id is validated separately, so an invalid id does not affect "
                "the others.",
            ),
        ]
        | UnsetType
    ) = UNSET
    filter: (
        Annotated[AlertFilter, Meta(description="Selects the 1,000 oldest alerts that match and allow the transition.")]
        | UnsetType
    ) = UNSET
    note: Annotated[
        Note | None,
        Meta(
            description="A note to store with the transition of every alert. An empty string is a note. Null means "
            "no note."
        ),
    ] = None
    dry_run: Annotated[
        bool, Meta(description="If true, change nothing and return the results with the present state of the alerts.")
    ] = False

    schema_extra: ClassVar[dict[str, Any]] = {
        # Exactly one of `ids` and `filter`. With `oneOf`, generated Python clients would declare the body as Any.
        "if": {"required": ["ids"]},
        "then": {"not": {"required": ["filter"]}},
        "else": {"required": ["filter"]},
        "examples": TRANSITION_REQUESTS,
    }
    # At run time an id may be any JSON, so that an invalid id receives a result.
    field_schema_extra: ClassVar[dict[str, Any]] = {"ids": {"items": {"type": "string", "format": "uuid"}}}

    def __post_init__(self) -> None:
        """Require exactly one way to select alerts."""
        if (self.ids is UNSET) == (self.filter is UNSET):
            raise ValueError("must have exactly one of ids and filter")


class BulkResult(Struct, frozen=True, kw_only=True):
    """The result of one item: an `alert` or an `id` if the item succeeded, otherwise an `error`."""

    status: Annotated[
        int, Meta(description="The HTTP status of the response to a request for this item alone.", examples=[201])
    ]
    alert: Annotated[Alert, Meta(description="The alert after the request.")] | UnsetType = UNSET
    id: (
        Annotated[
            UUID,
            Meta(
                description="The id of the alert. Beyond the first 4 MiB of results, a result contains `id` in place "
                "of `alert`."
            ),
        ]
        | UnsetType
    ) = UNSET
    error: (
        Annotated[ErrorResponse, Meta(description="The body of the error response to a request for this item alone.")]
        | UnsetType
    ) = UNSET
    retry_after: (
        Annotated[
            int,
            Meta(
                description="Seconds to wait before this item is sent again. Present only if the item changed nothing "
                "and may succeed later."
            ),
        ]
        | UnsetType
    ) = UNSET

    def without_alert(self) -> "BulkResult":
        """Replace the alert by its id."""
        return self if self.alert is UNSET else replace(self, alert=UNSET, id=self.alert.id)

    def without_detail(self) -> "BulkResult":
        """Remove the detail of the error."""
        return self if self.error is UNSET else replace(self, error=replace(self.error, detail=None))


class BulkResults(Struct, frozen=True):
    """The results of the items, in the order of the items."""

    results: Annotated[list[BulkResult], Meta(description="One result for each item.")]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": CREATE_RESULTS}

    def without_alerts(self) -> "BulkResults":
        """Replace each alert by its id."""
        return replace(self, results=[result.without_alert() for result in self._decoded()])

    def without_details(self) -> "BulkResults":
        """Replace each alert by its id, and remove the details of errors, which may quote the request."""
        return replace(self, results=[result.without_alert().without_detail() for result in self._decoded()])

    def _decoded(self) -> list[BulkResult]:
        return msgspec.json.decode(encode(self.results), type=list[BulkResult])  # `results` may be Raw


class BulkTransitionResults(BulkResults, frozen=True):
    """The results. With `ids`: in the order of the ids. With `filter`: for the alerts that matched, oldest first."""

    more: Annotated[
        bool,
        Meta(
            description="True if more than 1,000 alerts match the filter, or if another request changed some of the "
            "alerts at the same time. Always false with `ids`."
        ),
    ]

    schema_extra: ClassVar[dict[str, Any]] = {"examples": TRANSITION_RESULTS}


class LineResult(Struct, frozen=True, kw_only=True):
    """The result of one line of an NDJSON stream.

    A BulkResult without `alert`. The schema of the stream is text, so the fields have no descriptions.
    """

    status: int
    id: UUID | UnsetType = UNSET
    error: ErrorResponse | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET
