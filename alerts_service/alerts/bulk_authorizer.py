"""Authorization and rate limits of the tenants that are named in a bulk request."""

from uuid import UUID

from alerts_service.errors import ApiError, Forbidden, TooManyRequests
from alerts_service.web.rate_limits import rate_limit
from alerts_service.web.requests import Request


class TenantAuthorizer:
    """Authorizes the tenants of the alerts in a bulk request, and counts the request against their rate limits.

    A JSON list is one chunk. An NDJSON stream consists of several chunks. With a token, a chunk
    counts as one request of the tenant of the token. Without a token, it counts as one request of each tenant in it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._errors: dict[UUID, ApiError | None] = {}  # by tenant of the current chunk

    def start_chunk(self) -> None:
        """Clear the tenants of the previous chunk. If the request has a token, count the new chunk for its tenant.

        Raises:
            InvalidToken: The token has expired.
            TooManyRequests: The tenant of the token has reached its rate limit.
        """
        self._request.check_token()
        self._errors.clear()
        rate_limit(self._request, None)
        if self._request.tenant is not None:
            self._errors[self._request.tenant] = None

    def error_for(self, tenant_id: UUID) -> ApiError | None:
        """Return the error that rejects the alerts of a tenant, or None.

        The error is Forbidden if the token belongs to another tenant, and TooManyRequests if the tenant has reached its
        rate limit.
        """
        if tenant_id not in self._errors:
            self._errors[tenant_id] = self._authorize(tenant_id)
        return self._errors[tenant_id]

    def _authorize(self, tenant_id: UUID) -> ApiError | None:
        if self._request.tenant is not None:
            return Forbidden()
        try:
            rate_limit(self._request, tenant_id)
        except TooManyRequests as error:
            return error.with_traceback(None)  # a traceback would form a reference cycle, see `decode_item`
        return None
