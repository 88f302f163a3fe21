"""Protection against requests that a browser sends on behalf of another site, and against DNS rebinding.

A browser sends some requests of any page without asking the server first (a "simple request", Fetch standard). It says
in `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454) where such a request comes from. Clients that are not
browsers send neither header and are not affected.
"""

import re
from collections.abc import Iterable
from typing import Any

from alerts_service.errors import ApiError, Forbidden, InvalidHost

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
# DNS rebinding needs a name. A health check by address keeps working.
ALWAYS_ALLOWED_HOSTS = r"localhost|\d{1,3}(?:\.\d{1,3}){3}|\[[\da-f:.]+\]"


class CrossSiteProtection:
    """The origins whose pages may change alerts, and the host names under which clients may reach the service."""

    def __init__(self, origins: str | None, hosts: str | None) -> None:
        """Take the settings `AS_ALERTS_CORS_ORIGINS` and `AS_ALERTS_ALLOWED_HOSTS`."""
        self._origins = frozenset(_names(origins))
        self._hosts = None if hosts is None else _host_pattern(_names(hosts))

    def rejection(self, scope: Any) -> ApiError | None:
        """Return the error that answers a request, or None where it may pass."""
        if self._hosts is None and scope["method"] in SAFE_METHODS:
            return None
        origin = site = host = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"host":
                host = value
        if self._hosts is not None and host and not self._hosts.fullmatch(host):
            return InvalidHost(
                f'Host: "{_text(host)}" is not one of AS_ALERTS_ALLOWED_HOSTS, an IP address or localhost'
            )
        if (origin is None and site is None) or scope["method"] in SAFE_METHODS:
            return None
        return self._foreign(origin, site, host or b"")

    def _foreign(self, origin: bytes | None, site: bytes | None, host: bytes) -> Forbidden | None:
        """Return the error for a state-changing request of a browser, unless its page may send it.

        `Sec-Fetch-Site` is compared before `Host`, as a reverse proxy may replace the host.
        """
        if origin is not None and origin.decode("latin-1") in self._origins:
            return None
        if site is not None:
            if site in {b"same-origin", b"none"}:
                return None
            return Forbidden(
                f'Sec-Fetch-Site: "{_text(site)}" is not one of same-origin, none, and Origin is not one of '
                "AS_ALERTS_CORS_ORIGINS"
            )
        if origin is None or _is_own(origin, host):
            return None
        return Forbidden(
            f'Origin: "{_text(origin)}" is neither the origin of this service nor one of AS_ALERTS_CORS_ORIGINS'
        )


def sent_by_browser(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a request has a header that only browsers send by themselves."""
    return any(name == b"origin" or name.startswith(b"sec-fetch-") for name, _ in headers)


def _is_own(origin: bytes, host: bytes) -> bool:
    """Compare an origin with a Host header. A missing port is the default port of the origin's scheme."""
    scheme, _, authority = origin.lower().partition(b"://")
    port = DEFAULT_PORTS.get(scheme)
    return port is not None and authority.removesuffix(port) == host.lower().removesuffix(port)


def _host_pattern(names: Iterable[str]) -> re.Pattern[bytes]:
    """Match a Host header with one of `names`, where `*.` stands for one or more labels, and with any port."""
    allowed = [re.escape(name).replace(r"\*\.", r"(?:[\w-]+\.)+") for name in names]
    return re.compile(rf"(?:{'|'.join((*allowed, ALWAYS_ALLOWED_HOSTS))})\.?(?::\d+)?".encode(), re.IGNORECASE)


def _names(setting: str | None) -> list[str]:
    return setting.replace(" ", "").split(",") if setting else []


def _text(value: bytes) -> str:
    return value[:100].decode("latin-1")
