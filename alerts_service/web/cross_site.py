"""Protection against requests that a browser sends for a page of another origin, and against DNS rebinding.

For any page, a browser sends a "simple request" (Fetch standard) without a preflight request. The `Origin` header (RFC
6454) contains the origin of the page. `Sec-Fetch-Site` (W3C Fetch Metadata) contains the relation of this origin to
the server. Other clients send neither header and are not affected
by the check of origins.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from alerts_service.errors import ApiError, CrossSiteRequest, InvalidHost

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
# DNS rebinding needs a host name, so IP addresses are safe. Health checks often use IP addresses.
ALWAYS_ALLOWED_HOSTS = r"localhost|\d{1,3}(?:\.\d{1,3}){3}|\[[\da-f:.]+\]"


class CrossSiteProtection:
    """The origins whose pages may change alerts, and the host names under which clients may reach the service."""

    def __init__(self, origins: str | None, hosts: str | None) -> None:
        """Take the settings `AS_ALERTS_CORS_ORIGINS` and `AS_ALERTS_ALLOWED_HOSTS`."""
        self._allowed_origins = frozenset(split_setting(origins))
        self._allowed_hosts = None if hosts is None else _host_pattern(split_setting(hosts))

    def rejection(self, scope: Any) -> ApiError | None:
        """Return the error for a request that must be rejected, or None."""
        if self._allowed_hosts is None and scope["method"] in SAFE_METHODS:
            return None
        origin = site = host = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"host":
                host = value
        if self._allowed_hosts is not None and host and not self._allowed_hosts.fullmatch(host):
            return InvalidHost(
                f'Host: "{_truncate(host)}" is not one of AS_ALERTS_ALLOWED_HOSTS, an IP address or localhost'
            )
        if (origin is None and site is None) or scope["method"] in SAFE_METHODS:
            return None
        return self._cross_site_error(origin, site, host or b"")

    def _cross_site_error(self, origin: bytes | None, site: bytes | None, host: bytes) -> CrossSiteRequest | None:
        """Return the error for a state-changing request of a browser, or None if the origin of the page is allowed.

        `Sec-Fetch-Site` takes precedence over comparing `Origin` with `Host`, which a reverse proxy may replace.
        """
        if origin is not None and origin.decode("latin-1") in self._allowed_origins:
            return None
        if site is not None:
            if site in {b"same-origin", b"none"}:
                return None
            return CrossSiteRequest(
                f'Sec-Fetch-Site: "{_truncate(site)}" is not one of same-origin, none, and Origin is not one of '
                "AS_ALERTS_CORS_ORIGINS"
            )
        if origin is None or _is_same_origin(origin, host):
            return None
        return CrossSiteRequest(
            f'Origin: "{_truncate(origin)}" is neither the origin of this service nor one of AS_ALERTS_CORS_ORIGINS'
        )


def split_setting(setting: str | None) -> list[str]:
    """Split a comma-separated setting. Blanks are ignored."""
    return setting.replace(" ", "").split(",") if setting else []


def sent_by_browser(headers: Headers) -> bool:
    """Return whether a request has a header that only browsers add to requests."""
    return any(name == b"origin" or name.startswith(b"sec-fetch-") for name, _ in headers)


def _is_same_origin(origin: bytes, host: bytes) -> bool:
    """Compare an origin with a Host header. A missing port is the default port of the origin's scheme."""
    scheme, _, authority = origin.lower().partition(b"://")
    port = DEFAULT_PORTS.get(scheme)
    return port is not None and authority.removesuffix(port) == host.lower().removesuffix(port)


def _host_pattern(names: Iterable[str]) -> re.Pattern[bytes]:
    """Compile a pattern for Host headers with one of `names` and any port. `*.` matches one or more labels."""
    patterns = [re.escape(name).replace(r"\*\.", r"(?:[\w-]+\.)+") for name in names]
    return re.compile(rf"(?:{'|'.join((*patterns, ALWAYS_ALLOWED_HOSTS))})\.?(?::\d+)?".encode(), re.IGNORECASE)


def _truncate(value: bytes) -> str:
    return value[:100].decode("latin-1")
