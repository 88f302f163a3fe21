"""Path and query parameters of the alert routes."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from alerts_service.alerts.structs import NO_NUL, Severity, Status
from alerts_service.web.openapi import comma_separated

# Swagger UI puts an example of a parameter into its form, but not an example of its schema: only a required query
# parameter has the former, so that "Try it out" sends no filters that the reader did not choose.
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
        description="The tenant that the alert must belong to. The alert of any other tenant is answered with 404.",
        schema_extra={"examples": ["123e4567-e89b-12d3-a456-426614174000"]},
    ),
]
StatusFilter = Annotated[
    str | None,
    QueryParameter(
        description="Only alerts with this status, or with one of several: `triggered,acknowledged`.",
        schema_extra={**comma_separated(Status), "examples": ["triggered", "triggered,acknowledged"]},
    ),
]
SeverityFilter = Annotated[
    str | None,
    QueryParameter(
        description="Only alerts of this severity, or of one of several: `high,critical`.",
        schema_extra={**comma_separated(Severity), "examples": ["critical", "high,critical"]},
    ),
]
RuleNameFilter = Annotated[
    str | None,
    QueryParameter(
        description="Only alerts of the rule with exactly this name: `missed_call`.",
        min_length=1,
        max_length=255,
        pattern=NO_NUL,
        schema_extra={"examples": ["missed_call"]},
    ),
]
CreatedAfter = Annotated[
    datetime | None,
    QueryParameter(
        description="Only alerts created at this time or later: `2026-01-05T09:00:00Z`. The format is RFC 3339 with "
        "`Z` or an offset from UTC. The `+` of an offset is written `%2B` in a URL.",
        schema_extra={"examples": ["2026-01-05T09:00:00Z"]},
    ),
]
CreatedBefore = Annotated[
    datetime | None,
    QueryParameter(
        description="Only alerts created before this time. Same format as `created_after`.",
        schema_extra={"examples": ["2026-01-06T00:00:00Z"]},
    ),
]
SearchQuery = Annotated[
    str | None,
    QueryParameter(
        description="""Only alerts whose rule name or message matches these search terms:

| Query | Finds alerts with |
|---|---|
| `missed call` | both words, in any order |
| `"not returned"` | the phrase |
| `fax or voicemail` | one of the words |
| `-test` | no such word |

Terms match whole words, in upper or lower case; beyond A to Z, case is ignored as far as the locale of the database
knows the letters. Words consist of letters, digits and combining marks. Every other character separates words, and a
term such as `555-0100` is a phrase. If `q` contains no letter or digit, the list is empty.

A page has the matches among the next 1,000 alerts that pass the other filters, or among the next 200 kB of their
messages. With more than eight terms, fewer alerts are examined. Such a page may be empty and still have a `Link`
header: the list ends with the page that has none.

Each process runs one search at a time. Pages with an alert of more than 4,000 bytes of text use the same queue.""",
        min_length=1,
        max_length=200,
        pattern=NO_NUL,
        schema_extra={"examples": ['missed call "not returned" -test']},
    ),
]
AlertCursor = Annotated[
    str | None,
    QueryParameter(
        description="The position at which the page begins, from the `Link` header of the previous page.",
        schema_extra={"examples": ["AAZHoH5TbQAPj61b2ctGn6FlcIZ3KJUO"]},
    ),
]
