"""Swagger UI at `/docs`, from files that come with a package, under a policy without exceptions."""

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
INLINE_SCRIPT = re.compile(rb"<script[^>]*>(?P<text>.+?)</script>", re.DOTALL)
# Swagger UI styles itself by script, which a policy allows; its icons are pictures inside its style sheet.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self' {scripts}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CACHE_CONTROL = CacheControlHeader(public=True, max_age=3600)  # the files change with an upgrade only
PLUGIN = SwaggerRenderPlugin(
    path="/",
    js_url=f"{STATIC}/swagger-ui-bundle.js",
    css_url=f"{STATIC}/swagger-ui.css",
    standalone_preset_js_url=f"{STATIC}/swagger-ui-standalone-preset.js",
    style=f'<link href="{STATIC}/index.css" rel="stylesheet">',
    favicon=f'<link rel="icon" type="image/png" href="{STATIC}/favicon-32x32.png">',
)


def files() -> Router:
    """Serve Swagger UI's own files; the package is only looked for, its Python is never run."""
    folder = distribution("swagger-ui-py").locate_file("swagger_ui/static")
    return create_static_files_router(
        STATIC,
        [Path(str(folder))],
        cache_control=CACHE_CONTROL,
        include_in_schema=False,
        after_request=_read_in_pieces,
    )


def pages() -> Router:
    """Guard the page that the plugin renders."""
    return Router(
        "/docs",
        route_handlers=[],
        include_in_schema=False,
        before_request=_only_known_pages,
        after_request=_guard_page,
    )


async def _read_in_pieces(response: Any) -> Any:
    """Hold little of a file for a client that does not read it: Litestar reads files by the MiB."""
    response.chunk_size = PIECE_BYTES
    response.iterator = async_file_iterator(response.file_path, PIECE_BYTES, response.adapter)
    return response


async def _guard_page(response: Response[bytes]) -> Response[bytes]:
    """Let a page run its own scripts and no other, and stand in no other page."""
    scripts = INLINE_SCRIPT.findall(response.content)
    hashes = " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in scripts)
    response.headers["Content-Security-Policy"] = POLICY.format(scripts=hashes)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _only_known_pages(request: Request[Any, Any, Any]) -> None:
    """Answer an unknown page below `/docs` as any other unknown path: Litestar has a page of HTML for it."""
    if request.path_params:
        raise NotFoundException
