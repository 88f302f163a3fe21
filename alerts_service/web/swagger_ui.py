"""Swagger UI at `/docs`, from the files of an installed package, under a strict content security policy."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.response.file import async_file_iterator
from litestar.static_files import create_static_files_router

from alerts_service.web.responses import PIECE_BYTES

STATIC = "/docs/static"
INLINE_SCRIPT = re.compile(rb"<script[^>]*>(?P<source>.+?)</script>", re.DOTALL)
# Swagger UI sets styles by the DOM API, which style-src does not restrict. Its icons are `data:` URLs in its style
# sheet.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self' {scripts}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CACHE_CONTROL = CacheControlHeader(public=True, max_age=3600)  # the files change only when the package is upgraded
PLUGIN = SwaggerRenderPlugin(
    path="/",
    js_url=f"{STATIC}/swagger-ui-bundle.js",
    css_url=f"{STATIC}/swagger-ui.css",
    standalone_preset_js_url=f"{STATIC}/swagger-ui-standalone-preset.js",
    style=f'<link href="{STATIC}/index.css" rel="stylesheet">',
    favicon=f'<link rel="icon" type="image/png" href="{STATIC}/favicon-32x32.png">',
)


def files() -> Router:
    """Return the router of the static files of Swagger UI. The package with the files is not imported."""
    folder = distribution("swagger-ui-py").locate_file("swagger_ui/static")
    return create_static_files_router(
        STATIC,
        [Path(str(folder))],
        cache_control=CACHE_CONTROL,
        include_in_schema=False,
        after_request=_read_in_chunks,
    )


def pages() -> Router:
    """Return the router of the page that the plugin renders."""
    return Router(
        "/docs",
        route_handlers=[],
        include_in_schema=False,
        before_request=_reject_unknown_pages,
        after_request=_add_security_headers,
    )


async def _read_in_chunks(response: Any) -> Any:
    """Read a file in chunks of 64 KiB to limit the memory for a slow client. Litestar reads chunks of 1 MiB."""
    response.chunk_size = PIECE_BYTES
    response.iterator = async_file_iterator(response.file_path, PIECE_BYTES, response.adapter)
    return response


async def _add_security_headers(response: Response[bytes]) -> Response[bytes]:
    """Restrict the page to its own scripts, and prevent other pages from embedding it."""
    sources = INLINE_SCRIPT.findall(response.content)
    hashes = " ".join(f"'sha256-{b64encode(sha256(source).digest()).decode()}'" for source in sources)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.format(scripts=hashes)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _reject_unknown_pages(request: Request[Any, Any, Any]) -> None:
    """Raise 404 for an unknown path below `/docs`. Without this check, Litestar would render an HTML page."""
    if request.path_params:
        raise NotFoundException
