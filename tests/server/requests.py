"""Raw requests, and the error responses of the HTTP server."""

import json
from uuid import UUID

from tests.support.api import alert_body

HEAD = b"POST /alerts HTTP/1.1\r\nHost: alerts.test\r\nContent-Type: application/json\r\n"
LIVE_REQUEST = b"GET /health/live HTTP/1.1\r\nHost: alerts.test\r\n\r\n"
HEAD_TIMEOUT = (408, "Request timeout", "the request line and headers must arrive within 0.5 s")
BODY_TIMEOUT = (408, "Request timeout", "the request body must arrive within 0.5 s")
HEAD_TOO_LARGE = (431, "Head too large", "the request line and headers must not exceed 64 KiB")


def create_request(tenant: UUID, message: str) -> bytes:
    body = json.dumps(alert_body(tenant, message=message)).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
