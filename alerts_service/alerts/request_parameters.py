"""Path and query parameters of the alert routes."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from alerts_service.alerts.structs import NO_NUL, Severity, Status
from alerts_service.web.openapi import comma_separated

# Swagger UI fills its form with the example of a parameter, but not with an example of the parameter's schema. Optional
# query parameters have examples in the schema only, so "Try it out" sends no filter that the reader did not choose.
AlertId = Annotated[
    UUID,
    PathParameter(
        description="The id of the alert.", schema_extra={"examples": ["0f8fad5b-d9cb-469f-a165-70867728950e"]}
    ),
]
TenantId = Annotated[
    UUID,
    QueryParameter(
        description="The tenant whose alerts to list.", examples=[Example(value="123e4567-e89b-12d3-a456-426614174000")]
    ),
]
OptionalTenantId = Annotated[
    UUID | None,
    QueryParameter(
        description="The tenant that the alert must belong to. If the alert belongs to another tenant, the response is "
        "404.",
        schema_extra={"examples": ["123e4567-e89b-12d3-a456-426614174000"]},
    ),
]
BulkTenantId = Annotated[
    UUID | None,
    QueryParameter(
        description="The tenant that the alerts must belong to. For the id of an alert of another tenant, the result "
        "has status 404. If `filter.tenant_id` is another tenant, no alert matches.",
        schema_extra={"examples": ["123e4567-e89b-12d3-a456-426614174000"]},
    ),
]
StatusFilter = Annotated[
    str | None,
    QueryParameter(
        description="List only alerts with this status, or with one of several statuses: `triggered,acknowledged`.",
        schema_extra={**comma_separated(Status), "examples": ["triggered", "triggered,acknowledged"]},
    ),
]
SeverityFilter = Annotated[
    str | None,
    QueryParameter(
        description="List only alerts of this severity, or of one of several severities: `high,critical`.",
        schema_extra={**comma_separated(Severity), "examples": ["critical", "high,critical"]},
    ),
]
RuleNameFilter = Annotated[
    str | None,
    QueryParameter(
        description="List only alerts whose `rule_name` is exactly this value, such as `missed_call`.",
        min_length=1,
        max_length=255,
        pattern=NO_NUL,
        schema_extra={"examples": ["missed_call"]},
    ),
]
CreatedAfter = Annotated[
    datetime | None,
    QueryParameter(
        description="List only alerts created at this time or later, such as `2026-01-05T09:00:00Z`. The format is RFC "
        "3339 with `Z` or an offset from UTC. In a URL, write the `+` of an offset as `%2B`.",
        schema_extra={"examples": ["2026-01-05T09:00:00Z"]},
    ),
]
CreatedBefore = Annotated[
    datetime | None,
    QueryParameter(
        description="List only alerts created before this time. The format is the same as for `created_after`.",
        schema_extra={"examples": ["2026-01-06T00:00:00Z"]},
    ),
]
SearchQuery = Annotated[
    str | None,
    QueryParameter(
        description="""List only alerts whose `rule_name` or `message` matches these search terms:

| Query | Finds alerts with |
|---|---|
| `missed call` | both words, in any order |
| `"not returned"` | the phrase |
| `fax or voicemail` | at least one of the words |
| `-test` | no occurrence of the word |

Terms match whole words in upper or lower case. For letters beyond A to Z, the locale of the database determines whether
case is ignored. Words consist of letters, digits and combining marks. Every other character separates words, so a term
such as `555-0100` is a phrase. If `q` contains no word other than `or`, the list is empty.

A page examines the next 1,000 alerts that match the other filters, or the next 200 kB of their messages, whichever ends
first. With more than eight terms, a page examines fewer alerts. A page of a search may be empty and still have a `Link`
header. The last page of the list has no `Link` header.""",
        min_length=1,
        max_length=200,
        pattern=NO_NUL,
        schema_extra={"examples": ['missed call "not returned" -test']},
    ),
]
AlertCursor = Annotated[
    str | None,
    QueryParameter(
        description="The cursor from the `Link` header of the previous page.",
        schema_extra={"examples": ["AAZHoH5TbQAPj61b2ctGn6FlcIZ3KJUO"]},
    ),
]
